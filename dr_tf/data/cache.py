"""Caches of decoded pixels or other fixed-size arrays between epochs, in memory or in a file.

The file holds the CRC-32 of the bytes of each row. A row whose checksum does not match was left half written
by a kill or a power cut, or damaged since, and is computed again.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import cv2
import numpy as np
from absl import logging

from dr_tf.console import UserError

_FILLED = 1 << 32  # added to the checksum, so that a checksum of 0 does not look like an empty row


class Cache(Protocol):
    """Cache of uint8 arrays by row number."""

    def get(self, row: int) -> np.ndarray | None:
        """Return the array of a row, or None if it is not in the cache."""
        ...

    def put(self, row: int, pixels: np.ndarray) -> np.ndarray:
        """Store the array of a row and return it."""
        ...


class NoCache:
    """Cache that stores nothing."""

    def get(self, row: int) -> np.ndarray | None:
        """Return None."""
        return None

    def put(self, row: int, pixels: np.ndarray) -> np.ndarray:
        """Return `pixels` without storing them."""
        return pixels


class MemoryCache:
    """Cache in memory. Rows that are never written take no physical memory.

    Args:
        rows: number of rows.
        shape: shape of the array of a row.
    """

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        self._pixels = np.empty((rows, *shape), np.uint8)
        self._filled = np.zeros(rows, bool)

    def get(self, row: int) -> np.ndarray | None:
        """Return the array of a row, or None if it was not stored."""
        return self._pixels[row] if self._filled[row] else None

    def put(self, row: int, pixels: np.ndarray) -> np.ndarray:
        """Store the array of a row and return the stored copy."""
        self._pixels[row] = pixels
        self._filled[row] = True
        return self._pixels[row]


class DiskCache:
    """Cache in a memory-mapped file, which later runs find again.

    Args:
        rows: number of rows.
        shape: shape of the array of a row.
        directory: folder of the file.
        key: everything that the contents depend on; the file name is its digest, so that a stale file is never used.
        reserved: whether disk space for all rows is reserved at once. Otherwise `reserve` has to be called for the rows
            that will be stored; the others take no space.

    Raises:
        UserError: the file cannot be created, for example because the disk is full.
    """

    def __init__(
        self,
        rows: int,
        shape: tuple[int, ...],
        *,
        directory: str | os.PathLike,
        key: Hashable,
        reserved: bool = True,
    ) -> None:
        self._path = pathlib.Path(directory) / f"{_digest(key)}.pixels"
        self._first, self._size = 8 * rows, int(np.prod(shape))
        with self._user_errors():
            _create(self._path, self._first + rows * self._size)
            _reserve(self._path, 0, self._first + (rows * self._size if reserved else 0))
            self._checksums = np.memmap(self._path, "<u8", "r+", shape=(rows,))
            pixels = np.memmap(self._path, np.uint8, "r+", offset=self._first, shape=(rows, *shape))
            self._pixels = pixels.view(np.ndarray)
        self._verified = np.zeros(rows, bool)  # each checksum is verified once per process

    def reserve(self, rows: Sequence[int]) -> None:
        """Reserve the disk space of some rows. Raises UserError, and reserves nothing, if there is not enough."""
        needed, free = len(rows) * self._size, shutil.disk_usage(self._path.parent).free
        if needed > free:
            raise UserError(
                f"{self._path.parent} has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed: name another folder"
            )
        with self._user_errors():
            for row in rows:
                _reserve(self._path, self._first + row * self._size, self._size)

    @contextlib.contextmanager
    def _user_errors(self):
        try:
            yield
        except OSError as error:
            raise UserError(f"images cannot be cached in {self._path.parent}: {error.strerror or error}") from None

    def get(self, row: int) -> np.ndarray | None:
        """Return the array of a row, or None if it was not stored completely."""
        if not self._verified[row] and self._checksums[row]:
            self._verified[row] = int(self._checksums[row]) == _checksum(self._pixels[row])
        return self._pixels[row] if self._verified[row] else None

    def put(self, row: int, pixels: np.ndarray) -> np.ndarray:
        """Store the array of a row and return the stored copy."""
        self._pixels[row] = pixels
        self._checksums[row] = _checksum(pixels)
        self._verified[row] = True
        return self._pixels[row]


def _checksum(pixels):
    return _FILLED | zlib.crc32(pixels)


def _digest(key):
    return hashlib.sha256(repr((key, cv2.__version__)).encode()).hexdigest()[:32]


def _create(path, size):
    """Create a file of at least this size, which takes no space yet; what an existing file contains stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if os.fstat(file.fileno()).st_size < size:
            file.truncate(size)


def _reserve(path, start, size):
    """Allocate the blocks of a part of a file. A full disk is an error now; writing to a mapped hole would crash."""
    if size and hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), start, size)


def _nothing(rows, shape, **_):
    return NoCache()


def _in_memory(rows, shape, **_):
    return MemoryCache(rows, shape)


def _on_disk(rows, shape, *, directory, key):
    if not directory:
        raise UserError("train.cache = 'disk' needs train.cache_dir, the folder of the cache")
    return DiskCache(rows, shape, directory=directory, key=key)


def _automatic(rows, shape, **_):
    size, free = rows * int(np.prod(shape)), free_memory()
    if size <= free / 2:
        return MemoryCache(rows, shape)
    logging.info(
        "images are not cached but decoded in every epoch: %.1f GB of pixels, %.1f GB of memory free",
        size / 1e9,
        free / 1e9,
    )
    return NoCache()


CACHES: dict[str, Callable[..., Cache]] = {
    "auto": _automatic,
    "memory": _in_memory,
    "disk": _on_disk,
    "none": _nothing,
}


def make_cache(
    kind: str,
    rows: int,
    shape: tuple[int, ...],
    *,
    directory: str | os.PathLike | None = None,
    key: Hashable = (),
) -> Cache:
    """Return a new cache.

    Args:
        kind: a name in CACHES. "auto" is memory if the pixels take at most half of what is free, else none.
        rows: number of rows.
        shape: shape of the uint8 array of a row.
        directory: folder of a cache on disk.
        key: everything that the contents of a cache on disk depend on.

    Raises:
        UserError: the kind is unknown, or a cache on disk has no directory or cannot be created.
    """
    if kind not in CACHES:
        raise UserError(f"unknown cache {kind!r}; known: {', '.join(CACHES)}")
    return CACHES[kind](rows, shape, directory=directory, key=key)


def free_memory() -> int:
    """Return the bytes of memory that are still available, at most what a container's limit leaves."""
    import psutil

    free = psutil.virtual_memory().available
    limit, used = (_read_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    return free if limit is None or used is None else min(free, limit - used)


def _read_number(path):
    try:
        return int(pathlib.Path(path).read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
