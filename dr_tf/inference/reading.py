"""Photographs read and prepared, each in a process that has nothing else to do."""

import collections
import concurrent.futures
import dataclasses
import pathlib
import stat

import cv2
import numpy as np

from dr_tf.fundus import apart, memory
from dr_tf.fundus.geometry import Geometry
from dr_tf.fundus.gradability import Gradability
from dr_tf.fundus.header import BadPhotographError


@dataclasses.dataclass(frozen=True)
class Read:
    """What the network takes, and of the photograph what a decision needs; or why there is nothing."""

    pixels: np.ndarray | None = None
    gradability: Gradability | None = None
    geometry: Geometry | None = None
    reason: str = ""


def read(preparation, photograph, processes=None):
    """`photograph`: a path, bytes, or uint8 RGB. May be called from any thread.

    In one of `processes`, or of those that all such calls share.
    """
    try:
        return processes(_read, preparation, photograph) if processes else _read(preparation, photograph)
    except BadPhotographError as error:  # it killed who read it
        return Read(reason=str(error))


@apart.heard
def _read(preparation, photograph):
    try:
        with memory.turn(_size(photograph)):
            pixels, prepared = preparation(_data(photograph))
        return Read(pixels, prepared.gradability, prepared.geometry)
    except BadPhotographError as error:
        reason = str(error)
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except MemoryError:
        reason = "it does not fit into memory"
    except cv2.error as error:
        reason = f"it cannot be processed: {error.err}"
    return Read(reason=reason)


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
        raise BadPhotographError("not a file")
    memory.check_file(status.st_size)
    return status.st_size


class Readers:
    """As many processes as are needed, `most` at most; they end when this is forgotten, or with this process."""

    def __init__(self, preparation, most=None):
        self._preparation, self._processes = preparation, apart.Processes(most)

    def ahead(self, photographs, most):
        """A Read of each photograph, in order, with at most `most` begun and not yet taken."""
        pool, waiting = concurrent.futures.ThreadPoolExecutor(self._processes.most), collections.deque()
        try:
            for photograph in photographs:
                waiting.append(pool.submit(read, self._preparation, photograph, self._processes))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
