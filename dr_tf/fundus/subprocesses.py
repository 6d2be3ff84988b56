"""Worker processes that decode images and capture what C libraries write to standard error.

libjpeg and libtiff decode damaged data to a wrong picture and report the damage only as a warning on standard error
(file descriptor 2). OpenCV passes no error on to Python. Descriptor 2 belongs to the whole process, so a threaded
server cannot redirect it around one call: other threads would lose their output, and their warnings would be taken for
this image's. Decoding therefore runs in single-threaded worker processes whose descriptor 2 is a temporary file from
their start on. A malicious file that crashes the decoder crashes a worker and not the caller.

The workers are started with `subprocess` and talk over plain pipes. Workers of `multiprocessing` would import the
caller's main script, and so run it where it has no `if __name__ == "__main__"` guard.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import IO, Any, ParamSpec, TypeVar, cast

from dr_tf.fundus.header import BadImageError

P = ParamSpec("P")
T = TypeVar("T")

_stderr_file: IO[bytes] | None = None  # where descriptor 2 of this process goes, in a process that captures it
_DIED = "the process that read it died: the file may be malicious"


def start_capturing_stderr() -> None:
    """Redirect this process's file descriptor 2 to a temporary file, for the rest of the process.

    Call it once, at the start of a single-threaded worker process.
    """
    global _stderr_file
    sys.stderr.flush()
    _stderr_file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    os.dup2(_stderr_file.fileno(), 2)


@contextlib.contextmanager
def library_messages() -> Iterator[Callable[[], bytes]]:
    """Yield a function that returns what was written to descriptor 2 since the `with` block began.

    Works only in a process that has called `start_capturing_stderr`.
    """
    if _stderr_file is None:
        raise RuntimeError("call start_capturing_stderr() first: this process does not capture standard error")
    file = _stderr_file
    sys.stderr.flush()
    file.seek(0)  # both descriptors of the file share one position
    file.truncate()
    yield lambda: os.pread(file.fileno(), 1 << 20, 0)


def run_in_worker(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a module-level function so that each call runs in a worker process.

    A call that already runs in a worker is made directly.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if _stderr_file is not None:
            return function(*args, **kwargs)
        return shared_pool().run(call, *args, **kwargs)

    return call


class WorkerPool:
    """A pool of decoding processes that are started on demand.

    Any number of threads may call `run`. The processes end when the pool is garbage-collected, or with this process.

    Args:
        max_workers: the most processes that run at a time; by default the number of CPU cores.
    """

    def __init__(self, max_workers: int | None = None):
        self.max_workers = max_workers or os.cpu_count() or 1
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(self.max_workers):
            self._idle.put(None)  # a worker that is not started yet

    def start_worker(self) -> None:
        """Start one worker now, so that it imports its modules while the caller does something else."""
        self._idle.put(self._take_worker())

    def _take_worker(self) -> _Worker:
        """Wait for an idle worker; start a new one in place of one that is dead or not started."""
        worker = self._idle.get()
        try:
            return worker if worker is not None and worker.is_alive else _Worker()
        except BaseException:
            self._idle.put(None)  # give the place back, or later calls would wait for it for ever
            raise

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `function` in a worker process.

        The function is pickled by its name, its arguments by their values.

        Returns:
            What `function(*args, **kwargs)` returns.

        Raises:
            BadImageError: the worker died.
            Exception: whatever `function` raises.
        """
        worker, reusable = self._take_worker(), None
        try:
            value, error = worker.request(function, args, kwargs)
            reusable = worker  # not after an interrupted request: its reply may still arrive
        except (EOFError, OSError, pickle.UnpicklingError):
            raise BadImageError(_DIED) from None
        finally:
            self._idle.put(reusable)
        if error is not None:
            raise error
        return value


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Start processes inside the `with` block: they ignore Ctrl-C, which only their parent handles, from their birth.

    Ctrl-C reaches the whole process group. A process that is still starting would answer it with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a child inherits the mask
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache
def shared_pool() -> WorkerPool:
    """Return the pool that all callers in this process share unless they create their own."""
    return WorkerPool()


# A forked child must not use its parent's workers: both would write to one pipe.
os.register_at_fork(after_in_child=shared_pool.cache_clear)


def start_shared_worker() -> None:
    """Start a worker of the shared pool early. This saves the first call the 0.3 s that a process takes to start."""
    if _stderr_file is None:
        shared_pool().start_worker()


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self) -> None:
        # The worker gets this process's import path, which a script may have extended.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with deaf_to_interrupts():
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import worker_main; worker_main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        weakref.finalize(self, _stop, self._process, os.getpid())

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def request(self, function: Callable, args: tuple, kwargs: dict) -> tuple[Any, Exception | None]:
        """Return (value, None), or (None, the exception that `function` raised)."""
        assert self._process.stdin and self._process.stdout
        pickle.dump((function, args, kwargs), self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)  # safe: it comes from our own process


def _stop(process: subprocess.Popen, parent: int) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # the process may have died
            if pipe is not None:
                pipe.close()
    if os.getpid() == parent:  # a fork inherits the pipes but cannot wait for the process
        process.wait()


def worker_main() -> None:
    """Run a worker process: read pickled calls from standard input, write pickled results to standard output."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()

    import cv2

    import dr_tf.fundus.prepare  # noqa: F401  import what the calls will need before the first one arrives

    cv2.setNumThreads(1)
    start_capturing_stderr()
    requests, replies = cast("io.BufferedReader", sys.stdin.buffer), sys.stdout.buffer
    while requests.peek(1):
        replies.write(_reply(*pickle.load(requests)))
        replies.flush()


def _exit_with_parent() -> None:
    """Wait until the parent's end of standard input is closed, and end the process, even while it starts or decodes."""
    poll = select.poll()
    poll.register(0, 0)  # POLLHUP needs no registration
    poll.poll()
    os._exit(0)


def _reply(function: Callable, args: tuple, kwargs: dict) -> bytes:
    try:
        return pickle.dumps((function(*args, **kwargs), None))
    except Exception as error:
        return pickle.dumps((None, error))
