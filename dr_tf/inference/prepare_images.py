"""Photographs of cases read and prepared, each in a process that has nothing else to do."""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
import stat

import cv2
import numpy as np

from dr_tf.fundus import memory, subprocesses
from dr_tf.fundus.header import BadImageError
from dr_tf.inference.decision import ImageInfo


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """What the network takes of a photograph, and what a decision says of it."""

    pixels: np.ndarray | None  # None where it cannot be used
    image: ImageInfo


def prepare_case(preparation, case, processes=None):
    """{eye: PreparedImage} of a case; of several photographs of an eye that of the most gradable one. From any thread.

    In one of `processes`, or of those that all such calls share.
    """
    return {
        eye: max((read(preparation, one, case.name, processes) for one in photographs), key=_gradability)
        for eye, photographs in case.photographs.items()
    }


def _gradability(found):
    return -1 if found.image.gradability is None else found.image.gradability


def read(preparation, photograph, name="", processes=None):
    """A PreparedImage of a path, bytes, or uint8 RGB; `name` is what the latter two are called."""
    name = str(photograph) if isinstance(photograph, (str, os.PathLike)) else name
    try:
        arguments = preparation, photograph, name
        return processes.run(_read, *arguments) if processes else _read(*arguments)
    except BadImageError as error:  # it killed who read it
        return PreparedImage(None, ImageInfo(name, reason=str(error)))
    except OSError as error:  # of who was to read it: no process can be started
        return PreparedImage(None, ImageInfo(name, reason=f"it cannot be read: {error.strerror}"))


@subprocesses.run_in_worker
def _read(preparation, photograph, name):
    try:
        with memory.turn(_size(photograph)):
            pixels, prepared = preparation(_data(photograph))
        quality = prepared.gradability
        # As precise as records keep it, so that a photograph and its record pass the gate alike.
        return PreparedImage(
            pixels, ImageInfo(name, float(np.float32(quality.score)), quality.reason, prepared.geometry)
        )
    except BadImageError as error:
        reason = str(error)
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except MemoryError:
        reason = "it does not fit into memory"
    except cv2.error as error:
        reason = f"it cannot be processed: {error.err}"
    return PreparedImage(None, ImageInfo(name, reason=reason))


def _data(photograph):
    if isinstance(photograph, np.ndarray):
        return cv2.imencode(".png", cv2.cvtColor(photograph, cv2.COLOR_RGB2BGR))[1].tobytes()
    if isinstance(photograph, bytes):
        return photograph
    return pathlib.Path(photograph).read_bytes()


def _size(photograph):
    """In bytes, where it may be read at all."""
    if isinstance(photograph, (np.ndarray, bytes)):
        return len(photograph) if isinstance(photograph, bytes) else photograph.nbytes
    status = pathlib.Path(photograph).stat()
    if not stat.S_ISREG(status.st_mode):  # to read a pipe would never end
        raise BadImageError("not a file")
    memory.check_file(status.st_size)
    return status.st_size


class ImageReaders:
    """At most `most` processes, which end when this is forgotten; those that all share where it is left out."""

    def __init__(self, preparation, most=None):
        self._preparation, self._own = preparation, subprocesses.WorkerPool(most) if most else None

    def ahead(self, cases, most):
        """{eye: PreparedImage} of each case, in order, with at most `most` begun and not yet taken."""
        processes = self._own or subprocesses.shared_pool()
        pool, waiting = concurrent.futures.ThreadPoolExecutor(processes.max_workers), collections.deque()
        try:
            for case in cases:
                waiting.append(pool.submit(prepare_case, self._preparation, case, processes))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
