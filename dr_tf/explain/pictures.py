"""The photograph beside what the network saw in it, as one picture; and many of them on a contact sheet."""

import cv2
import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.explain.overlay import COLORMAPS, key, mixed, on_original
from dr_tf.fundus.decode import decode

PANELS = ("photograph", *COLORMAPS)
_LONGER = 720  # pixels of a panel's longer side
_LINE, _INK, _PAPER = 24, (235, 235, 235), 24
_A_KEY = 100  # pixels that one needs
_THUMB, _ROW = 190, 4


def shown(data, longer=_LONGER):
    """The photograph of these bytes, upright, no larger than that."""
    rgb = decode(data, side=longer).rgb
    scale = longer / max(rgb.shape[:2])
    return cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else rgb


def panels(photograph, map, geometry):
    """The photograph and an overlay by each of the colormaps."""
    placed = on_original(map, geometry, width=photograph.shape[1])[: photograph.shape[0]]
    return [photograph, *(mixed(photograph, placed, colormap) for colormap in COLORMAPS)]


def keys(width, said):
    """What stands below the panels: what is said of the colours, and what each of the colormaps means."""
    return np.hstack([_words(said, width, size=0.4), *(_key(colormap, width) for colormap in COLORMAPS)])


def _key(colormap, width):
    if width < _A_KEY:
        return _words("", width)
    strip, start, end = _words("none", width, size=0.4), 42, width - 32
    strip[9 : _LINE - 9, start:end] = key(colormap, end - start)
    return cv2.putText(strip, "full", (end + 4, _LINE - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)


def side_by_side(pictures, lines, *, size=0.5, below=None):
    """uint8 RGB: pictures of one size in a row, a strip of their width `below` it, and lines of words."""
    row = np.hstack(pictures)
    strips = [] if below is None else [below]
    return np.vstack([row, *strips, *(_words(line, row.shape[1], size) for line in lines)])


class Sheet:
    """Tiles of photograph and overlay, each over a line of words."""

    def __init__(self):
        self._tiles = []

    def add(self, photograph, overlaid, line):
        """Pictures that there are none of stay black."""
        both = np.hstack([_thumb(photograph), _thumb(overlaid)])
        self._tiles.append(np.vstack([both, _words(line, both.shape[1], size=0.4)]))

    def write(self, path):
        rows = [np.hstack(self._row(start)) for start in range(0, len(self._tiles), _ROW)]
        write_jpeg(path, np.vstack(rows))

    def _row(self, start):
        columns = min(_ROW, len(self._tiles))
        tiles = [_framed(tile) for tile in self._tiles[start : start + columns]]
        return tiles + [np.full_like(tiles[0], _PAPER)] * (columns - len(tiles))


def _framed(tile):
    return cv2.copyMakeBorder(tile, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3)


def _thumb(picture):
    square = np.zeros((_THUMB, _THUMB, 3), np.uint8)
    if picture is None:
        return square
    scale = _THUMB / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    above, before = (_THUMB - small.shape[0]) // 2, (_THUMB - small.shape[1]) // 2
    square[above : above + small.shape[0], before : before + small.shape[1]] = small
    return square


def _words(text, width, size=0.5):
    strip = np.full((_LINE, width, 3), _PAPER, np.uint8)
    plain = text.encode("ascii", "replace").decode()  # all that OpenCV's font has
    return cv2.putText(strip, plain, (5, _LINE - 7), cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)


def write_jpeg(path, picture, quality=90):
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise UserError(f"{path} cannot be drawn: {picture.shape[1]} x {picture.shape[0]} pixels are too many")
    with files.appearing(path) as unfinished:
        unfinished.write_bytes(data.tobytes())
