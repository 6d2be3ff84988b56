"""Draw class-activation maps on the original image, or on the crop that the network takes."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.enhance import field_mask
from dr_tf.fundus.geometry import Geometry

COLORMAPS = {"jet": cv2.COLORMAP_JET, "viridis": cv2.COLORMAP_VIRIDIS}
_KEPT_RADIUS = 0.985  # of the retina's radius: what `fundus.prepare.crop` leaves of it
_RETINA = (150, 75, 40)  # background of the colour key
_MAX_OPACITY = 0.55  # a reader has to see what lies beneath


def map_on_original(map: np.ndarray, geometry: Geometry, *, width: int | None = None) -> np.ndarray:
    """Place a map at the position of its crop on the original image.

    Args:
        map: Map of the crop with values 0 to 1, [rows, columns].
        geometry: Position of the crop on the original.
        width: Width of the result, if it is for a resized original; by default that of the original.

    Returns:
        Float32 [height, width], interpolated smoothly; 0 outside the part of the retina that was in the crop.
    """
    scale = (width or geometry.width) / geometry.width
    size = round(geometry.width * scale), round(geometry.height * scale)
    left, top, side = (value * scale for value in geometry.square)
    step = side / map.shape[0]  # pixels per cell of the map; both are measured from the centre of the first cell
    matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
    placed = cv2.warpAffine(
        np.asarray(map, np.float32), matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(placed, 0, 1) * _visible_retina(geometry, scale, size)


def _visible_retina(geometry, scale, size):
    """1 where the retina was in the crop, with a soft edge of one pixel."""
    (x, y, radius), (left, top, right, bottom) = geometry.circle, geometry.rectangle
    xs, ys = ((np.arange(n, dtype=np.float32) + 0.5) / scale for n in size)
    distance = np.sqrt((xs - x)[None, :] ** 2 + (ys - y)[:, None] ** 2)
    inside = np.clip((_KEPT_RADIUS * radius - distance) * scale + 0.5, 0, 1)
    return inside * ((xs > left) & (xs < right))[None, :] * ((ys > top) & (ys < bottom))[:, None]


def overlay(original: np.ndarray, map: np.ndarray, geometry: Geometry, colormap: str = "viridis") -> np.ndarray:
    """Draw a map on its original image.

    Args:
        original: The original, upright, at any scale; uint8 RGB.
        map: Map of the crop with values 0 to 1. Higher values are more opaque.
        geometry: Position of the crop on the original.
        colormap: A name in `COLORMAPS`.

    Returns:
        uint8 RGB, of the size of `original`.
    """
    return blend(original, map_on_original(map, geometry, width=original.shape[1])[: original.shape[0]], colormap)


def overlay_on_crop(crop: np.ndarray, map: np.ndarray, colormap: str = "viridis") -> np.ndarray:
    """Draw a map on its crop, uint8 RGB. Pixels outside the retina do not change."""
    placed = cv2.resize(np.asarray(map, np.float32), crop.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    retina = field_mask(crop) > 0  # not `crop > 0`: black is not exactly 0 in a JPEG
    return blend(crop, np.clip(placed, 0, 1) * retina, colormap)


def blend(image: np.ndarray, placed: np.ndarray, colormap: str) -> np.ndarray:
    """Blend an image with the colours of a map of the same size.

    Args:
        image: uint8 RGB [height, width, 3].
        placed: Map with values 0 to 1, [height, width].
        colormap: A name in `COLORMAPS`.

    Raises:
        UserError: The colormap is unknown.
    """
    if colormap not in COLORMAPS:
        raise UserError(f"unknown colormap {colormap!r}; known: {', '.join(COLORMAPS)}")
    opacity = _MAX_OPACITY * placed.astype(np.float32)
    coloured = cv2.applyColorMap(cv2.convertScaleAbs(placed, alpha=255), _lookup_table(colormap))
    return cv2.blendLinear(image, coloured, 1 - opacity, opacity)  # OpenCV, as the images have megapixels


def colour_key(colormap: str, levels: int) -> np.ndarray:
    """Return the colours of evenly spaced map values on a retina, from 0 to full colour, uint8 RGB [levels, 3]."""
    placed = np.linspace(0, 1, levels, dtype=np.float32)[None]
    return blend(np.full((1, levels, 3), _RETINA, np.uint8), placed, colormap)[0]


@functools.cache
def _lookup_table(colormap):
    """256 RGB colours; OpenCV's own are BGR."""
    return cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], COLORMAPS[colormap])[..., ::-1].copy()
