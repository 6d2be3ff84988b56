"""`Batcher`: collects what simultaneous requests need of the network, and computes it in batches."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import threading
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
        on_batch: called with the size of each batch, in the thread.
    """

    def __init__(
        self,
        compute: Callable[[Hashable, Sequence[Item]], Sequence[Result]],
        max_batch: int,
        on_batch: Callable[[int], object] = lambda size: None,
    ):
        self._compute, self._max_batch, self._on_batch = compute, max_batch, on_batch
        self._waiting: collections.deque[_Waiting[Item, Result]] = collections.deque()
        self._changed, self._closed = threading.Condition(), False
        # It takes its batches itself: after each it would otherwise wait for an event loop that is busy with uploads.
        threading.Thread(target=self._run, name="network", daemon=True).start()

    async def submit(self, key: Hashable, item: Item) -> Result:
        """Return the result of an item. A caller that is cancelled before its batch starts costs nothing.

        Args:
            key: items of one batch have equal keys.
            item: what to compute.

        Raises:
            RequestError: 503 after `close`.
            Exception: whatever `compute` raises for the batch.
        """
        waiting: _Waiting[Item, Result] = _Waiting(key, item, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closed:
                raise RequestError(503, "the service is stopping")
            self._waiting.append(waiting)
            self._changed.notify()
        try:
            return await waiting.result
        except asyncio.CancelledError:
            with self._changed, contextlib.suppress(ValueError):  # it is in a batch
                self._waiting.remove(waiting)  # and its photograph leaves the memory
            raise

    def close(self) -> None:
        """End the thread after its batch. What is waiting is not computed."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._on_batch(len(batch))
            results: Sequence[Result | Exception]
            try:
                results = self._compute(batch[0].key, [waiting.item for waiting in batch])
            except Exception as error:
                results = [error] * len(batch)
            with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
                batch[0].result.get_loop().call_soon_threadsafe(_deliver, batch, results)

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """Wait for items; take the oldest and those with its key; the others keep their places. Empty after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            key = self._waiting[0].key
            batch = [waiting for waiting in self._waiting if waiting.key == key][: self._max_batch]
            for waiting in batch:
                self._waiting.remove(waiting)
            return batch


def _deliver(batch: Sequence[_Waiting], results: Sequence[object]) -> None:
    for waiting, result in zip(batch, results, strict=True):
        if waiting.result.done():  # its caller was cancelled meanwhile
            continue
        if isinstance(result, Exception):
            waiting.result.set_exception(result)
        else:
            waiting.result.set_result(result)
