"""Any data set with a label table beside its images: read the table, with its columns named by flags."""

import argparse
import pathlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dr_tf.console import UserError
from dr_tf.grades import EYES, SEXES
from dr_tf.image_files import SUFFIXES
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import (
    find_images,
    image_id_of,
    parse_class_order,
    parse_split,
    require_path,
)
from tfrecords_builder.samples import Listing, Rejection, make_sample
from tfrecords_builder.tables import parse_whole_number, read_numbered_rows

TREE = """\
  SOURCE/…/*.jpg          images, in folders of any depth
  LABELS.csv              one row per image"""

ABOUT = f"""\
Any table of labels beside images. The image column contains a path below SOURCE, with or without its extension, or a
file name that occurs only once below SOURCE.

{TREE}

Example:
  python -m tfrecords_builder csv --source photos --labels labels.csv --name clinic --records records \\
    --image_column file --grade_column icdr --patient_column patient"""

# The fields that a flag --FIELD_column can name, by type.
_NUMBERS = ("grade", "dme", "any_dr", "age")
_TEXTS = ("patient", "eye", "sex", "source", "camera", "split")
_SAMPLE_FIELDS = {"patient": "patient_id"}  # where the name of the flag and of the sample's field differ
_EYES = {"l": "left", "os": "left", "r": "right", "od": "right", **{e: e for e in EYES}}
_SEXES = {"f": "female", "m": "male", "w": "female", **{s: s for s in SEXES}}
_COLUMN_HELP = {
    "grade": "ICDR grade 0-4, or a name in --classes",
    "dme": "risk of diabetic macular edema 0-2",
    "any_dr": "1 for any diabetic retinopathy, 0 for none",
    "age": "age in years",
    "patient": "identifies the patient, who is then in one split only",
    "eye": f"one of {', '.join(_EYES)}",
    "sex": f"one of {', '.join(_SEXES)}",
    "source": "clinic or data set that the image is from; splits are balanced by it",
    "camera": "camera model",
    "split": "published split: train, validation, calibration or test",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this layout."""
    parser.add_argument(
        "--labels", required=True, help="the label table: csv with , ; or tab, or .xlsx", metavar="FILE"
    )
    parser.add_argument("--name", required=True, help="name of the record set")
    parser.add_argument("--image_column", required=True, metavar="COLUMN", help="path or file name of the image")
    for field in (*_NUMBERS, *_TEXTS):
        parser.add_argument(f"--{field}_column", metavar="COLUMN", help=_COLUMN_HELP[field])
    parser.add_argument(
        "--classes", help="texts in the grade column that mean grade 0 to 4, separated by commas", metavar="A,B,…"
    )


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of the label table."""
    require_path(source, "folder", TREE)
    columns = {field: getattr(flags, f"{field}_column") for field in ("image", *_NUMBERS, *_TEXTS)}
    columns = {field: column for field, column in columns.items() if column}
    if not {"grade", "any_dr", "dme"} & set(columns):
        raise UserError("name at least one label: --grade_column, --any_dr_column or --dme_column")
    rows = read_numbered_rows(flags.labels, required=tuple(columns.values()))
    classes = [name.lower() for name in parse_class_order(flags.classes, "grade")] if flags.classes else None
    paths, rejections = find_images(source)
    find = image_finder(source, paths)
    samples = []
    for number, row in rows:
        cells = {field: row[column] for field, column in columns.items()}
        name = cells.pop("image") or f"row {number}"
        try:
            path = find(name)
            samples.append(make_sample(image_id=image_id_of(source, path), path=path, **parse_cells(cells, classes)))
        except ValueError as error:
            rejections.append(Rejection(name, f"{pathlib.Path(flags.labels).name}, row {number}", str(error)))
    return Listing(samples, rejections)


def image_finder(source: pathlib.Path, paths: Sequence[pathlib.Path]) -> Callable[[str], pathlib.Path]:
    """Return a function that finds the file of a cell: its path below the source, or the only file with its name."""
    by_path: dict[str, pathlib.Path] = {}
    by_name: dict[str, set[pathlib.Path]] = {}
    for path in paths:
        relative = path.relative_to(source)
        by_path[_normalized(relative.as_posix())] = path
        for name in {relative.as_posix(), relative.with_suffix("").as_posix(), path.name, path.stem}:
            by_name.setdefault(_normalized(name).lower(), set()).add(path)

    def find(cell: str) -> pathlib.Path:
        name = _normalized(cell.replace("\\", "/").removeprefix("./"))
        paths = {by_path[name]} if name in by_path else by_name.get(name.lower(), set())
        if len(paths) == 1:
            return next(iter(paths))
        if paths:
            names = sorted(image_id_of(source, path) for path in paths)
            raise ValueError(f"{len(paths)} files have this name: {', '.join(names[:3])}")
        raise ValueError(f"no image of this name below the source (extensions: {', '.join(SUFFIXES)})")

    return find


def _normalized(name):
    """Compose characters: macOS stores "é" as two characters where a table has one."""
    return unicodedata.normalize("NFC", name)


def parse_cells(cells: Mapping[str, str], classes: Sequence[str] | None) -> dict[str, Any]:
    """Return the fields of a sample from the cells of its row, {field: text}.

    Args:
        cells: The cells of a row.
        classes: Texts that mean grade 0 to 4, in small letters; None for numbers.

    Raises:
        ValueError: A cell has an unknown value.
    """
    fields: dict[str, Any] = {}
    for field, text in cells.items():
        if field == "grade" and classes:
            fields[field] = _parse_class(text, classes)
        elif field in _NUMBERS:
            fields[field] = parse_whole_number(text, field, absent=-1)
        elif field == "split":
            fields[field] = parse_split(text)
        elif field in ("eye", "sex"):
            fields[field] = _parse_word(text, field, _EYES if field == "eye" else _SEXES)
        else:
            fields[_SAMPLE_FIELDS.get(field, field)] = text
    return fields


def _parse_class(text, classes):
    if text and text.lower() not in classes:
        raise ValueError(f"unknown grade {text!r}; --classes names {', '.join(classes)}")
    return classes.index(text.lower()) if text else -1


def _parse_word(text, field, known):
    if text and text.lower() not in known:
        raise ValueError(f"unknown {field} {text!r}; known: {', '.join(known)}")
    return known.get(text.lower(), "")


LAYOUT = Layout("any label table, with its columns named by flags", ABOUT, read, add_flags, lambda flags: flags.name)
