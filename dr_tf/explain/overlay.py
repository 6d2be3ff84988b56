"""A map on the photograph that the clinic took, through the geometry of the crop that the network saw."""

import functools

import cv2
import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.enhance import field_mask

COLORMAPS = {"jet": cv2.COLORMAP_JET, "viridis": cv2.COLORMAP_VIRIDIS}
_SEEN = 0.985  # of the retina's radius: what `fundus.prepare.crop` leaves of it
_RETINA = (150, 75, 40)  # what colours of the key lie on
_OPACITY = 0.55  # at most: a reader has to see what lies beneath


def on_original(map, geometry, *, width=None):
    """The map where its crop lies on the original, or on a copy of it that is `width` wide; 0 beyond what was seen.

    Float32 [height, width], not over 1: between the few places of a map it is smooth.
    """
    scale = (width or geometry.width) / geometry.width
    size = round(geometry.width * scale), round(geometry.height * scale)
    left, top, side = (value * scale for value in geometry.square)
    step = side / map.shape[0]  # a place of the map, in pixels; both are counted from the middle of the first
    matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
    placed = cv2.warpAffine(
        np.asarray(map, np.float32), matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(placed, 0, 1) * _seen(geometry, scale, size)


def _seen(geometry, scale, size):
    """1 where the retina reached the network, with a soft edge of one pixel."""
    (x, y, radius), (left, top, right, bottom) = geometry.circle, geometry.rectangle
    across, down = ((np.arange(n, dtype=np.float32) + 0.5) / scale for n in size)
    away = np.sqrt((across - x)[None, :] ** 2 + (down - y)[:, None] ** 2)
    inside = np.clip((_SEEN * radius - away) * scale + 0.5, 0, 1)
    return inside * ((across > left) & (across < right))[None, :] * ((down > top) & (down < bottom))[:, None]


def overlay(original, map, geometry, colormap="viridis"):
    """uint8 RGB. `original`: the photograph upright, at whatever scale; `map` 0 to 1: the more, the less shines through."""
    return mixed(original, on_original(map, geometry, width=original.shape[1])[: original.shape[0]], colormap)


def overlay_on_crop(crop, map, colormap="viridis"):
    """As `overlay`, on the square that the network saw; what is no retina there stays as it is."""
    placed = cv2.resize(np.asarray(map, np.float32), crop.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return mixed(
        crop, np.clip(placed, 0, 1) * (field_mask(crop) > 0), colormap
    )  # its black is not quite black in JPEGs


def mixed(photograph, placed, colormap):
    """The photograph under the colours of `placed`, 0 to 1 [height, width]."""
    if colormap not in COLORMAPS:
        raise UserError(f"unknown colormap {colormap!r}; known: {', '.join(COLORMAPS)}")
    opacity = _OPACITY * placed.astype(np.float32)
    coloured = cv2.applyColorMap(cv2.convertScaleAbs(placed, alpha=255), _colours(colormap))
    return cv2.blendLinear(photograph, coloured, 1 - opacity, opacity)  # a page is of megapixels


def key(colormap, levels):
    """uint8 RGB [levels, 3]: how evidence looks on a retina, from none to that of full colour."""
    placed = np.linspace(0, 1, levels, dtype=np.float32)[None]
    return mixed(np.full((1, levels, 3), _RETINA, np.uint8), placed, colormap)[0]


@functools.cache
def _colours(colormap):
    """RGB of 256 levels, where OpenCV's own are BGR."""
    return cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], COLORMAPS[colormap])[..., ::-1].copy()
