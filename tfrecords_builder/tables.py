"""Read label tables: csv files as people save them (any separator, encoding and line end) and Excel files (.xlsx)."""

import csv
import io
import pathlib
import re
from collections.abc import Iterable, Sequence

from dr_tf.console import UserError
from dr_tf.safe_names import csv_cell, printable

_SEPARATORS = ",;\t"


def read_table(path: str | pathlib.Path, *, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read the rows of a table as dicts of stripped text.

    Args:
        path: A csv file with , ; or tab as its separator, or an .xlsx file.
        required: Columns that must exist. A difference in case is accepted, and each row has the names given here.

    Raises:
        UserError: The file cannot be read as a table, has no rows, or lacks a column.
    """
    return [row for _, row in read_numbered_rows(path, required=required)]


def read_numbered_rows(path: str | pathlib.Path, *, required: Sequence[str] = ()) -> list[tuple[int, dict[str, str]]]:
    """Read the rows of a table with their numbers, as `read_table` does.

    Returns:
        (number, row) pairs. The numbers are those that a spreadsheet shows: the header is row 1.
    """
    path = pathlib.Path(path)
    rows = _cells(path)
    if not rows:
        raise UserError(f"{path} is empty")
    _, names = rows[0]
    if len({n for n in names if n}) < len([n for n in names if n]):
        raise UserError(f"{path} names a column twice: {', '.join(map(printable, names))}")
    indices = {column: _column_index(path, names, column) for column in required}
    if len(rows) == 1:
        raise UserError(f"{path} has a header but no rows")
    return [(number, _row(names, indices, cells)) for number, cells in rows[1:]]


def read_label_lines(path: str | pathlib.Path) -> list[tuple[int, str, str]]:
    """Read a text file whose lines are "NAME LABEL".

    Returns:
        (line number, name, label) of each line that is not blank. A name may contain spaces. A missing label is "".

    Raises:
        UserError: The file cannot be read or is empty.
    """
    lines = [(number, line.strip()) for number, line in enumerate(_text(pathlib.Path(path)).splitlines(), start=1)]
    if not any(line for _, line in lines):
        raise UserError(f"{path} is empty")
    parts = [(number, [*line.rsplit(maxsplit=1), ""]) for number, line in lines if line]
    return [(number, name, label) for number, (name, label, *_) in parts]


def _cells(path):
    rows = _excel_cells(path) if path.suffix.lower() == ".xlsx" else _csv_cells(path)
    return [(number, row) for number, row in rows if any(row)]


def _csv_cells(path):
    text = _text(path)
    # Not splitlines(): it also splits at characters that occur inside cells, and breaks quoted cells of several lines.
    # Strict: an unclosed quote would otherwise swallow rows, up to the next quote or to the end of the file.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    rows, line = [], 1
    try:
        for number, row in enumerate(reader, start=1):
            rows.append((number, [cell.strip() for cell in row]))
            line = reader.line_num + 1
        return rows
    except csv.Error as error:
        reason = f"the row that begins in line {line}: {error}; is a quote not closed?"
        raise UserError(f"{path} cannot be read as a table: {reason}") from None


def _excel_cells(path):
    """The cells of the first sheet, each as the text that it would be in a csv file."""
    data = _bytes(path)
    try:
        import openpyxl
    except ImportError:
        raise UserError(f"{path} is an Excel file; to read it: pip install 'dr_tf[excel]'") from None
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # some programs store dimensions that are too small, and rows beyond would be lost
        rows = enumerate(sheet.iter_rows(values_only=True), start=1)
        return [(number, [_cell_text(value) for value in row]) for number, row in rows]
    except Exception as error:  # a damaged file fails in many ways: zip, XML, missing parts
        raise UserError(f"{path} cannot be read as an Excel file: {error}") from None


def _cell_text(value):
    if value is None:
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _column_index(path, names, column):
    """The index of the column with exactly this name, or else of one that differs only in case."""
    lower = [name.lower() for name in names]
    if column in names:
        return names.index(column)
    if column and column.lower() in lower:
        return lower.index(column.lower())
    raise UserError(f"{path} has no column {column!r}; it has: {', '.join(printable(name) for name in names if name)}")


def _row(names, indices, cells):
    cells = cells + [""] * (len(names) - len(cells))
    return dict(zip(names, cells, strict=False)) | {column: cells[index] for column, index in indices.items()}


def _bytes(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _text(path):
    data = _bytes(path)
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in data[:4096] and not is_utf16:
        raise UserError(f"{path} is not a text table")
    for encoding in ("utf-16",) if is_utf16 else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{path} is not a text table")


def _separator(text):
    header = next((line for line in text.splitlines() if line.strip()), "")
    header = re.sub(r'"[^"]*"', "", header)  # a quoted column name may contain any separator
    return max(_SEPARATORS, key=header.count)


def write_csv(path: str | pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a csv file in UTF-8. Every text becomes a `csv_cell`, so that a row is one line and no cell a formula."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(map(csv_cell, row) for row in (header, *rows))


def parse_whole_number(text: str, name: str, *, absent: int) -> int:
    """Parse a cell as an int. "2.0" is 2.

    Args:
        text: The cell.
        name: The name of the value, for the error message.
        absent: Returned for an empty cell.

    Raises:
        ValueError: The text is not a whole number.
    """
    if text == "":
        return absent
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"unknown {name} {text!r}") from None
    if not value.is_integer():
        raise ValueError(f"unknown {name} {text!r}")
    return int(value)
