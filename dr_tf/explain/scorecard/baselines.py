"""Baselines: maps that do not depend on the network. A useful method has to score better than they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from dr_tf.explain.blurring import blur_inside, retina_mask


def random_maps(images: np.ndarray, *, side: int = 8, seed: int = 0) -> np.ndarray:
    """Draw uniform noise at the usual resolution of a feature map.

    Args:
        images: Images [n, height, width, 3].
        side: Side of the maps.
        seed: Seed of the noise.

    Returns:
        Maps float32 [n, side, side].
    """
    return np.random.default_rng(seed).uniform(0, 1, (len(images), side, side)).astype(np.float32)


def contrast_maps(images: np.ndarray) -> np.ndarray:
    """Compute the local contrast of the green channel, which marks vessels, the optic disc and lesions alike.

    Args:
        images: uint8 RGB [n, side, side, 3].

    Returns:
        Maps float32 [n, side, side].
    """
    return np.stack([_local_contrast(image) for image in images])


def _local_contrast(image):
    side = image.shape[0]
    green, retina = image[..., 1].astype(np.float32), retina_mask(image)
    surround = blur_inside(green, retina, side / 16)
    # Without erosion the border of the retina would have the strongest contrast.
    inner = cv2.erode(retina.astype(np.uint8), np.ones((side // 16, side // 16), np.uint8))
    contrast = cv2.GaussianBlur(np.abs(green - surround) * inner, (0, 0), side / 64)
    return contrast / max(float(contrast.max()), 1e-6)


def maps_by_eye(
    baseline: Callable[..., np.ndarray], images: Mapping[str | None, np.ndarray], **options: Any
) -> dict[str | None, np.ndarray]:
    """Compute a baseline for {eye: images}. All eyes are computed at once, so that their noise differs.

    Args:
        baseline: A function in `BASELINES`.
        images: {eye: images}.
        **options: Options of the baseline.

    Returns:
        {eye: maps}.
    """
    maps = baseline(np.concatenate(list(images.values())), **options)
    return dict(zip(images, np.split(maps, len(images)), strict=True))


# Name, as in tables -> function of images that returns maps.
BASELINES: dict[str, Callable[..., np.ndarray]] = {"random map": random_maps, "local contrast": contrast_maps}
