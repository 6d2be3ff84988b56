"""Prefetching of batches by Python threads.

Why not `prefetch` of tf.data: its thread would be inside Python at any moment, and if the interpreter ends at such a
moment TensorFlow waits for it forever. Here only the consumer of a batch calls into Python.
"""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

_AHEAD = 2  # batches begun before they are requested

# An empty batch, a function that fills in a part of it, and the arguments of each call of that function.
PendingBatch = tuple[Any, Callable[..., None], Iterable[tuple]]


class BatchPrefetcher:
    """Returns batches by step number while threads already fill the next two.

    A thread takes one part after another, of this batch and then of the next. None waits for the slowest thread at the
    end of a batch, and at most two batches wait in memory, however many threads there are.

    Args:
        begin: returns the empty batch of a step, the function that fills in a part, and its argument tuples.
        stop: number of steps.
        threads: number of threads; the number of available cores by default.
    """

    def __init__(self, begin: Callable[[int], PendingBatch], stop: int, threads: int | None = None) -> None:
        self._begin, self._stop, self._threads = begin, stop, threads or available_cores()
        self._begun: dict[int, tuple[Any, list[concurrent.futures.Future]]] = {}
        self._lock = threading.Lock()

    def __call__(self, step: int) -> Any:
        """Return the filled batch of a step. Steps may start over or jump."""
        with self._lock:
            if step not in self._begun:  # the consumer did not go on with the next step
                self._cancel()
            for coming in range(step, min(step + 1 + _AHEAD, self._stop)):
                if coming not in self._begun:
                    self._begun[coming] = self._start(coming)
            batch, jobs = self._begun.pop(step)
        for job in jobs:
            job.result()
        return batch

    def _start(self, step):
        batch, fill, parts = self._begin(step)
        remaining = iter(parts)  # a list's iterator may be shared by threads

        def work():
            for part in remaining:
                fill(*part)

        pool = _pool(self._threads)
        return batch, [pool.submit(work) for _ in range(self._threads)]

    def _cancel(self):
        for _, jobs in self._begun.values():
            for job in jobs:
                job.cancel()
        self._begun.clear()


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool(threads):
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="images")
