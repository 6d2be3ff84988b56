"""Score the image quality of a fundus photograph: whether it can be graded, and the reason if it cannot.

Detail is measured in the green channel relative to the local mean, so that a camera's colour balance and gain do not
change the score. It is averaged over the field, so that neither a few lesions nor their absence do.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from dr_tf.fundus.enhance import Circle, check_crop, circle_or_inscribed, squared_distances

GRADABLE = 0.5
WORKING_SIDE = 256
# Detail is measured as differences between these blurs, at a radius of 128 pixels: thin vessels lie in the first band,
# the arcades in the last. With a first blur below one pixel, the score would depend on how the crop was resized.
_SIGMAS = (1.0, 1.7, 2.8, 5.6)
_VISIBLE_LEVEL, _BLOWN_OUT_LEVEL = 20, 250
_SHADOW_SHARE = 0.5  # of the mean green: darker pixels are left out of the detail
_LARGE_DETAIL = 2.0  # times the median coarse detail: stronger pixels are left out of the sharpness
# (value that scores one half, steepness), set on IDRiD's training photographs, as they are and as degraded by
# benchmarks/gradability.py.
_SHARP, _CONTRAST, _DARK, _BRIGHT = (0.545, 8), (0.0044, 4), (36, 5), (180, -12)
_FIELD_RAMP = (0.3, 0.9)


@dataclasses.dataclass(frozen=True)
class Gradability:
    """Image quality. All values are in [0, 1], and 1 is good.

    Attributes:
        score: the product of the parts, where `field` is first rescaled by a linear ramp.
        sharpness: fine detail relative to coarse detail.
        exposure: neither too dark nor too bright.
        contrast: medium detail relative to the local mean; haze lowers it.
        field: share of the circle that shows retina: not cut off, not black, not blown out.
        reason: what is wrong; "" if the score is at least GRADABLE.
    """

    score: float
    sharpness: float
    exposure: float
    contrast: float
    field: float
    reason: str


def _hill_score(value: ArrayLike, half_and_steepness: tuple[float, int]) -> np.ndarray:
    """Return Hill's curve: 0 at 0, 1/2 at `half`, towards 1 beyond. It is never flat, so worse always scores lower."""
    half, steepness = half_and_steepness
    with np.errstate(divide="ignore"):
        return 1 / (1 + (half / np.asarray(value, np.float64)) ** steepness)


def _exposure_tables() -> tuple[np.ndarray, np.ndarray]:
    grey = np.arange(256)
    dark, bright = _hill_score(grey, _DARK), _hill_score(grey, _BRIGHT)
    bright[_BLOWN_OUT_LEVEL:] = 0
    return dark, bright


_DARK_TABLE, _BRIGHT_TABLE = _exposure_tables()


def _working_copy(image: np.ndarray, circle: Circle) -> tuple[np.ndarray, Circle]:
    side = image.shape[0]
    if side <= WORKING_SIDE:
        return image, circle
    small = cv2.resize(image, (WORKING_SIDE, WORKING_SIDE), interpolation=cv2.INTER_AREA)
    cx, cy, r = (value * WORKING_SIDE / side for value in circle)
    return small, (cx, cy, r)


def _exposure_scores(image: np.ndarray, lit: np.ndarray) -> list[float]:
    """Return the mean scores of the lit pixels' brightness: not too dark, not too bright, and both."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    counts = cv2.calcHist([grey], [0], lit.view(np.uint8), [256], [0, 256]).ravel()
    total = max(1, counts.sum())
    return [float(counts @ table / total) for table in (_DARK_TABLE, _BRIGHT_TABLE, _DARK_TABLE * _BRIGHT_TABLE)]


def _blurs(plane: np.ndarray, unit: float) -> list[np.ndarray]:
    """Return `plane` blurred by each of _SIGMAS times `unit`.

    Each blur continues the one before it. The widest runs on a copy of half the size.
    """
    blurs, sigma = [plane], 0.0
    for next_sigma in _SIGMAS[:-1]:
        blurs.append(_blur(blurs[-1], unit * (next_sigma**2 - sigma**2) ** 0.5))
        sigma = next_sigma
    half = cv2.resize(blurs[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    half = _blur(half, unit * (_SIGMAS[-1] ** 2 - sigma**2) ** 0.5 / 2)
    return [*blurs[1:], cv2.resize(half, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)]


def _blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    side = 2 * math.ceil(3 * sigma) + 1  # OpenCV's default kernel reaches to 4 sigma and takes a third longer
    return cv2.GaussianBlur(plane, (side, side), sigma)


def _detail(green: np.ndarray, visible: np.ndarray, unit: float) -> tuple[float, float]:
    """Return (fine relative to coarse detail, medium detail relative to the local mean) of the visible retina."""
    weight = visible.astype(np.float32)
    # Only visible pixels are blurred: the edges of the field, of an eyelid or of padding are not detail.
    blurs = zip(_blurs(green * weight, unit), _blurs(weight, unit), strict=True)
    means = [cv2.divide(total, share) for total, share in blurs]
    # The soft edge of a shadow is not coarse detail either.
    lit = visible & (green > _SHADOW_SHARE * cv2.mean(green, visible.view(np.uint8))[0])
    inner = cv2.erode(lit.view(np.uint8), np.ones((9, 9), np.uint8))
    fine, medium, coarse = (cv2.absdiff(one, other) for one, other in itertools.pairwise(means))
    relative = cv2.mean(medium / np.maximum(means[-1], 8), inner)[0]
    # Large lesions are mostly coarse detail. Counted, they would make the most diseased eyes look out of focus.
    sample = coarse[inner.view(bool)][::4]
    is_small = coarse <= _LARGE_DETAIL * (np.median(sample) if sample.size else 0)
    inner = inner & is_small.view(np.uint8)
    return cv2.mean(fine, inner)[0] / (cv2.mean(coarse, inner)[0] + 0.03), relative


def _field_score(share: float) -> float:
    low, high = _FIELD_RAMP
    return float(np.clip((share - low) / (high - low), 0, 1))


def _reason(dark: float, bright: float, parts: Sequence[float]) -> str:
    """Return the reason of the worst part.

    Exposure and then field come first if they are bad, because they lower sharpness and contrast, too.
    """
    exposure, field, sharpness, contrast = parts
    exposure_reason = "too dark" if dark <= bright else "too bright"
    field_reason = f"only {100 * field:.0f} % of the field is visible"
    scores = {
        exposure_reason: exposure,
        field_reason: _field_score(field),
        "out of focus": sharpness,
        "hazy: low contrast": contrast,
    }
    bad = [reason for reason in (exposure_reason, field_reason) if scores[reason] < GRADABLE]
    return bad[0] if bad else min(scores, key=lambda reason: scores[reason])


def low_gradability_reason(image: np.ndarray, parts: Sequence[float]) -> str:
    """Return what is wrong with a crop whose parts are known, such as one from a record.

    Args:
        image: uint8 RGB square.
        parts: exposure, field, sharpness and contrast of its `Gradability`.
    """
    image, (cx, cy, r) = _working_copy(image, circle_or_inscribed(image, None))
    inside = squared_distances(image.shape[0], cx, cy) <= r * r
    dark, bright, _ = _exposure_scores(image, inside & (image.max(axis=2) > _VISIBLE_LEVEL))
    return _reason(dark, bright, parts)


def gradability(image: np.ndarray, circle: Circle | None = None) -> Gradability:
    """Score the image quality of a fundus crop.

    Args:
        image: uint8 RGB square.
        circle: the border of the retina, as in `dr_tf.fundus.enhance`.
    """
    check_crop(image)
    image, (cx, cy, r) = _working_copy(image, circle_or_inscribed(image, circle))
    inside = squared_distances(image.shape[0], cx, cy) <= r * r
    red, green, blue = cv2.split(image)
    brightest = cv2.max(red, cv2.max(green, blue))
    visible = inside & (brightest > _VISIBLE_LEVEL) & (green < _BLOWN_OUT_LEVEL)
    dark, bright, exposure = _exposure_scores(image, inside & (brightest > _VISIBLE_LEVEL))
    field = float(np.count_nonzero(visible) / max(1, int(np.count_nonzero(inside))))
    fine, relative = _detail(green, visible, r / (WORKING_SIDE / 2))
    sharpness, contrast = float(_hill_score(fine, _SHARP)), float(_hill_score(relative, _CONTRAST))
    score = exposure * _field_score(field) * sharpness * contrast
    reason = "" if score >= GRADABLE else _reason(dark, bright, (exposure, field, sharpness, contrast))
    return Gradability(score, sharpness, exposure, contrast, field, reason)
