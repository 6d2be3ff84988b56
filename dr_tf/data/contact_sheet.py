"""A picture of what a config really feeds the model: batches as sampled and changed, beside the photographs as they are."""

import itertools

import cv2
import numpy as np

from dr_tf import files
from dr_tf.console import UserError

_TILE, _LINE, _GAP = 160, 22, 6
_TILES_A_ROW = 8  # two an example, four an example of both eyes
_WIDTH = _TILES_A_ROW * _TILE + (_TILES_A_ROW // 2) * _GAP
_PAPER, _INK, _FAINT = 24, (235, 235, 235), (150, 150, 150)


def draw_sheet(path, fed, originals, *, name_of, count=32):
    """Draws at least `count` examples (whole batches) as a PNG and returns how many.

    `fed` and `originals` are the same `training_batches` with and without augmentation; `name_of(target)` is what
    stands below an example.
    """
    rows, drawn = [_strip(_WIDTH, "of each two, left: as recorded, right: as the model is fed")], 0
    for number, (given, before) in enumerate(zip(fed, originals, strict=True), start=1):
        cells, names = _cells(given, before, name_of)
        rows += [_strip(_WIDTH, f"batch {number}: {_counts(names)}"), *_rows(cells)]
        drawn += len(cells)
        if drawn >= count:
            break
    _write(path, np.vstack(rows))
    return drawn


def _cells(given, before, name_of):
    names = [name_of(np.asarray(target)) for target in given[1]]
    if not np.array_equal(np.asarray(given[1]), np.asarray(before[1])):
        raise ValueError("the batches that are fed and their originals are not of the same photographs")
    tiles = [_tiles(x[0], i) for i, x in itertools.product(range(len(names)), (before, given))]
    pairs = zip(tiles[::2], tiles[1::2], strict=True)
    beside = [[tile for both in zip(*pair, strict=True) for tile in both] for pair in pairs]
    return [_cell(tiles, name) for tiles, name in zip(beside, names, strict=True)], names


def _tiles(x, i):
    """One tile, or one of each eye."""
    eyes = (x["left"], x["right"]) if isinstance(x, dict) else (x,)
    return [cv2.resize(np.asarray(eye[i]), (_TILE, _TILE), interpolation=cv2.INTER_AREA) for eye in eyes]


def _cell(tiles, name):
    cell = np.vstack([np.hstack(tiles), _strip(len(tiles) * _TILE, name, _FAINT)])
    return cv2.copyMakeBorder(cell, 0, 0, 0, _GAP, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3)


def _rows(cells):
    columns = _WIDTH // cells[0].shape[1]
    for start in range(0, len(cells), columns):
        row = np.hstack(cells[start : start + columns])
        yield cv2.copyMakeBorder(row, 0, 0, 0, _WIDTH - row.shape[1], cv2.BORDER_CONSTANT, value=(_PAPER,) * 3)


def _strip(width, text, colour=_INK):
    strip = np.full((_LINE, width, 3), _PAPER, np.uint8)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    ascii_only = text.encode("ascii", "replace").decode()  # all that OpenCV's font has
    return cv2.putText(strip, ascii_only, (4, _LINE - 7), font, size, colour, 1, cv2.LINE_AA)


def _counts(names):
    return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))


def _write(path, picture):
    done, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise UserError(
            f"{path} cannot be drawn: {picture.shape[1]} x {picture.shape[0]} pixels are too many for a PNG"
        )
    with files.appearing(path) as unfinished:
        unfinished.write_bytes(png.tobytes())
