"""The folder on this machine that holds copies of what lies in buckets."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator

from dr_tf.console import UserError, print_status
from dr_tf.safe_names import file_stem

VARIABLE = "DR_TF_CACHE"

_STEM = 60  # bytes of a URL in the name of its folder, for whoever looks for what to delete


def cache_folder(kind: str, url: str, content: bytes = b"") -> pathlib.Path:
    """Return the folder for the copy of a URL. It need not exist.

    Args:
        kind: what is copied, such as "records".
        url: where it lies.
        content: what its content follows from. Another content has another folder.
    """
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape") + b"\0" + content).hexdigest()[:16]
    return _root() / kind / f"{file_stem(url.partition('://')[2], _STEM)}-{digest}"


def _root() -> pathlib.Path:
    if named := os.environ.get(VARIABLE):
        return pathlib.Path(named)
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library" / "Caches" / "dr_tf"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "dr_tf"


def check_room(folder: pathlib.Path, needed: int) -> None:
    """Raise UserError if the disk of an existing folder has fewer bytes free than are needed."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed: "
            f"name a folder with room in the environment variable {VARIABLE}"
        )


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Create a folder and lock it against other processes. If one has locked it, wait for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115  it is closed below
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror}; the environment variable {VARIABLE} names another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_status(f"waiting for another process that uses {folder} ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
