"""Batches made by threads before they are asked for.

Why not `prefetch` of tf.data: its thread would be inside Python at any moment, and where the interpreter ends at such a
moment TensorFlow waits for it forever. Here nothing calls into Python but who asks for a batch.
"""

import concurrent.futures
import functools
import os
import threading

_AHEAD = 2


class Ahead:
    """`begin(step)` gives a batch that is still empty, what fills it, and the tasks of that; calling gives it filled.

    Threads take one task after another, of this batch and then of the next: none waits for the slowest at a batch's
    end, and what waits in memory is two batches, however many threads there are.
    """

    def __init__(self, begin, stop, threads=None):
        self._begin, self._stop, self._threads = begin, stop, threads or cores()
        self._begun, self._lock = {}, threading.Lock()

    def __call__(self, step):
        with self._lock:
            if step not in self._begun:  # somebody starts over, and not from where the last one left
                self._forget()
            for coming in range(step, min(step + 1 + _AHEAD, self._stop)):
                if coming not in self._begun:
                    self._begun[coming] = self._start(coming)
            batch, jobs = self._begun.pop(step)
        for job in jobs:
            job.result()
        return batch

    def _start(self, step):
        batch, work, tasks = self._begin(step)
        tasks = iter(tasks)  # of a list: threads may share it

        def take():
            for task in tasks:
                work(*task)

        pool = _pool(self._threads)
        return batch, [pool.submit(take) for _ in range(self._threads)]

    def _forget(self):
        for _, jobs in self._begun.values():
            for job in jobs:
                job.cancel()
        self._begun.clear()


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@functools.cache
def _pool(threads):
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="photographs")
