"""Check an ONNX file of unknown origin before ONNX Runtime opens it.

A file may name custom operators, which a library would have to provide, and tensors in other files. Neither is needed
for a network of dr_tf, and both are refused. The file is a Protocol Buffers message; this module reads its structure
with the few lines that the wire format takes, as the package `onnx` is not part of a base install.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

from dr_tf.console import UserError

MAX_BYTES = 1 << 31  # no valid message is larger
_DOMAINS = (b"", b"ai.onnx")
_MAX_DEPTH = 20
# Field numbers of onnx.proto: message -> {field: message inside it}.
_INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_NODE_DOMAIN, _TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 7, 13, 14


def read_safe_onnx(path: str | os.PathLike) -> bytes:
    """Read an ONNX file that holds all of its data and only operators of the ONNX standard.

    Raises:
        UserError: the file is missing, too large or damaged, or has custom operators or external data.
    """
    path = pathlib.Path(path)
    try:
        if not path.is_file():
            raise UserError(f"{path} is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than an ONNX file can be")
        data = path.read_bytes()
        _check_message(memoryview(data), "model", 0)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except _RefusedError as error:
        raise UserError(f"{path} is refused: {error}") from None
    except (IndexError, ValueError):
        raise UserError(f"{path} cannot be read as an ONNX file: it is damaged") from None
    return data


class _RefusedError(Exception):
    """The file is well formed, but has something that is not accepted."""


def _check_message(message: memoryview, kind: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise _RefusedError("its graphs are nested too deeply")
    inner = _INNER.get(kind, {})
    for field, value in _fields(message):
        if kind == "node" and field == _NODE_DOMAIN and bytes(value) not in _DOMAINS:
            name = bytes(value)[:40].decode("ascii", "replace")
            raise _RefusedError(f"it has an operator of the domain {name!r}, and only standard operators are accepted")
        if kind == "tensor" and field in (_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION) and value:
            raise _RefusedError("it has tensors in other files")
        if field in inner and isinstance(value, memoryview):
            _check_message(value, inner[field], depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, number or bytes) of a message. Raises ValueError or IndexError if it is damaged."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = _varint(message, at)
            yield field, value
            continue
        if wire_type == 2:
            size, at = _varint(message, at)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire_type}")
        if at + size > len(message):
            raise ValueError("it ends inside a field")
        yield field, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """(the number that begins at a position, the position after it)."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")
