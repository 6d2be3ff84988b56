"""Contact sheet of training batches: each example as recorded and as the model receives it, with its target."""

import itertools
import os
from collections.abc import Callable, Iterable

import cv2
import numpy as np

from dr_tf import files
from dr_tf.console import UserError

_TILE, _LINE, _GAP = 160, 22, 6  # pixels: side of an image, height of a line of text, margin
_TILES_PER_ROW = 8  # two for an example of one image, four for an example of both eyes
_WIDTH = _TILES_PER_ROW * _TILE + (_TILES_PER_ROW // 2) * _GAP
_BACKGROUND, _TEXT, _FAINT_TEXT = 24, (235, 235, 235), (150, 150, 150)


def draw_contact_sheet(
    path: str | os.PathLike,
    augmented: Iterable[tuple],
    originals: Iterable[tuple],
    *,
    name_of: Callable[[np.ndarray], str],
    count: int = 32,
) -> int:
    """Draw training batches beside the recorded images as a PNG.

    Args:
        path: file to write.
        augmented: batches (x, targets) as the model receives them.
        originals: the same batches without augmentation.
        name_of: text for a target.
        count: number of examples, rounded up to whole batches.

    Returns:
        The number of examples drawn.

    Raises:
        UserError: the picture is too large for a PNG, or the file cannot be written.
    """
    rows, drawn = [_text_line(_WIDTH, "each pair: left as recorded, right as the model receives it")], 0
    for number, (batch, original) in enumerate(zip(augmented, originals, strict=True), start=1):
        cells, names = _cells(batch, original, name_of)
        rows += [_text_line(_WIDTH, f"batch {number}: {_counts(names)}"), *_rows(cells)]
        drawn += len(cells)
        if drawn >= count:
            break
    _write_png(path, np.vstack(rows))
    return drawn


def _cells(batch, original, name_of):
    names = [name_of(np.asarray(target)) for target in batch[1]]
    if not np.array_equal(np.asarray(batch[1]), np.asarray(original[1])):
        raise ValueError("the augmented batches and the originals hold different examples")
    tiles = [_tiles(x[0], i) for i, x in itertools.product(range(len(names)), (original, batch))]
    pairs = zip(tiles[::2], tiles[1::2], strict=True)
    side_by_side = [[tile for eye in zip(*pair, strict=True) for tile in eye] for pair in pairs]
    return [_cell(tiles, name) for tiles, name in zip(side_by_side, names, strict=True)], names


def _tiles(x, i):
    """One tile, or one for each eye."""
    eyes = (x["left"], x["right"]) if isinstance(x, dict) else (x,)
    return [cv2.resize(np.asarray(eye[i]), (_TILE, _TILE), interpolation=cv2.INTER_AREA) for eye in eyes]


def _cell(tiles, name):
    cell = np.vstack([np.hstack(tiles), _text_line(len(tiles) * _TILE, name, _FAINT_TEXT)])
    return cv2.copyMakeBorder(cell, 0, 0, 0, _GAP, cv2.BORDER_CONSTANT, value=(_BACKGROUND,) * 3)


def _rows(cells):
    columns = _WIDTH // cells[0].shape[1]
    for start in range(0, len(cells), columns):
        row = np.hstack(cells[start : start + columns])
        yield cv2.copyMakeBorder(row, 0, 0, 0, _WIDTH - row.shape[1], cv2.BORDER_CONSTANT, value=(_BACKGROUND,) * 3)


def _text_line(width, text, colour=_TEXT):
    line = np.full((_LINE, width, 3), _BACKGROUND, np.uint8)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    ascii_only = text.encode("ascii", "replace").decode()  # OpenCV's font has no other characters
    return cv2.putText(line, ascii_only, (4, _LINE - 7), font, size, colour, 1, cv2.LINE_AA)


def _counts(names):
    return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))


def _write_png(path, picture):
    done, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise UserError(
            f"{path} cannot be drawn: {picture.shape[1]} x {picture.shape[0]} pixels are too many for a PNG; "
            "draw fewer examples"
        )
    with files.atomic_write(path) as unfinished:
        unfinished.write_bytes(png.tobytes())
