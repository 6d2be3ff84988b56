"""Decide whether an image is a fundus photograph at all, and give the reason if it is not.

The rules are hand-set thresholds on colour and texture inside the border, each with a reason that a person
understands. They were set on 3,456 fundus photographs (IDRiD and part of ODIR) against drawings and everyday pictures.
Hazy, dark and diseased eyes pass: whether a photograph is good enough is decided by `gradability`.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from dr_tf.fundus.border import Border, inside, shrink

_GREYSCALE_COLOUR = 0.03  # difference of the brightest and darkest channel as a share of the brightest
_DARK_OFFSET = 8  # grey levels added before ratios, so that those of dark pixels stay finite


@dataclasses.dataclass(frozen=True)
class ImageStatistics:
    """Colour and texture inside the border, measured on a copy of at most 256 pixels a side.

    Attributes:
        area: share of the frame inside the border.
        colour: mean difference between a pixel's brightest and darkest channel, in grey levels.
        warm: share of pixels with red >= green >= blue, within 6 grey levels.
        colour_spread: standard deviations of log(red / green) and log(green / blue).
        shading: standard deviation of log brightness.
        edges: median, 90th and 99th percentile of the gradient relative to the brightness.
        vessels: 99th percentile of the black-hat transform of green (thin dark structures), relative to green.
    """

    area: float
    colour: float
    warm: float
    colour_spread: tuple[float, float]
    shading: float
    edges: tuple[float, float, float]
    vessels: float


def not_fundus_reason(rgb: np.ndarray, border: Border, working_copy: tuple[np.ndarray, float] | None = None) -> str:
    """Return why an image is not a fundus photograph, or "" if it may be one.

    Args:
        rgb: uint8 [height, width, 3].
        border: the border found on `rgb`.
        working_copy: `shrink(rgb)`, if the caller has computed it already.
    """
    small, scale = working_copy or shrink(rgb)
    statistics = image_statistics(small, scale, border)
    if statistics is None or statistics.area < 0.08:
        return "nothing on it is large enough to be a retina"
    rules = _COLOUR_RULES if statistics.colour >= 8 else _GREY_RULES
    return next(
        (reason for is_violated, reason in (*rules, *_COMMON_RULES) if is_violated(statistics, border.roundness)), ""
    )


def is_greyscale(border: Border, small: np.ndarray, scale: float) -> bool:
    """Return whether the retina is greyscale or red-free; `small` and `scale` are the results of `shrink`.

    On 3,456 photographs of IDRiD and ODIR, however dark, the channels differ by at least a tenth of the brightness. The
    tint that JPEG compression gives to grey pixels is below a hundredth.
    """
    pixels = small[_interior(border.scaled(scale), small.shape)]
    brightest = pixels.max(1, initial=0).astype(np.float32)
    return float((brightest - pixels.min(1, initial=255)).sum()) < _GREYSCALE_COLOUR * float(brightest.sum())


def image_statistics(small: np.ndarray, scale: float, border: Border) -> ImageStatistics | None:
    """Measure an image on its reduced copy `small`, `scale` times as large; None if hardly any pixel is inside."""
    border = border.scaled(scale)
    mask = _interior(border, small.shape)
    if mask.sum() < 200:
        return None
    channels = cv2.split(small)
    # A quarter of the pixels is enough for the colours.
    sampled = np.ascontiguousarray(mask[::2, ::2])
    red, green, blue = (channel[::2, ::2][sampled].astype(np.float32) + _DARK_OFFSET for channel in channels)
    log_red, log_green, log_blue = np.log(red), np.log(green), np.log(blue)
    brightness = cv2.transform(small.astype(np.float32), np.full((1, 3), 1 / 3)) + _DARK_OFFSET / 2
    slope = cv2.magnitude(cv2.Sobel(brightness, -1, 1, 0), cv2.Sobel(brightness, -1, 0, 1))
    gradient = (slope / 8 / np.maximum(brightness, 10))[mask][::3]  # a third of the pixels, for speed
    median_edge, strong_edge, strongest_edge = (float(v) for v in np.percentile(gradient, (50, 90, 99)))
    return ImageStatistics(
        area=float(mask.mean()),
        colour=float((np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)).mean()),
        warm=float(np.mean((red >= green - 6) & (green >= blue - 6))),
        colour_spread=(float((log_red - log_green).std()), float((log_green - log_blue).std())),
        shading=float(np.log(brightness[::2, ::2][sampled]).std()),
        edges=(median_edge, strong_edge, strongest_edge),
        vessels=_vessel_contrast(channels[1], mask),
    )


def _interior(border: Border, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask of the retina without its rim, where every photograph has its strongest edge."""
    x, y, radius = border.circle
    left, top, right, bottom = border.rectangle
    mask = inside((x, y, 0.9 * radius), shape[:2])
    frame = np.zeros_like(mask)
    frame[top + 2 : max(bottom - 2, 0), left + 2 : max(right - 2, 0)] = True
    return mask & frame


def _vessel_contrast(green: np.ndarray, mask: np.ndarray) -> float:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    thin_dark = cv2.morphologyEx(green, cv2.MORPH_BLACKHAT, kernel)
    core = cv2.erode(mask.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool)
    relative = thin_dark[core][::3] / (green[core][::3].astype(np.float32) + _DARK_OFFSET)
    return float(np.percentile(relative, 99)) if relative.size else 0.0


# Rules are (function of the statistics and the border's roundness that returns True if violated, reason).
_Rules = tuple[tuple[Callable[[ImageStatistics, float], bool], str], ...]
_ROUND = 0.8  # from this roundness on, the outline is itself evidence of a retina
_NO_OUTLINE = 0.05

_COLOUR_RULES: _Rules = (
    (lambda s, _: s.colour_spread[0] < 0.012, "it has a single colour"),
    (lambda s, roundness: s.warm < (0.55 if roundness >= _ROUND else 0.8), "its colours are not those of a retina"),
    (lambda s, _: s.colour_spread[0] > 0.6 or s.colour_spread[1] > 0.8, "it has more colours than a retina"),
    (
        lambda s, roundness: roundness < _NO_OUTLINE and s.shading < 0.05,
        "it has neither a border nor a retina's shading",
    ),
)
_GREY_RULES: _Rules = (
    (lambda _, roundness: roundness < _ROUND, "it is grey and has no round border"),
    (lambda s, _: s.shading < 0.02, "it is uniformly grey"),
    (lambda s, _: s.vessels > 0.5, "its dark lines are too strong for vessels"),
)
_COMMON_RULES: _Rules = (
    (lambda s, _: s.edges[0] < 0.001 and s.edges[2] > 0.09, "it is a drawing: plain areas with sharp edges"),
    (lambda s, _: s.edges[0] > 0.036 or s.edges[1] > 0.125, "it has too many edges for a retina"),
    (lambda s, roundness: roundness < _ROUND and s.vessels < 0.03, "it has neither a round border nor vessels"),
)
