"""Can this photograph be graded at all? A figure in [0, 1], its parts, and the reason when it is low.

Detail is read in the green channel, relative to the local mean, so that neither a camera's colour balance nor its gain
moves it, and in means over the field, so that neither a few lesions nor their absence do.
"""

import dataclasses
import itertools
import math

import cv2
import numpy as np

from dr_tf.fundus.enhance import check_crop, circle_or_inscribed, squared_distances

GRADABLE = 0.5
WORKING_SIDE = 256
# Blurs between which detail is measured, at a radius of 128 pixels: thin vessels lie in the first band, arcades in the
# last. A first blur below one pixel would make the figure depend on how the crop was resize_square.
_SIGMAS = (1.0, 1.7, 2.8, 5.6)
_VISIBLE, _BLOWN, _SHADE, _STRONG = 20, 250, 0.5, 2.0
# (value worth one half, steepness), set on IDRiD's training photographs, as they are and as benchmarks/gradability.py
# degrades them.
_SHARP, _CONTRAST, _DARK, _BRIGHT = (0.545, 8), (0.0044, 4), (36, 5), (180, -12)
_FIELD = (0.3, 0.9)


@dataclasses.dataclass(frozen=True)
class Gradability:
    """All in [0, 1], 1 is good; `score` is the product of the parts, of which `field` first goes through a ramp."""

    score: float
    sharpness: float
    exposure: float
    contrast: float
    field: float  # share of the circle that shows retina: not cut off, not black, not blown out
    reason: str  # empty where the score is at least GRADABLE


def _worth(value, half_and_steepness):
    """Hill's curve: 0 at 0, one half at `half`, towards 1 beyond; never flat, so that worse is always lower."""
    half, steepness = half_and_steepness
    with np.errstate(divide="ignore"):
        return 1 / (1 + (half / np.asarray(value, np.float64)) ** steepness)


def _exposure_tables():
    grey = np.arange(256)
    dark, bright = _worth(grey, _DARK), _worth(grey, _BRIGHT)
    bright[_BLOWN:] = 0
    return dark, bright


_DARK_TABLE, _BRIGHT_TABLE = _exposure_tables()


def _working_copy(image, circle):
    side = image.shape[0]
    if side <= WORKING_SIDE:
        return image, circle
    small = cv2.resize(image, (WORKING_SIDE, WORKING_SIDE), interpolation=cv2.INTER_AREA)
    return small, tuple(value * WORKING_SIDE / side for value in circle)


def _exposures(image, lit):
    """Mean worth of the brightness of the lit pixels: as not too dark, as not too bright, as both."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    counts = cv2.calcHist([grey], [0], lit.view(np.uint8), [256], [0, 256]).ravel()
    total = max(1, counts.sum())
    return [float(counts @ table / total) for table in (_DARK_TABLE, _BRIGHT_TABLE, _DARK_TABLE * _BRIGHT_TABLE)]


def _blurs(plane, unit):
    """`plane` blurred by each of _SIGMAS: each blur continues the one before, and the widest needs every other pixel."""
    done, sigma = [plane], 0.0
    for wanted in _SIGMAS[:-1]:
        done.append(_blur(done[-1], unit * (wanted**2 - sigma**2) ** 0.5))
        sigma = wanted
    half = cv2.resize(done[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    half = _blur(half, unit * (_SIGMAS[-1] ** 2 - sigma**2) ** 0.5 / 2)
    return [*done[1:], cv2.resize(half, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)]


def _blur(plane, sigma):
    side = 2 * math.ceil(3 * sigma) + 1  # OpenCV reaches to 4 sigma, for a third more time
    return cv2.GaussianBlur(plane, (side, side), sigma)


def _detail(green, visible, unit):
    """(fine over coarse detail, medium detail relative to the local mean), means over the visible retina."""
    weight = visible.astype(np.float32)
    # Blurs of the visible pixels alone: the edges of the field, of a lid or of a band of padding are no detail.
    blurs = zip(_blurs(green * weight, unit), _blurs(weight, unit), strict=True)
    means = [cv2.divide(total, share) for total, share in blurs]
    # The soft edge of a shadow is no coarse detail either.
    light = visible & (green > _SHADE * cv2.mean(green, visible.view(np.uint8))[0])
    inner = cv2.erode(light.view(np.uint8), np.ones((9, 9), np.uint8))
    fine, medium, coarse = (cv2.absdiff(one, other) for one, other in itertools.pairwise(means))
    relative = cv2.mean(medium / np.maximum(means[-1], 8), inner)[0]
    # Large lesions are all coarse detail: with them, the eyes most in need of a look would count as out of focus.
    some = coarse[inner.view(bool)][::4]
    inner &= (coarse <= _STRONG * (np.median(some) if some.size else 0)).view(np.uint8)
    return cv2.mean(fine, inner)[0] / (cv2.mean(coarse, inner)[0] + 0.03), relative


def _field_worth(share):
    low, high = _FIELD
    return float(np.clip((share - low) / (high - low), 0, 1))


def _reason(dark, bright, parts):
    """The worst part, but light and then field come first where they are bad: detail and contrast go with them."""
    exposure, field, sharpness, contrast = parts
    light, view = "too dark" if dark <= bright else "too bright", f"only {100 * field:.0f} % of the field is visible"
    worth = {light: exposure, view: _field_worth(field), "out of focus": sharpness, "hazy: low contrast": contrast}
    bad = [cause for cause in (light, view) if worth[cause] < GRADABLE]
    return bad[0] if bad else min(worth, key=worth.get)


def low_gradability_reason(image, parts):
    """The reason of a crop whose `parts` (exposure, field, sharpness, contrast) are known, such as those of a record."""
    image, (cx, cy, r) = _working_copy(image, circle_or_inscribed(image, None))
    inside = squared_distances(image.shape[0], cx, cy) <= r * r
    dark, bright, _ = _exposures(image, inside & (image.max(axis=2) > _VISIBLE))
    return _reason(dark, bright, parts)


def gradability(image, circle=None):
    """Of a uint8 RGB square crop; `circle` as in `dr_tf.fundus.enhance`."""
    check_crop(image)
    image, (cx, cy, r) = _working_copy(image, circle_or_inscribed(image, circle))
    inside = squared_distances(image.shape[0], cx, cy) <= r * r
    red, green, blue = cv2.split(image)
    brightest = cv2.max(red, cv2.max(green, blue))
    visible = inside & (brightest > _VISIBLE) & (green < _BLOWN)
    dark, bright, exposure = _exposures(image, inside & (brightest > _VISIBLE))
    field = float(np.count_nonzero(visible) / max(1, np.count_nonzero(inside)))
    fine, relative = _detail(green, visible, r / (WORKING_SIDE / 2))
    sharpness, contrast = float(_worth(fine, _SHARP)), float(_worth(relative, _CONTRAST))
    score = exposure * _field_worth(field) * sharpness * contrast
    reason = "" if score >= GRADABLE else _reason(dark, bright, (exposure, field, sharpness, contrast))
    return Gradability(score, sharpness, exposure, contrast, field, reason)
