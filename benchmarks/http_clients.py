"""Clients that send photographs to `dr_tf serve` on loopback and compare the answers, for `serve.py`."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterable, Mapping

ROUNDING = 1e-9  # relative
_BOUNDARY = b"----dr_tf"


@dataclasses.dataclass
class Tally:
    """What the clients saw.

    Attributes:
        answered: requests with a decision.
        times: when those of these came that came while clients began new requests.
        wrong: how the answers differ that are not those of `predict`.
        refused: responses with the status 429.
        lost: requests without an answer, by reason.
        seconds: from the first byte of a request to its answer, its refusals included.
    """

    answered: int = 0
    refused: int = 0
    times: list[float] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)
    lost: list[str] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Tally:
        """Return what the clients of several loads saw together."""
        total = cls()
        for tally in tallies:
            for field in dataclasses.fields(cls):
                setattr(total, field.name, getattr(total, field.name) + getattr(tally, field.name))
        return total


async def drive(
    port: int, photographs: Mapping[str, bytes], expected: Mapping[str, dict], *, clients: int, seconds: float
) -> Tally:
    """Let clients send photographs for some time; each then finishes the one that it has begun.

    Args:
        port: of the service on loopback.
        photographs: {name: bytes of the file}.
        expected: {name: the decision of `predict`}.
        clients: how many send at a time.
        seconds: how long they begin new requests.
    """
    tally, names = Tally(), itertools.cycle(photographs)
    bodies = {name: form_of(name, data) for name, data in photographs.items()}
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            name, start = next(names), time.monotonic()
            try:
                answer = await _until_answered(port, bodies[name], tally)
            except (OSError, EOFError, ValueError, RuntimeError) as error:
                tally.lost.append(f"{name}: {error!r}")
                continue
            tally.answered += 1
            if not is_same(answer["decisions"], [expected[name]]):
                tally.wrong.append(f"{name}: {_difference(answer['decisions'][0], expected[name])}")
            if time.monotonic() < end:
                tally.times.append(time.monotonic())
            tally.seconds.append(time.monotonic() - start)

    await asyncio.gather(*(client() for _ in range(clients)))
    return tally


def is_same(answer: object, expected: object) -> bool:
    """Return whether two pieces of JSON are the same; numbers may differ by rounding, which depends on the batch."""
    if isinstance(answer, dict) and isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(is_same(answer[key], expected[key]) for key in expected)
    if isinstance(answer, list) and isinstance(expected, list):
        return len(answer) == len(expected) and all(map(is_same, answer, expected))
    if isinstance(answer, float) and isinstance(expected, float):
        return math.isclose(answer, expected, rel_tol=ROUNDING)
    return answer == expected


def _difference(answer: Mapping, expected: Mapping) -> str:
    return "; ".join(
        f"{key} {answer.get(key)} != {value}" for key, value in expected.items() if answer.get(key) != value
    )


def form_of(name: str, data: bytes) -> bytes:
    """Return the form that holds a photograph."""
    disposition = f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
    return b"--" + _BOUNDARY + b"\r\n" + disposition + data + b"\r\n--" + _BOUNDARY + b"--\r\n"


async def _until_answered(port: int, body: bytes, tally: Tally) -> dict:
    while True:
        status, headers, content = await _post(port, body)
        if status == 200:
            return json.loads(content)
        if status != 429:
            raise RuntimeError(f"status {status}: {content[:200]!r}")
        tally.refused += 1
        await asyncio.sleep(float(headers["retry-after"]))


async def _post(port: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request. The body is sent only once the service asks for it, as curl does with large ones."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = (
            "POST /v1/decide HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode())
        status, headers = await _head(reader)
        if status == 100:
            writer.write(body)
            status, headers = await _head(reader)
        return status, headers, await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().splitlines()
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in (v.partition(":") for v in lines)}
