"""Maps that know nothing of the network: what a method has to be better than."""

import cv2
import numpy as np

from dr_tf.fundus.enhance import field_mask


def random_maps(photographs, *, side=8, seed=0):
    """Noise of as few places as a map of the network usually has."""
    return np.random.default_rng(seed).uniform(0, 1, (len(photographs), side, side)).astype(np.float32)


def contrast_maps(photographs):
    """How much green differs from its surroundings: vessels, the optic disc, lesions, all alike."""
    return np.stack([_contrast(photograph) for photograph in photographs])


def _contrast(photograph):
    size = photograph.shape[0]
    green, field = photograph[..., 1].astype(np.float32), retina(photograph)
    around = inside_blur(green, field, size / 16)
    # The border itself would be the strongest contrast.
    kept = cv2.erode(field.astype(np.uint8), np.ones((size // 16, size // 16), np.uint8))
    contrast = cv2.GaussianBlur(np.abs(green - around) * kept, (0, 0), size / 64)
    return contrast / max(float(contrast.max()), 1e-6)


def of_eyes(floor, photographs, **options):
    """{eye: maps} of {eye: photographs}: all of them at once, as noise would else be the same in both eyes."""
    maps = floor(np.concatenate(list(photographs.values())), **options)
    return dict(zip(photographs, np.split(maps, len(photographs)), strict=True))


def retina(photograph):
    """Bool: where the photograph shows the retina."""
    return field_mask(photograph) > 0


def inside_blur(values, field, sigma):
    """A Gaussian blur into which nothing comes from beyond the field."""
    weight = field.astype(np.float32)
    weight = weight if values.ndim == 2 else weight[..., None]
    share = cv2.GaussianBlur(field.astype(np.float32), (0, 0), sigma)
    blurred = cv2.GaussianBlur(values * weight, (0, 0), sigma)
    return blurred / np.maximum(share if values.ndim == 2 else share[..., None], 1e-6) * weight


BASELINES = {"random map": random_maps, "local contrast": contrast_maps}
