"""Write files and folders atomically: they appear complete or not at all, whenever the process is killed."""

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from dr_tf.console import UserError, cleaned_up_if_stopped

UNFINISHED, REPLACED = ".unfinished-", ".replaced-"  # how hidden names begin
_WORKING_DIRECTORY, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a temporary path for a file or folder, and rename it to `path` if the `with` block succeeds.

    Raises:
        UserError: the file system refused to write.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(unfinished)
        with cleaned_up_if_stopped(functools.partial(_remove, unfinished)):
            yield unfinished
            replace(unfinished, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; nothing half-written was left"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(unfinished)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace(new: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Move `new` to `path`. What was there, a file or a folder, is deleted.

    A process that is killed meanwhile leaves the old or the new one at `path`. Where the system cannot exchange folders it
    may leave the old one beside `path`, from where `restore` brings it back.
    """
    new, path = pathlib.Path(new), pathlib.Path(path)
    if not path.is_dir():  # os.replace replaces files only
        os.replace(new, path)
    elif exchange(new, path):
        with contextlib.suppress(OSError):
            _remove(new)
    else:
        replaced = path.with_name(REPLACED + path.name)
        _remove(replaced)
        os.replace(path, replaced)
        os.replace(new, path)
        _remove(replaced)


def restore(path: str | os.PathLike[str]) -> None:
    """Bring back the folder that `replace` had put aside when its process was killed; nothing if `path` exists."""
    path = pathlib.Path(path)
    with contextlib.suppress(OSError):
        if not path.exists():
            os.replace(path.with_name(REPLACED + path.name), path)


def exchange(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Exchange two files or folders in one step, and return whether the system could: Linux can, with most file systems."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    names = os.fsencode(first), os.fsencode(second)
    return renameat2(_WORKING_DIRECTORY, names[0], _WORKING_DIRECTORY, names[1], _EXCHANGE) == 0


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left half-written in a folder that no other process writes now."""
    for path in pathlib.Path(folder).glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            _remove(path)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
