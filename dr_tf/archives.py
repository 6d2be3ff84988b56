"""Check a ZIP archive of unknown origin (.npz, .keras) before anything in it is unpacked.

numpy and Keras read such archives without running code. An archive can still name a path outside of its folder, or hold
a few kilobytes that unpack to more than the memory.
"""

import os
import pathlib
import tokenize
import zipfile
import zlib

# What reading a damaged or hostile archive raises. NumPy parses the headers of arrays as Python literals.
UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, NotImplementedError,
    RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# Weights and scores hardly compress; zeros compress a thousandfold.
_MAX_RATIO, _SMALL = 100, 1 << 24


def check_archive(path: str | os.PathLike) -> None:
    """Refuse an archive that would unpack to other folders or to far more than its size.

    Raises:
        ValueError: it is refused; the message says why.
        OSError: the file cannot be read.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("its archive has two members of one name")
    for name in names:
        parts = pathlib.PureWindowsPath(name)  # knows both kinds of separators, and drives
        if parts.anchor or ".." in parts.parts:
            raise ValueError("its archive has a member outside of its folder")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_SMALL, _MAX_RATIO * os.path.getsize(path)):
        raise ValueError(f"its archive unpacks to {unpacked / 1e6:.0f} MB, and nothing of dr_tf compresses so well")
