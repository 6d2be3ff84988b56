r"""Names of files, written so that they can do no harm where they are read: on a terminal, on a page, in a table.

A name may hold line feeds, codes that command a terminal, marks that turn the direction of writing, and bytes that are no
text at all (Python keeps these as surrogates). `printable` writes each as an escape, and `original` finds the name again:

    \x0a              a character below 128
    \xff              a byte that is no UTF-8, 128 to 255
    \u202e \U000e0001 another character
    \\                a backslash, where that does not separate folders
"""

import csv
import io
import os
import re
import unicodedata

_BACKSLASH = os.sep != "\\"  # whether it may be a part of a name
_ESCAPE = re.compile(r"\\(?:\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_FORMULA = "=+-@"
_NEUTRAL = "'"


def printable(name):
    """A name or path as one line of visible characters; `original` is the way back."""
    return "".join(map(_escaped, os.fspath(name)))


def _escaped(character):
    code = ord(character)
    if character == "\\":
        return "\\\\" if _BACKSLASH else character
    if character.isprintable():
        return character
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def original(text):
    """The name that `printable` wrote so."""
    return _ESCAPE.sub(lambda found: _character(found.group()), text)


def _character(escape):
    if escape == "\\\\":
        return "\\"
    code = int(escape[2:], 16)
    return chr(0xDC00 + code if escape[1] == "x" and code >= 0x80 else code)


def cell(value):
    """What of a table: text is `printable`, and no spreadsheet takes it for a formula; all else stays as it is.

    Text that begins with = + - @, or with an apostrophe itself, gets an apostrophe before it, which a spreadsheet hides.
    To read it back take one leading apostrophe away, then ask `original`.
    """
    if not isinstance(value, (str, os.PathLike)):
        return value
    text = printable(value)
    return _NEUTRAL + text if text.startswith((*_FORMULA, _NEUTRAL)) else text


def csv_line(values):
    """A row of CSV without its end of line, every `cell` quoted where it has to be."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(map(cell, values))
    return line.getvalue()


def file_stem(name, most):
    """A name for a file of ours after that of another: no escapes, none of what would need one, `most` bytes at most."""
    plain = "".join(c if c.isprintable() and c not in "\\/" else "_" for c in name)
    return _cut(plain, most) or "_"


def _cut(text, most):
    """What of it fits into so many bytes of UTF-8; an accent that is a character of its own does not lose its letter."""
    cut = text.encode("utf-8")[:most].decode("utf-8", "ignore")
    while cut != text and cut and unicodedata.combining(text[len(cut)]):
        cut = cut[:-1]
    return cut
