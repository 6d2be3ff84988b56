"""The files below a folder, for every command that searches one for images. Nothing is skipped without a reason."""

import os
import pathlib
import stat
from collections.abc import Iterator

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".dcm")
DICOM_MAGIC, DICOM_MAGIC_AT = b"DICM", 128


def is_image_file(path: pathlib.Path) -> bool:
    """Return whether the name of a file, or the magic of a DICOM file, says that it may be an image."""
    return path.suffix.lower() in SUFFIXES or is_dicom_file(path)


def is_dicom_file(path: str | os.PathLike[str]) -> bool:
    """Return whether the content of a regular file is that of a DICOM file. Such files often have no suffix."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would never end
            return False
        with open(path, "rb") as file:
            return file.read(DICOM_MAGIC_AT + len(DICOM_MAGIC))[DICOM_MAGIC_AT:] == DICOM_MAGIC
    except (OSError, ValueError):
        return False


def files_below(folder: str | os.PathLike[str]) -> Iterator[tuple[pathlib.Path, str]]:
    """Yield (path, "") of each file below a folder, and (path, reason) of each entry that cannot be read or searched.

    Links to files are followed. Links to folders are not, so that the search ends; they have a reason.
    """
    unreadable: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        yield from _with_reasons(unreadable)
        for name in (*folders, *names):
            path = pathlib.Path(parent, name)
            reason = reason_to_skip(path)
            if reason or name not in folders:
                yield path, reason
    yield from _with_reasons(unreadable)


def _with_reasons(unreadable: list[OSError]) -> Iterator[tuple[pathlib.Path, str]]:
    while unreadable:
        error = unreadable.pop(0)
        yield pathlib.Path(error.filename), f"the folder cannot be read: {error.strerror}"


def reason_to_skip(path: str | os.PathLike[str]) -> str:
    """Return why an entry of a folder is neither read nor searched; "" for ordinary folders and files."""
    is_link = os.path.islink(path)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"a broken link ({error.strerror})" if is_link else f"it cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return "a link to a folder" if is_link else ""
    return "" if stat.S_ISREG(mode) else "not a file"
