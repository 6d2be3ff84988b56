"""Check that the compressed strips or tiles of a TIFF file are undamaged.

libtiff does not detect all damage, and OpenCV does not pass its errors on. libtiff never reads deflate's checksum once
a strip is full, and it takes whatever an LZW stream decodes to. The checks here are, by compression:

- Deflate: the checksum, which detects every change.
- LZW has no checksum. Every code must exist when it is used, and the codes must fill each strip exactly, up to the
  end-of-information code. A code changed to another of equal length passes.
- Uncompressed data and PackBits: only the length. A changed pixel passes.
- JPEG strips: each is decoded once more by itself, so that libjpeg reports damage on standard error.
"""

import math
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from dr_tf.fundus.header import BadImageError, read_header
from dr_tf.fundus.tiff import (
    COMPRESSION,
    HEIGHT,
    JPEG_TABLES,
    TILES,
    Tags,
    read_tags,
    row_bytes,
    segment_size,
    segments,
    tag_value,
)

_INFLATE_BYTES = 1 << 20  # at a time


def find_damage(data: bytes) -> str:
    """Return what is wrong with the compressed data of a TIFF file, or "" if nothing is."""
    tags = read_tags(data)
    compression = tag_value(tags, COMPRESSION)
    if compression != _JPEG and compression not in _CHECKS:
        return (
            f"TIFF compression {compression} is not supported, as damage to it cannot be detected; "
            "save the file with LZW, deflate or no compression"
        )
    if not tags.get(TILES[0]):
        strips = math.ceil(tag_value(tags, HEIGHT) / max(segment_size(tags)[1], 1))
        if len(segments(tags)) < strips:
            return "the TIFF file is damaged"
    for segment, row_counts in _segments_with_rows(data, tags):
        if compression == _JPEG:
            is_whole = _is_whole_jpeg(segment, tags)
        else:
            is_whole = any(_CHECKS[compression](segment, row_bytes(tags) * rows) for rows in row_counts)
        if not is_whole:
            return "the TIFF file is damaged"
    return ""


def _segments_with_rows(data: bytes, tags: Tags) -> Iterator[tuple[memoryview, tuple[int, ...]]]:
    """Yield each strip or tile with the possible numbers of its rows: some encoders pad the last strip."""
    _, rows = segment_size(tags)
    per_plane = max(1, math.ceil(tag_value(tags, HEIGHT) / max(rows, 1)))
    for number, (offset, size) in enumerate(segments(tags)):
        is_last = not tags.get(TILES[0]) and number % per_plane == per_plane - 1
        yield (
            memoryview(data)[offset : offset + size],
            (tag_value(tags, HEIGHT) - (per_plane - 1) * rows, rows) if is_last else (rows,),
        )


def _is_whole_uncompressed(segment: memoryview, size: int) -> bool:
    return len(segment) >= size


def _is_whole_deflate(segment: memoryview, size: int) -> bool:
    """Return whether the checksum matches and the data decompress to `size` bytes."""
    inflate, decoded = zlib.decompressobj(), 0
    try:
        rest: memoryview | bytes = segment
        while not inflate.eof and len(rest):
            decoded += len(inflate.decompress(rest, _INFLATE_BYTES))
            rest = inflate.unconsumed_tail
            if decoded > size:
                return False
    except zlib.error:
        return False
    return inflate.eof and decoded == size


def _is_whole_packbits(segment: memoryview, size: int) -> bool:
    position, decoded = 0, 0
    while position < len(segment) and decoded < size:
        head = segment[position]
        is_literal = head < 128
        decoded += head + 1 if is_literal else 257 - head if head > 128 else 0
        position += head + 2 if is_literal else 2 if head > 128 else 1
    return decoded == size and len(segment) - 1 <= position <= len(segment)  # some encoders pad to an even length


# --- LZW ------------------------------------------------------------------------------------------------------------

# Codes grow from 9 to 12 bits as the table fills, each time one code early. The widths depend only on the number of
# codes since the last clear code, so the bit positions of all codes up to the next one are known in advance.
_CLEAR, _END, _FIRST_STRING = 256, 257, 258
_TABLE_SIZES = np.arange(4096 - _FIRST_STRING + 2) + _FIRST_STRING
_CODE_BITS = np.select([_TABLE_SIZES < 512, _TABLE_SIZES < 1024, _TABLE_SIZES < 2048], [9, 10, 11], 12)
_CODE_ENDS = np.cumsum(_CODE_BITS)
_WINDOW_BYTES = int(_CODE_ENDS[-1]) // 8 + 2


def _is_whole_lzw(segment: memoryview, size: int) -> bool:
    """Return whether every code is valid and the codes decode to `size` bytes, up to the end-of-information code."""
    bits, position, decoded = 8 * len(segment), 0, 0
    while decoded <= size:
        codes = _read_codes(segment, position)
        stops = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        length = _decoded_length(codes[: stops[0]] if len(stops) else codes)
        if length is None:
            return False
        decoded += length
        if not len(stops):  # some encoders leave the end-of-information code out
            return decoded == size and len(codes) < len(_CODE_BITS)
        position += int(_CODE_ENDS[stops[0]])
        if codes[stops[0]] == _END:
            return decoded == size and bits - position < 16
    return False


def _read_codes(segment: memoryview, position: int) -> np.ndarray:
    """Read codes from bit `position` on, which follows a clear code; at most as many as the table has entries."""
    first, shift = divmod(position, 8)
    data = np.frombuffer(bytes(segment[first : first + _WINDOW_BYTES]) + bytes(3), np.uint8).astype(np.int64)
    count = int(np.searchsorted(shift + _CODE_ENDS, 8 * (len(data) - 3), side="right"))
    bits = _CODE_BITS[:count]
    start = shift + _CODE_ENDS[:count] - bits
    byte = start >> 3
    three_bytes = data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]
    return three_bytes >> (24 - bits - (start & 7)) & (1 << bits) - 1


def _decoded_length(codes: np.ndarray) -> int | None:
    """Return how many bytes the codes after a clear code decode to, or None if one of them is invalid.

    Code 258 + i is the string of the i-th code plus one byte, so a code's length is its depth in a forest. The depths
    are computed by pointer jumping: each step doubles the distance that a code's pointer reaches.
    """
    count = len(codes)
    parent = codes - _FIRST_STRING
    if (parent >= np.arange(count)).any():
        return None
    parent = np.append(np.where(parent < 0, count, parent), count)  # `count` is an extra root above all, of length 0
    length = np.append(np.ones(count, np.int64), 0)
    while (parent < count).any():
        length, parent = length + length[parent], parent[parent]
    return int(length.sum())


def _is_whole_jpeg(segment: memoryview, tags: Tags) -> bool:
    """Return whether a JPEG strip is complete and within the segment's size.

    libjpeg reports any other damage on standard error, where the caller finds it.
    """
    jpeg, tables = bytes(segment), bytes(tags.get(JPEG_TABLES) or ())
    stream = tables[:-2] + jpeg[2:] if tables else jpeg
    try:
        header = read_header(stream)
        width, height = segment_size(tags)
        if header.width > width or header.height > height:
            return False
        return cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None
    except (BadImageError, cv2.error):
        return False


_JPEG = 7
_CHECKS: dict[int, Callable[[memoryview, int], bool]] = {
    1: _is_whole_uncompressed,
    5: _is_whole_lzw,
    8: _is_whole_deflate,
    32946: _is_whole_deflate,
    32773: _is_whole_packbits,
}
