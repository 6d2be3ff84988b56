"""Does a photograph show a retina at all? ModeScores with the reason when it does not.

Hand-set rules on colour and texture inside the border, each a thing that can be said to a person. They were set on
3,456 photographs (IDRiD and part of ODIR) against drawn and everyday pictures; hazy, dark and diseased eyes pass,
as telling good photographs from bad is gradability's work.
"""

import dataclasses

import cv2
import numpy as np

from dr_tf.fundus.border import inside, shrink

_COLOURLESS = 0.03  # of the brightest channel, to the darkest
_DARKEST = 8  # grey levels that keep ratios of dark pixels finite


@dataclasses.dataclass(frozen=True)
class Appearance:
    """What the rules look at, on a copy of at most 256 pixels a side."""

    area: float  # share of the frame inside the border
    colour: float  # mean distance of a pixel's brightest and darkest channel, in grey levels
    warm: float  # share of pixels with red >= green >= blue, nearly
    spread: tuple[float, float]  # deviation of log(red / green) and log(green / blue)
    shading: float  # deviation of log brightness
    edges: tuple[float, float, float]  # median, 90th and 99th percentile of the relative gradient
    vessels: float  # 99th percentile of thin darkness in green, relative


def why_no_retina(rgb, border, working_copy=None):
    """One plain reason why `rgb`, whose border was found, shows no retina; "" when it may well show one.

    `working_copy` is shrink(rgb), for a caller that has it already.
    """
    look = appearance(*(working_copy or shrink(rgb)), border)
    if look is None or look.area < 0.08:
        return "nothing on it is large enough to be a retina"
    rules = _COLOURED if look.colour >= 8 else _GREY
    return next((reason for fails, reason in (*rules, *_ANY) if fails(look, border.roundness)), "")


def without_colour(border, small, scale):
    """Whether a retina was photographed in one colour; `small` and `scale` as shrink() gives them.

    Of 3,456 photographs of IDRiD and ODIR the palest has a tenth of its brightness in its colour (a tint that JPEG gives
    to grey is none: below a hundredth), however dark they are.
    """
    seen = small[_interior(border.scaled(scale), small.shape)]
    brightest = seen.max(1, initial=0).astype(np.float32)
    return float((brightest - seen.min(1, initial=255)).sum()) < _COLOURLESS * float(brightest.sum())


def appearance(small, scale, border):
    """Of a working copy at `scale` of the photograph that the border was found on."""
    border = border.scaled(scale)
    mask = _interior(border, small.shape)
    if mask.sum() < 200:
        return None
    channels = cv2.split(small)
    # A quarter of the pixels tells colours as well as all.
    some = np.ascontiguousarray(mask[::2, ::2])
    red, green, blue = (channel[::2, ::2][some].astype(np.float32) + _DARKEST for channel in channels)
    log_red, log_green, log_blue = np.log(red), np.log(green), np.log(blue)
    light = cv2.transform(small.astype(np.float32), np.full((1, 3), 1 / 3)) + _DARKEST / 2
    slope = cv2.magnitude(cv2.Sobel(light, -1, 1, 0), cv2.Sobel(light, -1, 0, 1))
    gradient = (slope / 8 / np.maximum(light, 10))[mask][::3]  # percentiles of a third cost a third
    return Appearance(
        area=float(mask.mean()),
        colour=float((np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)).mean()),
        warm=float(np.mean((red >= green - 6) & (green >= blue - 6))),
        spread=(float((log_red - log_green).std()), float((log_green - log_blue).std())),
        shading=float(np.log(light[::2, ::2][some]).std()),
        edges=tuple(float(v) for v in np.percentile(gradient, (50, 90, 99))),
        vessels=_vessels(channels[1], mask),
    )


def _interior(border, shape):
    """Away from the rim, where every photograph has its strongest edge."""
    x, y, radius = border.circle
    left, top, right, bottom = border.rectangle
    mask = inside((x, y, 0.9 * radius), shape[:2])
    frame = np.zeros_like(mask)
    frame[top + 2 : max(bottom - 2, 0), left + 2 : max(right - 2, 0)] = True
    return mask & frame


def _vessels(green, mask):
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    thin = cv2.morphologyEx(green, cv2.MORPH_BLACKHAT, kernel)
    core = cv2.erode(mask.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool)
    relative = thin[core][::3] / (green[core][::3].astype(np.float32) + _DARKEST)
    return float(np.percentile(relative, 99)) if relative.size else 0.0


_ROUND, _UNSEEN = 0.8, 0.05  # roundness from which the outline is itself evidence; below which there is no outline

_COLOURED = (
    (lambda look, _: look.spread[0] < 0.012, "all of it is of one colour"),
    (lambda look, r: look.warm < (0.55 if r >= _ROUND else 0.8), "its colours are not those of a retina"),
    (lambda look, _: look.spread[0] > 0.6 or look.spread[1] > 0.8, "it has more colours than a retina"),
    (lambda look, r: r < _UNSEEN and look.shading < 0.05, "it has neither a border nor a retina's shading"),
)
_GREY = (
    (lambda _, r: r < _ROUND, "it is grey and has no round border"),
    (lambda look, _: look.shading < 0.02, "it is one plain grey"),
    (lambda look, _: look.vessels > 0.5, "its dark lines are too strong for vessels"),
)
_ANY = (
    (lambda look, _: look.edges[0] < 0.001 and look.edges[2] > 0.09, "it is a drawing: plain areas with sharp edges"),
    (lambda look, _: look.edges[0] > 0.036 or look.edges[1] > 0.125, "it is too full of edges for a retina"),
    (lambda look, r: r < _ROUND and look.vessels < 0.03, "it shows neither a round border nor vessels"),
)
