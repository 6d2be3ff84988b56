"""Map a function over items in worker processes: in order, in bounded memory, outliving a worker that dies."""

import collections
import concurrent.futures
import multiprocessing
import os
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
            while len(pending) < workers * _AHEAD and (item := next(items, pending)) is not pending:
                pending.append((item, pool.submit(function, item)))
            if not pending:
                return
            item, future = pending.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                # Any item in flight may be the culprit: each is tried again in a process of its own.
                for suspect in (item, *(waiting for waiting, _ in pending)):
                    yield _alone(function, suspect, on_death)
                pending.clear()
                pool = _pool(workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(function, item, on_death):
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return on_death(item)


def _pool(workers):
    # Spawned, as a fork of a process that has started TensorFlow's threads may hang.
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_start)


def _start():
    """One thread of OpenCV a process, and no life after the parent's: a killed build leaves no worker behind."""
    import cv2

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
