"""Check that the files of a folder are those that were released: SHA256SUMS lists them, and SHA256SUMS.sig signs the list.

The signature is one of Ed25519 (RFC 8032). Its arithmetic is here, as no package of a base install has it. To make both
files: `make sign KEY=private.pem`.
"""

from __future__ import annotations

import hashlib
import os
import pathlib

from dr_tf.console import UserError
from dr_tf.files import sha256

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"

_PRIME = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point
_D = -121665 * pow(121666, -1, _PRIME) % _PRIME  # of the curve -x² + y² = 1 + d x² y²
Point = tuple[int, int, int, int]  # x/z, y/z as (x, y, z, xy/z)


def check_signed(folder: str | os.PathLike, public_key: bytes) -> None:
    """Check that a folder holds the files that its signed list names, unchanged.

    Args:
        folder: the folder.
        public_key: 32 bytes.

    Raises:
        UserError: the list or its signature is missing, or a file is missing or was changed.
    """
    folder = pathlib.Path(folder)
    try:
        listed, signature = (folder / SUMS).read_bytes(), (folder / SIGNATURE).read_bytes()
    except OSError as error:
        raise _changed(pathlib.Path(error.filename), "it is missing") from None
    if not verify(public_key, listed, signature):
        raise _changed(folder / SUMS, "its signature is not by the key of dr_tf")
    for line in listed.decode().splitlines():
        digest, name = line.split("  ", 1)
        if not (folder / name).is_file():
            raise _changed(folder / name, "it is missing")
        if sha256(folder / name) != digest:
            raise _changed(folder / name, "its content was changed")


def _changed(path: pathlib.Path, how: str) -> UserError:
    return UserError(f"{path} is not as it was released, {how}: install dr_tf again")


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether an Ed25519 signature is valid.

    Args:
        public_key: 32 bytes.
        message: what was signed.
        signature: 64 bytes.
    """
    if len(signature) != 64 or (s := int.from_bytes(signature[32:], "little")) >= _ORDER:
        return False
    key, r = _decode(public_key), _decode(signature[:32])
    if key is None or r is None:
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    x, y, z, xy = key
    minus_key = _PRIME - x, y, z, _PRIME - xy
    # r = s base - digest key, of points with z = 1 and any z
    expected = _sum_of_products(s, _BASE, int.from_bytes(digest, "little") % _ORDER, minus_key)
    return all((expected[axis] - r[axis] * expected[2]) % _PRIME == 0 for axis in (0, 1))


def _decode(data: bytes) -> Point | None:
    """The point with this encoding, y and the lowest bit of x; None if there is none."""
    number = int.from_bytes(data, "little")
    odd, y = number >> 255, number & ((1 << 255) - 1)
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _PRIME) % _PRIME
    x = pow(square, (_PRIME + 3) // 8, _PRIME)
    if (x * x - square) % _PRIME:
        x = x * pow(2, (_PRIME - 1) // 4, _PRIME) % _PRIME
    if len(data) != 32 or y >= _PRIME or (x * x - square) % _PRIME or (x == 0 and odd):
        return None
    x = _PRIME - x if x & 1 != odd else x
    return x, y, 1, x * y % _PRIME


def _add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * p[3] * q[3] * _D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _PRIME, g * h % _PRIME, f * g % _PRIME, e * h % _PRIME


def _sum_of_products(a: int, p: Point, b: int, q: Point) -> Point:
    """a p + b q, in the time of one of the products."""
    points = {(1, 0): p, (0, 1): q, (1, 1): _add(p, q)}
    total: Point = (0, 1, 1, 0)
    for bit in reversed(range(_ORDER.bit_length())):
        total = _add(total, total)
        if point := points.get((a >> bit & 1, b >> bit & 1)):
            total = _add(total, point)
    return total


_BASE: Point = _decode((4 * pow(5, -1, _PRIME) % _PRIME).to_bytes(32, "little"))  # type: ignore[assignment]
