"""Photographs read and prepared ahead, each in a process that has nothing else to do.

libjpeg tells of damaged data by a line on stderr, which is a process's and not a thread's; and a malicious file may kill
who decodes it. Plain pipes: multiprocessing's processes would import, and so run, a caller's script that is not guarded.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import pickle
import queue
import signal
import stat
import subprocess
import sys
import weakref

import cv2
import numpy as np

from dr_tf.fundus.header import BadPhotographError
from dr_tf.inference.decision import Shown

_DIED = "the process that read it died: the file may be malicious"


@dataclasses.dataclass(frozen=True)
class Read:
    """What the network takes of a photograph, and what a decision says of it."""

    pixels: np.ndarray | None  # None where it cannot be used
    image: Shown


def read_case(preparation, case):
    """{eye: Read} of a case; of several photographs of an eye that of the most gradable one."""
    return {
        eye: max((read(preparation, one, case.name) for one in photographs), key=_gradability)
        for eye, photographs in case.photographs.items()
    }


def _gradability(found):
    return -1 if found.image.gradability is None else found.image.gradability


def read(preparation, photograph, name=""):
    """A Read of a path, bytes, or uint8 RGB; `name` is what the latter two are called."""
    name = str(photograph) if isinstance(photograph, (str, os.PathLike)) else name
    try:
        pixels, prepared = preparation(_data(photograph))
        quality = prepared.gradability
        # As precise as records keep it, so that a photograph and its record pass the gate alike.
        return Read(pixels, Shown(name, float(np.float32(quality.score)), quality.reason, prepared.geometry))
    except BadPhotographError as error:
        reason = str(error)
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except MemoryError:
        reason = "it does not fit into memory"
    except cv2.error as error:
        reason = f"it cannot be processed: {error.err}"
    return Read(None, Shown(name, reason=reason))


def unread(case, reason):
    """{eye: Read} of a case of which nothing could be read."""
    return {eye: Read(None, Shown(case.name, reason=reason)) for eye in case.photographs}


def _data(photograph):
    if isinstance(photograph, np.ndarray):
        return cv2.imencode(".png", cv2.cvtColor(photograph, cv2.COLOR_RGB2BGR))[1].tobytes()
    if isinstance(photograph, bytes):
        return photograph
    path = pathlib.Path(photograph)
    if not stat.S_ISREG(path.stat().st_mode):  # to read a pipe would never end
        raise BadPhotographError("not a file")
    return path.read_bytes()


class Readers:
    """As many processes as are needed, `most` at most; they end when this is forgotten, or with this process."""

    def __init__(self, preparation, most=None):
        self._preparation, self.most = preparation, most or os.cpu_count()
        self._idle = queue.SimpleQueue()
        for _ in range(self.most):
            self._idle.put(None)  # not started yet

    def ahead(self, cases, most):
        """{eye: Read} of each case, in order, with at most `most` begun and not yet taken."""
        pool, waiting = concurrent.futures.ThreadPoolExecutor(self.most), collections.deque()
        try:
            for case in cases:
                waiting.append(pool.submit(self._read, case))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, case):
        reader = self._idle.get()
        try:
            reader = reader or _Reader(self._preparation)
            return reader(case)
        except (EOFError, OSError, pickle.UnpicklingError):
            reader = None
            return unread(case, _DIED)
        finally:
            self._idle.put(reader)


class _Reader:
    def __init__(self, preparation):
        # The paths of this process, as a script may have added the project's.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from dr_tf.inference import reading; reading.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        weakref.finalize(self, _end, self._process)
        self._send(preparation)

    def __call__(self, case):
        self._send(case)
        return pickle.load(self._process.stdout)  # from our own process

    def _send(self, value):
        pickle.dump(value, self._process.stdin)
        self._process.stdin.flush()


def _end(process):
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # it may have died
            pipe.close()
    process.wait()


def serve():
    """What such a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it
    cv2.setNumThreads(1)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    preparation = pickle.load(requests)
    while requests.peek(1):
        pickle.dump(read_case(preparation, pickle.load(requests)), answers)
        answers.flush()
