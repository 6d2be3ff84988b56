"""Draw a contact sheet: originals with the detected border, beside their crops with lesions, doubtful images first."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from dr_tf.fundus.decode import decode
from dr_tf.fundus.geometry import Geometry
from dr_tf.fundus.header import BadImageError
from dr_tf.fundus.prepare import crop, crop_mask
from dr_tf.grades import ABSENT
from dr_tf.safe_names import printable
from tfrecords_builder.build import BuildReport
from tfrecords_builder.workers import map_in_order

_CELL, _CAPTION, _COLUMNS = 180, 34, 4  # side of an image and height of a caption in pixels; cells in a row
_BORDER, _RECTANGLE, _REJECTED = (60, 220, 60), (255, 170, 0), (235, 70, 60)  # colours: border, crop, rejected


@dataclasses.dataclass(frozen=True)
class Item:
    """An image on the sheet. The geometry of a rejected one is None."""

    path: pathlib.Path
    lines: tuple[str, str]
    geometry: Geometry | None = None
    masks: tuple[tuple[str, pathlib.Path], ...] = ()
    frame: int = 0


def write_contact_sheet(path: str | pathlib.Path, report: BuildReport, count: int) -> None:
    """Draw a contact sheet as PNG: rejected images first, then those with the least of the border detected.

    Args:
        path: The PNG file.
        report: The report of the build.
        count: The largest number of images to draw.
    """
    items = _choose(report, count)
    colours = _lesion_colours({lesion for item in items for lesion, _ in item.masks})
    draw = functools.partial(_draw, colours=colours)
    cells = list(map_in_order(draw, items, workers=report.plan.workers, on_crash=_blank_cell))
    blank = np.full_like(cells[0], 32)
    cells += [blank] * (-len(cells) % _COLUMNS)
    rows = [np.hstack(cells[i : i + _COLUMNS]) for i in range(0, len(cells), _COLUMNS)]
    rows += _legend(colours, rows[0].shape[1])
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished.png")
    cv2.imwrite(str(unfinished), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
    unfinished.rename(path)


def _choose(report: BuildReport, count: int) -> Sequence[Item]:
    rejected = [Item(pathlib.Path(r.path), (r.image_id, r.reason)) for r in report.rejections if os.path.isfile(r.path)]
    crops = sorted(report.crops, key=lambda c: (round(c.roundness, 2), c.gradability.score))
    accepted = [
        Item(c.sample.path, (c.sample.image_id, _caption(c)), c.geometry, c.sample.masks, c.frame)
        for c in crops
        if c.sample.path is not None
    ]
    rejected = rejected[: max(count // 3, count - len(accepted))]
    return [*rejected, *accepted][:count]


def _caption(crop):
    grade = f"grade {crop.sample.grade}" if crop.sample.grade != ABSENT else "ungraded"
    return f"{crop.sample.split}, {grade}, border {crop.roundness:.0%}, gradable {crop.gradability.score:.2f}"


def _draw(item, colours):
    try:
        image = decode(item.path.read_bytes(), side=2 * _CELL, frame=item.frame or 1)
    except (BadImageError, OSError, MemoryError, cv2.error):
        return _blank_cell(item)
    original = _thumbnail(image, item.geometry)
    if item.geometry is None:
        return _cell(original, np.full((_CELL, _CELL, 3), 16, np.uint8), item.lines, _REJECTED)
    cropped = _crop(image, item.geometry)
    for lesion, path in item.masks:
        _outline(cropped, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), item.geometry, colours[lesion])
    return _cell(original, cropped, item.lines, (230, 230, 230))


def _thumbnail(image, geometry):
    """The original with its border and crop rectangle."""
    height, width = image.rgb.shape[:2]
    scale = _CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    thumbnail = cv2.resize(image.rgb, size, interpolation=cv2.INTER_AREA)
    scale /= image.reduction
    if geometry is not None:
        left, top, right, bottom = (round(v * scale) for v in geometry.rectangle)
        cv2.rectangle(thumbnail, (left, top), (right - 1, bottom - 1), _RECTANGLE, 1)
        x, y, radius = (round(v * scale * 16) for v in geometry.circle)
        cv2.circle(thumbnail, (x - 8, y - 8), radius, _BORDER, 1, cv2.LINE_AA, shift=4)
    return _centred(thumbnail)


def _crop(image, geometry):
    """The crop of the record at the size of a cell, from a decode that may be coarser than the record's."""
    return crop(image.rgb, dataclasses.replace(geometry, size=_CELL), reduction=image.reduction)


def _outline(cropped, mask, geometry, colour):
    cell_mask = crop_mask(mask, dataclasses.replace(geometry, size=_CELL))
    contours, _ = cv2.findContours(cell_mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(cropped, contours, -1, colour, 1)


def _lesion_colours(lesions):
    """{lesion: colour}, with hues spread from green on, because red and orange are the colours of the retina."""
    if not lesions:  # OpenCV converts no empty image
        return {}
    hues = np.linspace(40, 165, len(lesions)).astype(np.uint8)
    rgb = cv2.cvtColor(np.stack([hues, np.full_like(hues, 170), np.full_like(hues, 255)], -1)[None], cv2.COLOR_HSV2RGB)
    return {lesion: tuple(map(int, colour)) for lesion, colour in zip(sorted(lesions), rgb[0], strict=True)}


def _legend(colours, width):
    if not colours:
        return []
    rows, x = [np.full((20, width, 3), 32, np.uint8)], 4
    for lesion, colour in colours.items():
        text = lesion.replace("_", " ")
        if x + 7 * len(text) > width:
            rows, x = [*rows, np.full_like(rows[0], 32)], 4
        cv2.putText(rows[-1], text, (x, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.36, colour, 1, cv2.LINE_AA)
        x += 14 + 7 * len(text)
    return rows


def _centred(thumbnail):
    cell = np.full((_CELL, _CELL, 3), 32, np.uint8)
    height, width = thumbnail.shape[:2]
    top, left = (_CELL - height) // 2, (_CELL - width) // 2
    cell[top : top + height, left : left + width] = thumbnail
    return cell


def _cell(left, right, lines, colour):
    """Two images side by side above two lines of text."""
    cell = np.full((_CELL + _CAPTION, 2 * _CELL + 12, 3), 32, np.uint8)
    cell[:_CELL, :_CELL], cell[:_CELL, _CELL + 4 : 2 * _CELL + 4] = left, right
    for i, line in enumerate(map(printable, lines)):
        text = line if len(line) <= 48 else line[:47] + "…"
        cv2.putText(cell, text, (4, _CELL + 13 + 15 * i), cv2.FONT_HERSHEY_SIMPLEX, 0.36, colour, 1, cv2.LINE_AA)
    return cell


def _blank_cell(item):
    empty = np.full((_CELL, _CELL, 3), 16, np.uint8)
    return _cell(empty, empty, item.lines, _REJECTED)
