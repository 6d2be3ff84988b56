"""`Batcher`: collects what simultaneous requests need of the network, and computes it in batches."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from dr_tf.serve.request_error import RequestError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(eq=False)  # each is itself: arrays cannot be compared
class _Waiting(Generic[Item, Result]):
    key: Hashable
    item: Item
    result: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Computes results in batches, in a thread of its own, one batch at a time and in order of arrival.

    A batch starts as soon as the thread is free: a single request does not wait for others, and while the thread is busy
    the next batch gathers.

    Args:
        compute: function of (key, items) that returns a result for each item.
        max_batch: the most items in a batch.
        on_batch: called with the size of each batch.
    """

    def __init__(
        self,
        compute: Callable[[Hashable, Sequence[Item]], Sequence[Result]],
        max_batch: int,
        on_batch: Callable[[int], object] = lambda size: None,
    ):
        self._compute, self._max_batch, self._on_batch = compute, max_batch, on_batch
        self._waiting: collections.deque[_Waiting[Item, Result]] = collections.deque()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "network")
        self._running: asyncio.Task[None] | None = None

    async def submit(self, key: Hashable, item: Item) -> Result:
        """Return the result of an item. A caller that is cancelled before its batch starts costs nothing.

        Args:
            key: items of one batch have equal keys.
            item: what to compute.

        Raises:
            Exception: whatever `compute` raises for the batch.
        """
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(key, item, result)
        self._waiting.append(waiting)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        try:
            return await result
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # it is in a batch
                self._waiting.remove(waiting)  # and its photograph leaves the memory
            raise

    def close(self) -> None:
        """End the thread. What is waiting is not computed."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while batch := self._next_batch():
            self._on_batch(len(batch))
            try:
                items = [waiting.item for waiting in batch]
                call = asyncio.get_running_loop().run_in_executor(self._thread, self._compute, batch[0].key, items)
                for waiting, result in zip(batch, await call, strict=True):
                    if not waiting.result.done():  # its caller may have been cancelled meanwhile
                        waiting.result.set_result(result)
            except Exception as error:
                _fail(batch, error)
            except asyncio.CancelledError:
                _fail(batch, RequestError(503, "the service is stopping"))
                raise

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """Take the oldest item and the items with its key; those with other keys keep their places."""
        batch: list[_Waiting[Item, Result]] = []
        others: list[_Waiting[Item, Result]] = []
        while self._waiting and len(batch) < self._max_batch:
            waiting = self._waiting.popleft()
            if waiting.result.done():  # cancelled
                continue
            (batch if not batch or waiting.key == batch[0].key else others).append(waiting)
        self._waiting.extendleft(reversed(others))
        return batch


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.result.done():
            waiting.result.set_exception(error)
