"""Blur the retina until no lesion is visible: what a photograph without evidence looks like to perturbation methods.

Black instead of a blur would be an abnormality of its own.
"""

from __future__ import annotations

import cv2
import numpy as np

from dr_tf.fundus.enhance import field_mask

_SIGMA = 1 / 12  # of the side of the image: no lesion remains visible


def blur(image: np.ndarray) -> np.ndarray:
    """Blur the retina in an image, uint8 RGB, until no lesion is visible."""
    retina = retina_mask(image)
    blurred = blur_inside(image.astype(np.float32), retina, image.shape[0] * _SIGMA)
    return np.where(retina[..., None], blurred + 0.5, image).astype(np.uint8)


def retina_mask(image: np.ndarray) -> np.ndarray:
    """Return where an image shows the retina, bool [height, width]."""
    return field_mask(image) > 0


def blur_inside(values: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur with a Gaussian that ignores values outside the mask; the result is 0 there.

    Args:
        values: Values [height, width] or [height, width, channels].
        mask: bool [height, width].
        sigma: Standard deviation of the Gaussian in pixels.
    """
    weight = mask.astype(np.float32)
    blurred_weight = cv2.GaussianBlur(weight, (0, 0), sigma)
    if values.ndim == 3:
        weight, blurred_weight = weight[..., None], blurred_weight[..., None]
    blurred = cv2.GaussianBlur(values * weight, (0, 0), sigma)
    return blurred / np.maximum(blurred_weight, 1e-6) * weight
