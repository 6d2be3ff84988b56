"""Image files for a command: files as named, and all image files below a folder."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator

from dr_tf.console import UserError, print_status
from dr_tf.image_files import SUFFIXES, files_below
from dr_tf.safe_names import printable

ACCEPTED = f"JPEG, PNG, TIFF or BMP files; below a folder: files that end in {', '.join(SUFFIXES)}"
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def find_images(
    paths: Iterable[str | os.PathLike], *, on_skipped: Callable[[str], object] = print_status
) -> Iterator[pathlib.Path]:
    """Yield image files: a file as named, whatever its suffix; the image files below a folder in sorted order.

    Links to files are followed. Links to folders are not, so that the search ends.

    Args:
        paths: files and folders.
        on_skipped: called with one line for each entry below a folder that is skipped and may contain an image.

    Raises:
        UserError: a path does not exist or cannot be reached, or there is no image below a folder.
    """
    for path in map(pathlib.Path, paths):
        if not _is_folder(path):
            yield path
            continue
        images = sorted(_images_below(path, on_skipped))
        if not images:
            raise UserError(f"there is no photograph below {printable(path)}; looked for {', '.join(SUFFIXES)}")
        yield from images


def _is_folder(path: pathlib.Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in _ABSENT:
            raise UserError(f"there is no file {printable(path)}") from error
        raise UserError(f"{printable(path)} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte, which no name can contain
        raise UserError(f"there is no file {printable(path)}") from error


def _images_below(folder: pathlib.Path, on_skipped: Callable[[str], object]) -> Iterator[pathlib.Path]:
    for path, reason in files_below(folder):
        if reason:
            on_skipped(f"skipped: {printable(path)}: {reason}")
        elif path.suffix.lower() in SUFFIXES:
            yield path
