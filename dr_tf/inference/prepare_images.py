"""Reading and preparing the images of cases, in worker processes that run ahead of the network."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from dr_tf.fundus import memory, subprocesses
from dr_tf.fundus.header import BadImageError
from dr_tf.inference.case import Case, Frames, ImageSource, NamedBytes
from dr_tf.inference.decision import ImageInfo
from dr_tf.inference.preparation import Preparation


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """An image as the network takes it.

    Attributes:
        pixels: uint8 RGB [side, side, 3]; None if the image cannot be used.
        info: what the decision reports about the image.
    """

    pixels: np.ndarray | None
    info: ImageInfo


def prepare_case(
    preparation: Preparation, case: Case, pool: subprocesses.WorkerPool | None = None
) -> dict[str, PreparedImage]:
    """Prepare the images of a case. May be called from any thread.

    Args:
        preparation: the steps to the network's input.
        case: of several images of an eye the most gradable one is taken.
        pool: of worker processes; by default the shared one.

    Returns:
        {eye: PreparedImage}.
    """
    return {
        eye: max((prepare_image(preparation, image, case.name, pool) for image in images), key=_gradability)
        for eye, images in case.images.items()
    }


def _gradability(prepared):
    return -1 if prepared.info.gradability is None else prepared.info.gradability


def prepare_image(
    preparation: Preparation, image: ImageSource, name: str = "", pool: subprocesses.WorkerPool | None = None
) -> PreparedImage:
    """Prepare one image in a worker process. An image that cannot be used gives a PreparedImage with the reason.

    Args:
        preparation: the steps to the network's input.
        image: a path, frames of a file, the bytes of a file with or without a name, or uint8 RGB pixels.
        name: of an image that has none.
        pool: of worker processes; by default the shared one.
    """
    frames = image.numbers if isinstance(image, (Frames, NamedBytes)) else ()
    if isinstance(image, NamedBytes):
        name, image = image.name, image.data
    elif isinstance(image, (str, os.PathLike)):
        name, image = str(image), os.path.abspath(image)  # a worker may have started in another working directory
    try:
        arguments = preparation, image, name, frames
        return pool.run(_prepare, *arguments) if pool else _prepare(*arguments)
    except BadImageError as error:  # the worker died
        return _unusable(name, str(error), frames)
    except OSError as error:  # no worker could be started
        return _unusable(name, f"it cannot be read: {error.strerror}", frames)


@subprocesses.run_in_worker
def _prepare(preparation, image, name, frames):
    try:
        with memory.reserve(_file_size(image)):
            pixels, prepared = preparation(file_bytes(image), frames)
        quality = prepared.gradability
        # float32, as records store it, so that an original and its record pass the gate alike.
        info = ImageInfo(name, float(np.float32(quality.score)), quality.reason, prepared.geometry, prepared.frame)
        return PreparedImage(pixels, info)
    except BadImageError as error:
        reason = str(error)
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except MemoryError:
        reason = "it does not fit into memory"
    except cv2.error as error:
        reason = f"it cannot be processed: {error.err}"
    return _unusable(name, reason, frames)


def _unusable(name: str, reason: str, frames: Sequence[int]) -> PreparedImage:
    return PreparedImage(None, ImageInfo(name, reason=reason, frame=frames[0] if frames else 0))


def file_bytes(image: ImageSource) -> bytes:
    """Return the bytes of an image file. Pixels are encoded as PNG."""
    if isinstance(image, np.ndarray):
        return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    if isinstance(image, (bytes, NamedBytes)):
        return image if isinstance(image, bytes) else image.data
    return pathlib.Path(image).read_bytes()


def _file_size(image):
    """The size in bytes. Raises BadImageError for what must not be read."""
    if isinstance(image, (np.ndarray, bytes)):
        return len(image) if isinstance(image, bytes) else image.nbytes
    status = pathlib.Path(image).stat()
    if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
        raise BadImageError("not a file")
    memory.check_file_size(status.st_size)
    return status.st_size


class ImageReaders:
    """Worker processes that prepare images ahead of the network.

    Args:
        preparation: the steps to the network's input.
        max_workers: the number of processes of its own, which end with this object; by default the shared ones.
    """

    def __init__(self, preparation: Preparation, max_workers: int | None = None):
        self._preparation = preparation
        self._own_pool = subprocesses.WorkerPool(max_workers) if max_workers else None

    def prepare_ahead(self, cases: Iterable[Case], max_ahead: int) -> Iterator[dict[str, PreparedImage]]:
        """Yield {eye: PreparedImage} of each case in order, with at most `max_ahead` cases started or waiting."""
        pool = self._own_pool or subprocesses.shared_pool()
        threads = concurrent.futures.ThreadPoolExecutor(pool.max_workers)
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        try:
            for case in cases:
                waiting.append(threads.submit(prepare_case, self._preparation, case, pool))
                if len(waiting) >= max_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
