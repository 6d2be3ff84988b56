"""Map a function over items in worker processes: in order, in bounded memory, and robust to workers that crash."""

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Generic, Self, TypeVar

from dr_tf.console import captured_stderr
from dr_tf.fundus.subprocesses import deaf_to_interrupts

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 8  # items in flight per worker


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    on_crash: Callable[[Item], Result],
) -> Iterator[Result]:
    """Yield function(item) for each item, in order.

    Args:
        function: Called in the worker processes. It must be picklable.
        items: Read only a little ahead of the results, so the iterable may be endless.
        workers: Number of processes.
        on_crash: Called in this process with an item that crashes its worker. Its result takes the place of
            function(item).
    """
    pending: collections.deque[tuple[Item, concurrent.futures.Future]] = collections.deque()
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
                # Any item in flight may have caused the crash.
                yield from _retry_one_by_one(function, [(item, future), *pending], on_crash)
                pending.clear()
                pool = _pool(workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool, function, item):
    """Submit a call. A pool that broke since its last result refuses it, so the future then holds the error."""
    try:
        with deaf_to_interrupts(), _hidden_main_module():  # it starts a process
            return pool.submit(function, item)
    except BrokenProcessPool as error:
        future: concurrent.futures.Future = concurrent.futures.Future()
        future.set_exception(error)
        return future


def _retry_one_by_one(function, calls, on_crash):
    """Yield the results of finished calls, and repeat the other calls in an isolated process."""
    with IsolatedWorker(function, on_crash=on_crash) as worker:
        for item, future in calls:
            is_finished = future.done() and not future.cancelled() and future.exception() is None
            yield future.result() if is_finished else worker(item)


class IsolatedWorker(Generic[Item, Result]):
    """Call function(item) in a process of its own, which does nothing else. A crash affects that item only.

    Args:
        function: Called in the process. It must be picklable.
        on_crash: Called in this process with an item that crashes the worker. Its result takes the place of
            function(item).
    """

    def __init__(self, function: Callable[[Item], Result], *, on_crash: Callable[[Item], Result]):
        self._function, self._on_crash = function, on_crash
        self._pool = _pool(1)

    def __call__(self, item: Item) -> Result:
        try:
            return _submit(self._pool, self._function, item).result()
        except BrokenProcessPool:
            self._pool = _pool(1)
            return self._on_crash(item)

    def close(self) -> None:
        """Stop the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pool(workers):
    # Spawned, because a fork of a process that has started TensorFlow's threads may hang.
    context = multiprocessing.get_context("spawn")
    with captured_stderr():  # else the tracker reports the semaphores that it frees after a pool that was killed
        resource_tracker.ensure_running()
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_initialize_worker)


@contextlib.contextmanager
def _hidden_main_module():
    """Start processes inside the `with` block: they do not import the script that this process runs.

    A script without `if __name__ == "__main__":` would build its records once more in each of them.
    """
    main = sys.modules["__main__"]
    hidden = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    vars(main).update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        vars(main).update(hidden)


def _initialize_worker():
    """Use one OpenCV thread, capture what image libraries print, and exit when the parent process ends."""
    import cv2

    from dr_tf.fundus import subprocesses

    cv2.setNumThreads(1)
    subprocesses.start_capturing_stderr()
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
