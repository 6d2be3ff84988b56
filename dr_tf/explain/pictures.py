"""Pictures of explanations: the image beside its overlays, captions, colour keys, and contact sheets."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.explain.overlay import COLORMAPS, blend, colour_key, map_on_original
from dr_tf.fundus.decode import decode
from dr_tf.fundus.geometry import Geometry

PANELS = ("photograph", *COLORMAPS)  # titles of the panels
_LONGER_SIDE = 720  # of a panel, in pixels
_LINE_HEIGHT, _INK, _PAPER = 24, (235, 235, 235), 24
_MIN_KEY_WIDTH = 100  # in pixels
_JPEG_QUALITY = 90
_THUMBNAIL, _TILES_PER_ROW = 190, 4


def display_image(data: bytes, longer_side: int = _LONGER_SIDE, frame: int = 0) -> np.ndarray:
    """Decode an image file for display.

    Args:
        data: Content of the file.
        longer_side: The longer side of the result is at most this many pixels.
        frame: As in `ImageInfo`.

    Returns:
        uint8 RGB, upright.
    """
    rgb = decode(data, side=longer_side, frame=frame or 1).rgb
    scale = longer_side / max(rgb.shape[:2])
    return cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else rgb


def draw_panels(image: np.ndarray, map: np.ndarray, geometry: Geometry) -> list[np.ndarray]:
    """Return the panels of an image: the image itself, and its overlay in each of the colormaps.

    Args:
        image: The original at any scale, uint8 RGB.
        map: Map of the crop with values 0 to 1.
        geometry: Position of the crop on the original.
    """
    placed = map_on_original(map, geometry, width=image.shape[1])[: image.shape[0]]
    return [image, *(blend(image, placed, colormap) for colormap in COLORMAPS)]


def draw_colour_keys(width: int, caption: str) -> np.ndarray:
    """Draw the strip below the panels: a caption, and the key of each colormap. Each part is `width` pixels wide."""
    return np.hstack([_draw_line(caption, width, size=0.4), *(_draw_key(colormap, width) for colormap in COLORMAPS)])


def _draw_key(colormap, width):
    if width < _MIN_KEY_WIDTH:
        return _draw_line("", width)
    strip, start, end = _draw_line("none", width, size=0.4), 42, width - 32
    strip[9 : _LINE_HEIGHT - 9, start:end] = colour_key(colormap, end - start)
    position = (end + 4, _LINE_HEIGHT - 7)
    return cv2.putText(strip, "full", position, cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)


def side_by_side(
    pictures: Sequence[np.ndarray], lines: Sequence[str], *, size: float = 0.5, below: np.ndarray | None = None
) -> np.ndarray:
    """Draw pictures in a row, with text below.

    Args:
        pictures: Pictures of the same size, uint8 RGB.
        lines: Lines of text.
        size: Size of the text, as OpenCV takes it.
        below: A strip as wide as the row, between pictures and text.

    Returns:
        uint8 RGB.
    """
    row = np.hstack(pictures)
    strips = [] if below is None else [below]
    return np.vstack([row, *strips, *(_draw_line(line, row.shape[1], size) for line in lines)])


class ContactSheet:
    """A grid of tiles: image, overlay, and one line of text."""

    def __init__(self):
        self._tiles = []

    def add(self, image: np.ndarray | None, overlaid: np.ndarray | None, caption: str) -> None:
        """Add a tile. A picture that is None is drawn black."""
        both = np.hstack([_thumbnail(image), _thumbnail(overlaid)])
        self._tiles.append(np.vstack([both, _draw_line(caption, both.shape[1], size=0.4)]))

    def write(self, path: str | os.PathLike) -> None:
        """Write the sheet as a JPEG file."""
        starts = range(0, len(self._tiles), _TILES_PER_ROW)
        write_jpeg(path, np.vstack([np.hstack(self._row(start)) for start in starts]))

    def _row(self, start):
        columns = min(_TILES_PER_ROW, len(self._tiles))
        tiles = [_add_frame(tile) for tile in self._tiles[start : start + columns]]
        return tiles + [np.full_like(tiles[0], _PAPER)] * (columns - len(tiles))


def _add_frame(tile):
    return cv2.copyMakeBorder(tile, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3)


def _thumbnail(picture):
    square = np.zeros((_THUMBNAIL, _THUMBNAIL, 3), np.uint8)
    if picture is None:
        return square
    scale = _THUMBNAIL / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    top, left = (_THUMBNAIL - small.shape[0]) // 2, (_THUMBNAIL - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def _draw_line(text, width, size=0.5):
    strip = np.full((_LINE_HEIGHT, width, 3), _PAPER, np.uint8)
    ascii_text = text.encode("ascii", "replace").decode()  # OpenCV's font has nothing else
    position = (5, _LINE_HEIGHT - 7)
    return cv2.putText(strip, ascii_text, position, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)


def write_jpeg(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write a picture, uint8 RGB, as a JPEG file.

    Raises:
        UserError: The picture is larger than a JPEG file can be.
    """
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not done:
        width, height = picture.shape[1], picture.shape[0]
        raise UserError(f"{path} cannot be drawn: {width} x {height} pixels are too many for a JPEG file")
    with files.atomic_write(path) as unfinished:
        unfinished.write_bytes(data.tobytes())
