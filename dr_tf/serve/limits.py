"""`Limits` of the service, and `Admission`, which refuses requests that exceed them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator

from dr_tf.serve.request_error import RequestError

_REMEMBERED = 64  # finished requests, for the rate
_LONGEST_WAIT = 10  # seconds that a client is asked to wait at most


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the service accepts.

    Attributes:
        requests: the most requests that are read, waiting or being decided at a time.
        request_bytes: the most bytes of one request.
        total_bytes: the most bytes of all requests at a time.
        seconds: the longest time for one request, from its first byte to its answer.
        batch: the most cases in one call of the network.
    """

    requests: int = 256
    request_bytes: int = 64_000_000
    total_bytes: int = 512_000_000
    seconds: float = 60.0
    batch: int = 16


class Admission:
    """Counts the requests in the service and refuses those for which there is no room.

    Args:
        limits: of the service.
        now: the clock, in seconds.
    """

    def __init__(self, limits: Limits, now: Callable[[], float] = time.monotonic):
        self._limits, self._now = limits, now
        self._finished: collections.deque[float] = collections.deque([now()], _REMEMBERED)
        self.requests, self.bytes = 0, 0

    @property
    def has_room(self) -> bool:
        """Whether a small request would be accepted now."""
        return self.requests < self._limits.requests and self.bytes < self._limits.total_bytes

    @contextlib.contextmanager
    def place(self, size: int | None) -> Iterator[None]:
        """Hold a place for one request in the `with` block.

        Args:
            size: bytes of the request; None if it does not state them, which counts as the most that it may have.

        Raises:
            RequestError: 413 for a request that is too large, 429 without room for it.
        """
        size = self._limits.request_bytes if size is None else size
        if size > self._limits.request_bytes:
            raise too_large(self._limits)
        if not self.has_room or (self.requests and self.bytes + size > self._limits.total_bytes):
            seconds = self.retry_after()
            raise RequestError(429, f"too many requests: try again in {seconds} s", {"Retry-After": str(seconds)})
        self.requests, self.bytes = self.requests + 1, self.bytes + size
        try:
            yield
        finally:
            self.requests, self.bytes = self.requests - 1, self.bytes - size
            self._finished.append(self._now())

    def retry_after(self) -> int:
        """Return the seconds in which half of the waiting requests are answered, at the present rate."""
        seconds = self._now() - self._finished[0]
        rate = (len(self._finished) - 1) / seconds if seconds > 0 else 0.0
        return min(_LONGEST_WAIT, max(1, math.ceil(self.requests / rate / 2))) if rate else 1


def too_large(limits: Limits) -> RequestError:
    """Return the RequestError of a request with too many bytes."""
    return RequestError(413, f"the request is over {limits.request_bytes / 1e6:g} MB")
