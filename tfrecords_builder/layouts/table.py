"""Any label table beside a folder of photographs, its columns named by flags."""

import pathlib
import unicodedata

from dr_tf.console import UserError
from dr_tf.grades import EYES
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import EXTENSIONS, class_order, image_id, photographs_in, require, split_named
from tfrecords_builder.samples import SEXES, Listing, Rejection, make_sample
from tfrecords_builder.tables import numbered_rows, whole_number

TREE = """\
  SOURCE/…/*.jpg          photographs, in folders of any depth
  LABELS.csv              one row a photograph"""

ABOUT = f"""\
Any table of labels beside photographs. The image column holds a path below SOURCE, with or without an extension,
or a file name that occurs once below it.

{TREE}

Example:
  python -m tfrecords_builder csv --source photos --labels labels.csv --name clinic --records records \\
    --image_column file --grade_column icdr --patient_column patient"""

# Flag -> what a cell of it becomes.
_NUMBERS = ("grade", "dme", "any_dr", "age")
_TEXTS = ("patient", "eye", "sex", "source", "camera", "split")
_FIELDS = {"patient": "patient_id"}
_EYES = {"l": "left", "os": "left", "r": "right", "od": "right", **{e: e for e in EYES}}
_SEXES = {"f": "female", "m": "male", "w": "female", **{s: s for s in SEXES}}


def add_flags(parser):
    parser.add_argument("--labels", required=True, help="the table: csv with , ; or tab", metavar="FILE")
    parser.add_argument("--name", required=True, help="name of the record set")
    parser.add_argument("--image_column", required=True, metavar="COLUMN")
    for field in (*_NUMBERS, *_TEXTS):
        parser.add_argument(f"--{field}_column", metavar="COLUMN")
    parser.add_argument(
        "--classes", help="texts of the grade column that mean grade 0 to 4, with commas between", metavar="A,B,…"
    )


def read(source, flags):
    require(source, "folder", TREE)
    columns = {field: getattr(flags, f"{field}_column") for field in ("image", *_NUMBERS, *_TEXTS)}
    columns = {field: column for field, column in columns.items() if column}
    if not {"grade", "any_dr", "dme"} & set(columns):
        raise UserError("name at least one label: --grade_column, --any_dr_column or --dme_column")
    rows = numbered_rows(flags.labels, required=tuple(columns.values()))
    classes = [name.lower() for name in class_order(flags.classes, "grade")] if flags.classes else None
    find = _finder(source)
    samples, rejections = [], []
    for number, row in rows:
        cells = {field: row[column] for field, column in columns.items()}
        named = cells.pop("image") or f"row {number}"
        try:
            path = find(named)
            samples.append(make_sample(image_id=image_id(source, path), path=path, **_parse(cells, classes)))
        except ValueError as error:
            rejections.append(Rejection(named, f"{pathlib.Path(flags.labels).name}, row {number}", str(error)))
    return Listing(samples, rejections)


def _finder(source):
    """A function from a cell to a file: its path below the source, or the only file of that name."""
    by_path, by_name = {}, {}
    for path in photographs_in(source):
        whole = path.relative_to(source)
        by_path[_composed(whole.as_posix())] = path
        for name in {whole.as_posix(), whole.with_suffix("").as_posix(), path.name, path.stem}:
            by_name.setdefault(_composed(name).lower(), set()).add(path)

    def find(cell):
        name = _composed(cell.replace("\\", "/").removeprefix("./"))
        found = {by_path[name]} if name in by_path else by_name.get(name.lower(), ())
        if len(found) == 1:
            return next(iter(found))
        if found:
            names = sorted(image_id(source, path) for path in found)
            raise ValueError(f"{len(found)} files are named so: {', '.join(names[:3])}")
        raise ValueError(f"no such photograph below the source (looked for {', '.join(EXTENSIONS)})")

    return find


def _composed(name):
    """A Mac writes "é" as two characters where a table has one."""
    return unicodedata.normalize("NFC", name)


def _parse(cells, classes):
    fields = {}
    for field, text in cells.items():
        if field == "grade" and classes:
            fields[field] = _class(text, classes)
        elif field in _NUMBERS:
            fields[field] = whole_number(text, field, absent=-1)
        elif field == "split":
            fields[field] = split_named(text)
        elif field in ("eye", "sex"):
            fields[field] = _word(text, field, _EYES if field == "eye" else _SEXES)
        else:
            fields[_FIELDS.get(field, field)] = text
    return fields


def _class(text, classes):
    if text and text.lower() not in classes:
        raise ValueError(f"unknown grade {text!r}; --classes names {', '.join(classes)}")
    return classes.index(text.lower()) if text else -1


def _word(text, field, known):
    if text and text.lower() not in known:
        raise ValueError(f"unknown {field} {text!r}; known: {', '.join(known)}")
    return known.get(text.lower(), "")


LAYOUT = Layout("any table of labels, columns named by flags", ABOUT, read, add_flags, lambda flags: flags.name)
