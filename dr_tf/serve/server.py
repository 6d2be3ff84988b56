"""Run the application on a socket until a signal ends it."""

from __future__ import annotations

import math
import socket

import uvicorn
from fastapi import FastAPI

from dr_tf.console import UserError
from dr_tf.safe_names import printable
from dr_tf.serve.limits import Limits

_BACKLOG = 1024  # connections that wait to be accepted
_TO_SEND = 5  # seconds to send the last answers


def listen(address: str, port: int) -> socket.socket:
    """Open the socket of the service.

    Args:
        address: the address of an interface of this machine.
        port: 0 for any free one.

    Raises:
        UserError: the address cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UserError(f"{printable(address)}:{port} cannot be used: {error.strerror}") from None


def url_of(listening: socket.socket) -> str:
    """Return the URL of a socket."""
    address, port = listening.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def make_server(application: FastAPI, limits: Limits) -> uvicorn.Server:
    """Return the server of an application.

    `run(sockets=[...])` serves until SIGTERM or Ctrl-C. It then accepts nothing more, finishes the requests that are in the
    service, and passes the signal on to the handler that was there before.
    """
    config = uvicorn.Config(
        application,
        loop="asyncio",
        ws="none",
        log_level="warning",
        access_log=False,  # addresses of clients are nothing that has to be kept
        server_header=False,
        timeout_graceful_shutdown=math.ceil(limits.seconds) + _TO_SEND,
    )
    return uvicorn.Server(config)
