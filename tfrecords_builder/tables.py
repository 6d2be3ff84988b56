"""Read a label table as people save it: any common separator, byte-order mark, odd spaces, empty columns and rows.

Tables of Excel (.xlsx) are read, too, where openpyxl is there.
"""

import csv
import io
import pathlib
import re

from dr_tf.console import UserError

_SEPARATORS = ",;\t"


def read_table(path, *, required=()):
    """The rows of a csv file as dicts of stripped text; `required` columns are checked, in any case of letters."""
    return [row for _, row in numbered_rows(path, required=required)]


def labelled_lines(path):
    """(number, name, label) of a text of "NAME LABEL" lines; a name may hold spaces, a label that is not there is ""."""
    lines = [(number, line.strip()) for number, line in enumerate(_text(pathlib.Path(path)).splitlines(), start=1)]
    if not any(line for _, line in lines):
        raise UserError(f"{path} is empty")
    return [(number, *[*line.rsplit(maxsplit=1), ""][:2]) for number, line in lines if line]


def numbered_rows(path, *, required=()):
    """(number, row) pairs; the number is the one that a spreadsheet shows, where the header is row 1."""
    path = pathlib.Path(path)
    rows = _cells(path)
    if not rows:
        raise UserError(f"{path} is empty")
    _, names = rows[0]
    if len({n for n in names if n}) < len([n for n in names if n]):
        raise UserError(f"{path} names a column twice: {', '.join(names)}")
    places = {column: _place(path, names, column) for column in required}
    if len(rows) == 1:
        raise UserError(f"{path} has a header but no rows")
    return [(number, _row(names, places, row)) for number, row in rows[1:]]


def _cells(path):
    rows = _excel_cells(path) if path.suffix.lower() == ".xlsx" else _text_cells(path)
    return [(number, row) for number, row in rows if any(row)]


def _text_cells(path):
    text = _text(path)
    # Not splitlines(): it also cuts at characters that stand inside cells, and joins the lines of a quoted cell.
    # Strict: a quote that nobody closes would take the rows up to the next one, or to the end, into one cell.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    rows, line = [], 1
    try:
        for number, row in enumerate(reader, start=1):
            rows.append((number, [cell.strip() for cell in row]))
            line = reader.line_num + 1
        return rows
    except csv.Error as error:
        why = f"the row that begins in line {line}: {error}; is a quote not closed?"
        raise UserError(f"{path} cannot be read as a table: {why}") from None


def _excel_cells(path):
    """The first sheet, each cell as the text that it would be in a csv file."""
    data = _bytes(path)
    try:
        import openpyxl
    except ImportError:
        raise UserError(f"{path} is a table of Excel; to read it: pip install 'dr_tf[excel]'") from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some programs store too small ones, and rows beyond them would be left out
        return [(i, [_plain_text(v) for v in row]) for i, row in enumerate(sheet.iter_rows(values_only=True), start=1)]
    except Exception as error:  # a damaged one fails in many ways: zip, XML, missing parts
        raise UserError(f"{path} cannot be read as a table of Excel: {error}") from None


def _plain_text(value):
    if value is None:
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _place(path, names, column):
    """Where `column` stands: as it is written, or else in any case of letters."""
    lower = [name.lower() for name in names]
    if column in names:
        return names.index(column)
    if column and column.lower() in lower:
        return lower.index(column.lower())
    raise UserError(f"{path} has no column {column!r}; it has: {', '.join(name for name in names if name)}")


def _row(names, places, cells):
    cells = cells + [""] * (len(names) - len(cells))
    return dict(zip(names, cells, strict=False)) | {column: cells[place] for column, place in places.items()}


def _bytes(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _text(path):
    data = _bytes(path)
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is not a text table")
    for encoding in ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{path} is not a text table")


def _separator(text):
    header = next((line for line in text.splitlines() if line.strip()), "")
    header = re.sub(r'"[^"]*"', "", header)  # a quoted name may hold any of them
    return max(_SEPARATORS, key=header.count)


def write_csv(path, header, rows):
    # A file's name may hold bytes that are no UTF-8.
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


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
