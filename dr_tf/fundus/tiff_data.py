"""Whether the compressed data of a TIFF's strips or tiles are what their encoder wrote.

libtiff reports no error to OpenCV's callers, and does not look at all: it never reads deflate's checksum of a strip that is
filled before, and of LZW it takes what fits. Deflate's checksum finds every change. LZW has none: its codes must exist
and fill each strip exactly, up to the end that the encoder marked; a code changed to another of equal length passes, as a
changed byte does that is not compressed. JPEG strips are decoded once more, for libjpeg to say aloud what it finds.
"""

import math
import zlib

import cv2
import numpy as np

from dr_tf.fundus.header import BadImageError, read_header
from dr_tf.fundus.tiff import (
    COMPRESSION,
    HEIGHT,
    JPEG_TABLES,
    TILES,
    one,
    part_size,
    parts,
    read_tags,
    row_bytes,
)

_AT_ONCE = 1 << 20


def fault(data):
    """What is wrong with the compressed data of the TIFF in `data`, or ""."""
    tags = read_tags(data)
    compression = one(tags, COMPRESSION)
    if compression != _JPEG and compression not in _FILLS:
        return f"a TIFF of compression {compression}, of which damage cannot be told; save it with LZW, deflate or none"
    if not tags.get(TILES[0]) and len(parts(tags)) < math.ceil(one(tags, HEIGHT) / max(part_size(tags)[1], 1)):
        return "the TIFF file is damaged"
    for part, rows in _parts(data, tags):
        if compression == _JPEG:
            whole = _is_jpeg(part, tags)
        else:
            whole = any(_FILLS[compression](part, row_bytes(tags) * count) for count in rows)
        if not whole:
            return "the TIFF file is damaged"
    return ""


def _parts(data, tags):
    """(bytes, the numbers of rows that they may hold) of each strip or tile; some pad the last strip, others do not."""
    _, rows = part_size(tags)
    down = max(1, math.ceil(one(tags, HEIGHT) / max(rows, 1)))
    for number, (offset, size) in enumerate(parts(tags)):
        last = not tags.get(TILES[0]) and number % down == down - 1
        yield (
            memoryview(data)[offset : offset + size],
            (one(tags, HEIGHT) - (down - 1) * rows, rows) if last else (rows,),
        )


def _raw(part, size):
    return len(part) >= size


def _deflate(part, size):
    """Its checksum agrees, and it holds as many bytes as the strip."""
    inflate, found = zlib.decompressobj(), 0
    try:
        rest = part
        while not inflate.eof and len(rest):
            found += len(inflate.decompress(rest, _AT_ONCE))
            rest = inflate.unconsumed_tail
            if found > size:
                return False
    except zlib.error:
        return False
    return inflate.eof and found == size


def _packbits(part, size):
    position, found = 0, 0
    while position < len(part) and found < size:
        head = part[position]
        literal = head < 128
        found += head + 1 if literal else 257 - head if head > 128 else 0
        position += head + 2 if literal else 2 if head > 128 else 1
    return found == size and len(part) - 1 <= position <= len(part)  # some pad to an even length


# Codes grow from 9 to 12 bits as the table fills, one code early, so of the codes after a clear all places are known.
_CLEAR, _END, _FIRST = 256, 257, 258
_NUMBER = np.arange(4096 - _FIRST + 2)
_BITS = np.select([_NUMBER + _FIRST < 512, _NUMBER + _FIRST < 1024, _NUMBER + _FIRST < 2048], [9, 10, 11], 12)
_ENDS = np.cumsum(_BITS)
_WINDOW = int(_ENDS[-1]) // 8 + 2


def _lzw(part, size):
    """Every code stands for something by the time it comes, and all of them together for the strip, up to the end."""
    bits, position, found = 8 * len(part), 0, 0
    while found <= size:
        codes = _codes(part, position)
        ends = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        length = _length(codes[: ends[0]] if len(ends) else codes)
        if length is None:
            return False
        found += length
        if not len(ends):  # some leave the end out
            return found == size and len(codes) < len(_BITS)
        position += int(_ENDS[ends[0]])
        if codes[ends[0]] == _END:
            return found == size and bits - position < 16
    return False


def _codes(part, position):
    """Those from a bit on, as they are where a clear comes before: at most as many as the table holds."""
    first, shift = divmod(position, 8)
    data = np.frombuffer(bytes(part[first : first + _WINDOW]) + bytes(3), np.uint8).astype(np.int64)
    count = int(np.searchsorted(shift + _ENDS, 8 * (len(data) - 3), side="right"))
    bits = _BITS[:count]
    start = shift + _ENDS[:count] - bits
    at = start >> 3
    three = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
    return three >> (24 - bits - (start & 7)) & (1 << bits) - 1


def _length(codes):
    """How many bytes the codes after a clear stand for; None where one stands for nothing.

    Code 258 + i is the string of the i-th code and a byte: lengths are depths in a forest, found by doubling the steps.
    """
    count = len(codes)
    before = codes - _FIRST
    if (before >= np.arange(count)).any():
        return None
    before = np.append(np.where(before < 0, count, before), count)  # which is beyond all roots, and of no length
    length = np.append(np.ones(count, np.int64), 0)
    while (before < count).any():
        length, before = length + length[before], before[before]
    return int(length.sum())


def _is_jpeg(part, tags):
    """It is whole, and of the part's size; libjpeg says on descriptor 2 what else is damaged."""
    part, tables = bytes(part), bytes(tags.get(JPEG_TABLES) or ())
    stream = tables[:-2] + part[2:] if tables else part
    try:
        header = read_header(stream)
        width, height = part_size(tags)
        if header.width > width or header.height > height:
            return False
        return cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None
    except (BadImageError, cv2.error):
        return False


_JPEG = 7
_FILLS = {1: _raw, 5: _lzw, 8: _deflate, 32946: _deflate, 32773: _packbits}
