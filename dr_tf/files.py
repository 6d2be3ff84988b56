"""Write files and folders atomically: they appear complete or not at all, whenever the process is killed."""

import contextlib
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from dr_tf.console import UserError, cleaned_up_if_stopped


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a temporary path for a file or folder, and rename it to `path` if the `with` block succeeds.

    Raises:
        UserError: the file system refused to write.
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(unfinished)
        with cleaned_up_if_stopped(functools.partial(_remove, unfinished)):
            yield unfinished
            if path.is_dir():
                _remove(path)  # os.replace replaces files only
            os.replace(unfinished, path)
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


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
