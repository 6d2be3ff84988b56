"""Read a label table as people save it: any common separator, byte-order mark, odd spaces, empty columns and rows."""

import csv
import pathlib

from tfrecords_builder.samples import UserError

_SEPARATORS = ",;\t"


def read_table(path, *, required=()):
    """The rows of a csv file as dicts of stripped text; `required` columns are checked, in any case of letters."""
    path = pathlib.Path(path)
    rows = [[cell.strip() for cell in row] for row in csv.reader(_text(path).splitlines(), delimiter=_separator(path))]
    rows = [row for row in rows if any(row)]
    if not rows:
        raise UserError(f"{path} is empty")
    names = rows[0]
    if len({n for n in names if n}) < len([n for n in names if n]):
        raise UserError(f"{path} names a column twice: {', '.join(names)}")
    known = {name.lower(): name for name in names if name}
    for column in required:
        if column.lower() not in known:
            raise UserError(f"{path} has no column {column!r}; it has: {', '.join(known.values())}")
    if len(rows) == 1:
        raise UserError(f"{path} has a header but no rows")
    renamed = {known[column.lower()]: column for column in required}
    names = [renamed.get(name, name) for name in names]
    return [dict(zip(names, row + [""] * (len(names) - len(row)), strict=False)) for row in rows[1:]]


def _text(path):
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is not a text table")
    for encoding in ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{path} is not a text table")


def _separator(path):
    header = next((line for line in _text(path).splitlines() if line.strip()), "")
    return max(_SEPARATORS, key=header.count)


def whole_number(text, name, *, absent):
    """`text` as an int; "" is `absent`, "2.0" is 2, anything else is a ValueError that names the column."""
    if text == "":
        return absent
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"unknown {name} {text!r}") from None
    if not value.is_integer():
        raise ValueError(f"unknown {name} {text!r}")
    return int(value)
