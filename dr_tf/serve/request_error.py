"""`RequestError`: why a request is not answered, as an HTTP status and one sentence."""

from __future__ import annotations

from collections.abc import Mapping


class RequestError(Exception):
    """A request that is not answered.

    Args:
        status: the HTTP status.
        detail: one sentence for the user.
        headers: further headers of the response.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})
