"""Calls in processes that hear what C libraries say.

Overwritten JPEG data still decodes, to a wrong picture: libjpeg only warns, on descriptor 2, and OpenCV tells nobody. That
descriptor is a process's and not a thread's, so photographs are decoded where nothing else happens: in processes of one
thread that listen to their own from their start on. A malicious file kills such a process and not who asked.

Plain pipes: multiprocessing's processes would import, and so run, a caller's script that is not guarded.
"""

import contextlib
import functools
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import weakref

from dr_tf.fundus.header import BadPhotographError

_HEARD = None  # the file that this process's descriptor 2 is, where it listens
_DIED = "the process that read it died: the file may be malicious"


def listen():
    """From now on this process hears what is said on its descriptor 2, and nobody else does.

    For a process of one thread that has nothing else to do, once at its start.
    """
    global _HEARD
    sys.stderr.flush()
    _HEARD = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    os.dup2(_HEARD.fileno(), 2)


@contextlib.contextmanager
def hearing():
    """Yields a function that tells, as bytes, what was said since. Only where this process listens."""
    sys.stderr.flush()
    _HEARD.seek(0)  # of both descriptors: they share one position
    _HEARD.truncate()
    yield lambda: os.pread(_HEARD.fileno(), 1 << 20, 0)


def heard(function):
    """Decorates a function of a module: it runs where somebody listens, in this process or in another."""

    @functools.wraps(function)
    def call(*args, **options):
        if _HEARD is not None:
            return function(*args, **options)
        return shared()(call, *args, **options)

    return call


class Processes:
    """As many listening processes as are needed, `most` at most; they end when this is forgotten, or with this process.

    Calls may come from any number of threads. A function and its arguments are pickled, the function by its name.
    """

    def __init__(self, most=None):
        self.most = most or os.cpu_count()
        self._idle = queue.LifoQueue()
        for _ in range(self.most):
            self._idle.put(None)  # not started yet

    def start(self):
        """One process, which imports while the caller does something else."""
        self._idle.put(self._taken())

    def _taken(self):
        """A process that lives, as soon as one is free."""
        idle = self._idle.get()
        try:
            return idle if idle is not None and idle.alive else _Process()
        except BaseException:
            self._idle.put(None)  # or whoever comes after would wait for ever
            raise

    def __call__(self, function, *args, **options):
        """What function(*args, **options) returns or raises; BadPhotographError where it kills its process."""
        process, usable = self._taken(), None
        try:
            value, error = process.answer(function, args, options)
            usable = process  # whoever was interrupted may still be answering
        except (EOFError, OSError, pickle.UnpicklingError):
            raise BadPhotographError(_DIED) from None
        finally:
            self._idle.put(usable)
        if error is not None:
            raise error
        return value


@functools.cache
def shared():
    """Those of all in this process who ask for none of their own."""
    return Processes()


os.register_at_fork(after_in_child=shared.cache_clear)  # parent and child would talk over each other on one pipe


def start():
    """Called early, it saves the first call the third of a second that a process takes to start."""
    if _HEARD is None:
        shared().start()


class _Process:
    def __init__(self):
        # The paths of this process, as a script may have added the project's.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from dr_tf.fundus import apart; apart.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        weakref.finalize(self, _end, self._process, os.getpid())

    @property
    def alive(self):
        return self._process.poll() is None

    def answer(self, *request):
        """(value, None) or (None, exception)."""
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)  # from our own process


def _end(process, parent):
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # it may have died
            pipe.close()
    if os.getpid() == parent:  # a fork has the pipes, and not the child
        process.wait()


def serve():
    """What such a process does."""
    import cv2

    import dr_tf.fundus.prepare  # noqa: F401  what it will be asked for, while nobody waits

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it
    cv2.setNumThreads(1)
    listen()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while requests.peek(1):
        answers.write(_answer(*pickle.load(requests)))
        answers.flush()


def _answer(function, args, options):
    try:
        return pickle.dumps((function(*args, **options), None))
    except Exception as error:
        return pickle.dumps((None, error))
