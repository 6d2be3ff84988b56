"""Decoded photographs kept from one epoch to the next, in memory or in a file.

A row counts as filled by the CRC-32 of its pixels, which is stored after them: what a kill or a power cut left half
written, and what anything else scribbled over, is decoded again.
"""

import hashlib
import os
import pathlib
import zlib

import cv2
import numpy as np
from absl import logging

from dr_tf.console import UserError

_FILLED = 1 << 32  # beside the sum, so that a sum of nought is not "empty"


class NoCache:
    def get(self, row):
        return None

    def put(self, row, pixels):
        return pixels


class MemoryCache:
    """The array is virtual until it is written to: rows that nobody asks for take no memory."""

    def __init__(self, rows, shape):
        self._pixels = np.empty((rows, *shape), np.uint8)
        self._filled = np.zeros(rows, bool)

    def get(self, row):
        return self._pixels[row] if self._filled[row] else None

    def put(self, row, pixels):
        self._pixels[row] = pixels
        self._filled[row] = True
        return self._pixels[row]


class DiskCache:
    """One file a content: `key` names everything that the pixels follow from, so that a stale cache is never found."""

    def __init__(self, rows, shape, *, directory, key):
        path = pathlib.Path(directory) / f"{_digest(key)}.pixels"
        size = int(np.prod(shape))
        try:
            _reserve(path, rows * (8 + size))
            self._sums = np.memmap(path, "<u8", "r+", shape=(rows,))
            self._pixels = np.memmap(path, np.uint8, "r+", offset=8 * rows, shape=(rows, *shape)).view(np.ndarray)
        except OSError as error:
            raise UserError(f"photographs cannot be cached in {directory}: {error.strerror or error}") from None
        self._seen = np.zeros(rows, bool)  # whole in this run: the sum is looked at once

    def get(self, row):
        if not self._seen[row]:
            self._seen[row] = int(self._sums[row]) == _sum(self._pixels[row])
        return self._pixels[row] if self._seen[row] else None

    def put(self, row, pixels):
        self._pixels[row] = pixels
        self._sums[row] = _sum(pixels)
        self._seen[row] = True
        return self._pixels[row]


def _sum(pixels):
    return _FILLED | zlib.crc32(pixels)


def _digest(key):
    return hashlib.sha256(repr((key, cv2.__version__)).encode()).hexdigest()[:32]


def _reserve(path, size):
    """All blocks at once: a disk that is full is said now, while writing to a hole of a mapped file would be a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _nothing(rows, shape, **_):
    return NoCache()


def _in_memory(rows, shape, **_):
    return MemoryCache(rows, shape)


def _on_disk(rows, shape, *, directory, key):
    if not directory:
        raise UserError("a cache on disk wants cache_dir, the folder to keep it in")
    return DiskCache(rows, shape, directory=directory, key=key)


def _automatic(rows, shape, **_):
    size, free = rows * int(np.prod(shape)), free_memory()
    if size <= free / 2:
        return MemoryCache(rows, shape)
    logging.info("Photographs are decoded anew each epoch: %.1f GB of pixels, %.1f GB free", size / 1e9, free / 1e9)
    return NoCache()


CACHES = {"auto": _automatic, "memory": _in_memory, "disk": _on_disk, "none": _nothing}


def make_cache(kind, rows, shape, *, directory=None, key=()):
    """`auto` is memory where half of what is free holds all of it, else none."""
    if kind not in CACHES:
        raise UserError(f"unknown cache {kind!r}; known: {', '.join(CACHES)}")
    return CACHES[kind](rows, shape, directory=directory, key=key)


def free_memory():
    """Bytes that may still be taken: a container's limit counts where it is the nearer one."""
    import psutil

    free = psutil.virtual_memory().available
    limit, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    return free if limit is None or used is None else min(free, limit - used)


def _number(path):
    try:
        return int(pathlib.Path(path).read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None
