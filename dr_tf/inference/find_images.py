"""Image files for a command: files as named, and all image files below a folder."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator

from dr_tf.console import UserError, print_status
from dr_tf.fundus.dicom import without_image
from dr_tf.fundus.dicom_header import DicomInfo, path_info
from dr_tf.image_files import SUFFIXES, files_below, is_image_file
from dr_tf.safe_names import printable

ACCEPTED = (
    f"JPEG, PNG, TIFF, BMP or DICOM files; below a folder: files that end in {', '.join(SUFFIXES)}, and DICOM files of any "
    "name"
)
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def find_images(
    paths: Iterable[str | os.PathLike], *, on_skipped: Callable[[str], object] = print_status
) -> Iterator[pathlib.Path]:
    """Yield image files: a file as named, whatever its suffix; the image files below a folder in sorted order.

    Links to files are followed. Links to folders are not, so that the search ends.

    Args:
        paths: files and folders.
        on_skipped: called with one line for each entry below a folder that is skipped and may contain an image, and with
            a line for a DICOM file with text burned into the image or with several frames.

    Raises:
        UserError: a path does not exist or cannot be reached, or there is no image below a folder.
    """
    for path in map(pathlib.Path, paths):
        if not _is_folder(path):
            _warn(path, path_info(path), on_skipped)
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
        elif is_image_file(path):
            info = path_info(path)
            if info is not None and not info.has_image:
                on_skipped(f"skipped: {printable(path)}: {without_image(info.object_kind)}")
                continue
            _warn(path, info, on_skipped)
            yield path


def _warn(path: pathlib.Path, info: DicomInfo | None, say: Callable[[str], object]) -> None:
    """Say what a user must know about a DICOM file before its decision."""
    if info is None:
        return
    if info.burned_in:
        say(f"warning: {printable(path)}: text is burned into the image, by its DICOM header; it may name the patient")
    if info.frames > 1:
        say(f"note: {printable(path)}: {info.frames} frames, of which the most gradable one of each eye is taken")
