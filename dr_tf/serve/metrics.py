"""`Metrics`: what the service counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service. Nothing of what is uploaded is in them.

    Args:
        waiting: returns the number of requests in the service.
    """

    def __init__(self, waiting: Callable[[], float]):
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "dr_tf_requests", "Requests for a decision, by HTTP status", ["status"], registry=self._registry
        )
        self._seconds = Histogram(
            "dr_tf_request_seconds", "Time to answer a request", buckets=_SECONDS, registry=self._registry
        )
        self._batches = Histogram(
            "dr_tf_batch_cases", "Cases in a call of the network", buckets=_SIZES, registry=self._registry
        )
        self._decisions = Counter("dr_tf_decisions", "Decisions, by action", ["action"], registry=self._registry)
        Gauge("dr_tf_queue_requests", "Requests in the service", registry=self._registry).set_function(waiting)

    def request(self, status: int, seconds: float) -> None:
        """Count a request and the time that it took; that of a refused one is not measured."""
        self._requests.labels(str(status)).inc()
        if status != 429:
            self._seconds.observe(seconds)

    def batch(self, size: int) -> None:
        """Count a call of the network."""
        self._batches.observe(size)

    def decision(self, action: str) -> None:
        """Count a decision."""
        self._decisions.labels(action).inc()

    def text(self) -> bytes:
        """Return all counters as Prometheus reads them."""
        return generate_latest(self._registry)
