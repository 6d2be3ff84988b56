"""Image files for a command: files as named, and all image files below a folder."""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator

from dr_tf.console import UserError, print_status

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
ACCEPTED = f"JPEG, PNG, TIFF or BMP files; below a folder: files that end in {', '.join(SUFFIXES)}"


def find_images(
    paths: Iterable[str | os.PathLike], *, on_skipped: Callable[[str], object] = print_status
) -> Iterator[pathlib.Path]:
    """Yield image files: a file as named, whatever its suffix; the image files below a folder in sorted order.

    Links to files are followed. Links to folders are not, so that the search ends.

    Args:
        paths: files and folders.
        on_skipped: called with one line for each entry below a folder that is skipped and may contain an image.

    Raises:
        UserError: a path does not exist, or there is no image below a folder.
    """
    for path in map(pathlib.Path, paths):
        if os.path.isdir(path):
            images = sorted(_images_below(path, on_skipped))
            if not images:
                raise UserError(f"there is no photograph below {path}; looked for {', '.join(SUFFIXES)}")
            yield from images
        elif os.path.exists(path):
            yield path
        else:
            raise UserError(f"there is no file {path}")


def _images_below(folder, on_skipped):
    def unreadable(error):
        on_skipped(f"skipped: {error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        for path in (pathlib.Path(parent, name) for name in (*folders, *names)):
            if reason := _reason_to_skip(path):
                on_skipped(f"skipped: {path}: {reason}")
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _reason_to_skip(path):
    """Why an entry below a folder is skipped; "" for ordinary folders and files."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a broken link ({error.strerror})" if path.is_symlink() else error.strerror
    if stat.S_ISDIR(mode):
        return "a link to a folder" if path.is_symlink() else ""
    return "" if stat.S_ISREG(mode) else "not a file"
