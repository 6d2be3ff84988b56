"""Pictures for the page: the map as a transparent picture over the photograph, thumbnails, and the colour scale."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from dr_tf.explain.overlay import map_on_original
from dr_tf.fundus.geometry import Geometry

_COLOURS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS)[:, 0]  # BGR
_FAINT = 0.03  # of full colour: below it the map is transparent


def map_png(values: np.ndarray, geometry: Geometry, photograph: bytes) -> bytes:
    """Draw a map as a PNG with transparency that lies exactly over the photograph.

    Args:
        values: the map of the crop, from 0 to 1.
        geometry: where the crop lies on the original.
        photograph: the JPEG of the photograph at display size.
    """
    height, width = _decoded(photograph).shape[:2]
    placed = map_on_original(values, geometry, width=width)[:height]
    picture = np.zeros((height, width, 4), np.uint8)
    rows, columns = placed.shape
    picture[:rows, :columns, :3] = _COLOURS[np.round(255 * placed).astype(np.uint8)]
    picture[:rows, :columns, 3] = np.round(255 * np.where(placed > _FAINT, placed, 0))
    return cv2.imencode(".png", picture)[1].tobytes()


def overlaid(values: np.ndarray, geometry: Geometry, photograph: bytes, opacity: float = 0.6) -> bytes:
    """Draw a map on the photograph, as a JPEG for a report."""
    image = _decoded(photograph)
    png = np.frombuffer(map_png(values, geometry, photograph), np.uint8)
    layer = np.asarray(cv2.imdecode(png, cv2.IMREAD_UNCHANGED))
    alpha = opacity * layer[..., 3:].astype(np.float32) / 255
    mixed = image * (1 - alpha) + layer[..., :3] * alpha
    return cv2.imencode(".jpg", mixed.astype(np.uint8))[1].tobytes()


def reduced(photograph: bytes, side: int) -> bytes:
    """Reduce a JPEG to at most `side` pixels on its longer side."""
    image = _decoded(photograph)
    scale = min(1.0, side / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small)[1].tobytes()


def scale_colours(steps: int = 9) -> list[str]:
    """Return the colours from no evidence to strong evidence, for a CSS gradient."""
    positions = np.linspace(0, 1, steps)
    shades = [(_COLOURS[round(255 * p)][::-1], p if p > _FAINT else 0.0) for p in positions]
    return [f"rgba({r}, {g}, {b}, {alpha:.2f})" for (r, g, b), alpha in shades]


def data_uri(picture: bytes) -> str:
    """Return a picture as a data URI, so that a page needs no other file."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


def _decoded(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
