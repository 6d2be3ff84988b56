"""Files appear whole or not at all, wherever a run is killed."""

import contextlib
import json
import os
import pathlib
import shutil

from dr_tf.console import UserError


@contextlib.contextmanager
def appearing(path):
    """Yields a path beside `path` to write a file or a folder at; renames it into place when all went well."""
    path = pathlib.Path(path)
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(unfinished)
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


def write_text(path, text):
    with appearing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2) + "\n")


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
