"""Map a function over items in worker processes: in order, in bounded memory, outliving a worker that dies."""

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

_AHEAD = 8  # items in flight per worker


def map_in_order(function, items, *, workers, on_death):
    """Yields function(item) for each item, in order. An item that kills its worker yields on_death(item)."""
    pending = collections.deque()
    items = iter(items)
    pool = _pool(workers)
    try:
        while True:
            for item in itertools.islice(items, workers * _AHEAD - len(pending)):
                pending.append((item, _submit(pool, function, item)))
            if not pending:
                return
            item, future = pending.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                # Any item in flight may be the culprit.
                yield from _one_by_one(function, [(item, future), *pending], on_death)
                pending.clear()
                pool = _pool(workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool, function, item):
    """A pool that broke since the last result refuses calls; the future says so when its turn comes."""
    try:
        return pool.submit(function, item)
    except BrokenProcessPool as error:
        future = concurrent.futures.Future()
        future.set_exception(error)
        return future


def _one_by_one(function, calls, on_death):
    """Results that are there, and those of the other calls, tried again with one process that has nothing else to do."""
    with Apart(function, on_death=on_death) as apart:
        for item, call in calls:
            done = call.done() and not call.cancelled() and call.exception() is None
            yield call.result() if done else apart(item)


class Apart:
    """Calls function(item) in one process that has nothing else to do; on_death(item) where that kills it."""

    def __init__(self, function, *, on_death):
        self._function, self._on_death = function, on_death
        self._pool = _pool(1)

    def __call__(self, item):
        try:
            return self._pool.submit(self._function, item).result()
        except BrokenProcessPool:
            self._pool = _pool(1)
            return self._on_death(item)

    def close(self):
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _pool(workers):
    # Spawned, as a fork of a process that has started TensorFlow's threads may hang.
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_start)


def _start():
    """A process hears its own libraries, with one thread of OpenCV, and has no life after its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it

    import cv2

    from dr_tf.fundus import subprocesses

    cv2.setNumThreads(1)
    subprocesses.start_capturing_stderr()
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
