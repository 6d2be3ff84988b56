r"""Escape file names so that they are harmless on a terminal, on an HTML page and in a CSV table.

A file name may contain line feeds, terminal control sequences, characters that reverse the direction of writing, and bytes
that are not UTF-8 (Python stores these as surrogates). `printable` writes each as an escape; `unescape` restores the name:

    \x0a              a character below 128
    \xff              a byte that is not UTF-8, 128 to 255
    \u202e \U000e0001 any other character
    \\                a backslash, where it is not the path separator
"""

import csv
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

_ESCAPE_BACKSLASH = os.sep != "\\"  # whether a backslash may be part of a name
_ESCAPE = re.compile(r"\\(?:\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_FORMULA_STARTS = "=+-@"
_TEXT_MARK = "'"


def printable(name: str | os.PathLike[str]) -> str:
    """Return a name or path as one line of printable characters. `unescape` is the inverse."""
    return "".join(map(_escape, _as_utf8(os.fspath(name))))


def _as_utf8(text: str) -> str:
    """Return a name as UTF-8 stores it, where the locale is ASCII and Python takes every other byte for a surrogate."""
    if sys.getfilesystemencoding() == "utf-8":
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text


def _escape(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\" if _ESCAPE_BACKSLASH else character
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unescape(text: str) -> str:
    """Return the name that `printable` escaped to `text`."""
    return _ESCAPE.sub(lambda match: _unescape(match.group()), text)


def _unescape(escape: str) -> str:
    if escape == "\\\\":
        return "\\"
    code = int(escape[2:], 16)
    return chr(0xDC00 + code if escape[1] == "x" and code >= 0x80 else code)


def csv_cell(value: Any) -> Any:
    """Return a table cell that no spreadsheet evaluates as a formula.

    Text and paths are made `printable`. Text that begins with = + - @ or an apostrophe gets an apostrophe in front, which
    spreadsheets hide. `from_csv_cell` is the inverse. Other values stay as they are.
    """
    if not isinstance(value, (str, os.PathLike)):
        return value
    text = printable(value)
    return _TEXT_MARK + text if text.startswith((*_FORMULA_STARTS, _TEXT_MARK)) else text


def from_csv_cell(text: str) -> str:
    """Return the text that `csv_cell` wrote as `text`."""
    return unescape(text.removeprefix(_TEXT_MARK))


def csv_line(values: Iterable[Any]) -> str:
    """Return a row of CSV without its line end. Each value becomes a `csv_cell` and is quoted where needed."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(map(csv_cell, values))
    return line.getvalue()


def file_stem(name: str, max_bytes: int) -> str:
    """Return a file name based on `name`: "_" in place of slashes and unprintable characters, at most `max_bytes` long."""
    plain = "".join(c if c.isprintable() and c not in "\\/" else "_" for c in name)
    return _truncate(plain, max_bytes) or "_"


def _truncate(text: str, max_bytes: int) -> str:
    """Return as much of the text as fits into `max_bytes` of UTF-8, without cutting a combining accent off its letter."""
    kept = text.encode("utf-8")[:max_bytes].decode("utf-8", "ignore")
    while kept != text and kept and unicodedata.combining(text[len(kept)]):
        kept = kept[:-1]
    return kept
