"""Read the tags of a TIFF file, find its strips and tiles, and split it into bands of rows.

EXIF metadata is stored as a small TIFF, so `read_tags` reads the orientation of JPEG and PNG files, too. A "segment" is
a strip or a tile: the unit in which a TIFF compresses its pixels.
"""

import math
import struct
from collections.abc import Callable, Iterable, Iterator

Tags = dict[int, tuple[int, ...]]

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, ROWS = 256, 257, 258, 259, 262, 274, 277, 278
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, ALPHA, FORMAT, JPEG_TABLES = 284, 317, 322, 323, 338, 339, 347
STRIPS, TILES = (273, 279), (324, 325)  # offsets, sizes
_KNOWN_TAGS = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, ROWS, PLANAR, TILE_WIDTH, TILE_HEIGHT}
    | {PREDICTOR, ALPHA, FORMAT, JPEG_TABLES, *STRIPS, *TILES}
)
_STRUCT_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}  # by TIFF field type
_DEFAULTS = {BITS: 1, COMPRESSION: 1, PHOTOMETRIC: 1, ORIENTATION: 1, SAMPLES: 1, PLANAR: 1, PREDICTOR: 1, FORMAT: 1}


def read_tags(data: bytes) -> Tags:
    """Return {tag: values} of the first directory of a TIFF or BigTIFF.

    A repeated tag keeps its first value, as in libtiff.

    Raises:
        struct.error: the file ends before a tag or its values.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (start,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, start)
    head, word = ("HHQ", "Q") if is_big else ("HHI", "I")
    entry = struct.calcsize("<" + head + word)
    first = start + (8 if is_big else 2)
    tags: Tags = {}
    for position in range(first, first + min(count, 4096) * entry, entry):
        tag, field_type, length = struct.unpack_from(order + head, data, position)
        if tag not in _KNOWN_TAGS or tag in tags:
            continue
        tags[tag] = ()
        if field_type not in _STRUCT_CODES or length > len(data):
            continue
        layout, offset = f"{order}{length}{_STRUCT_CODES[field_type]}", position + struct.calcsize("<" + head)
        if struct.calcsize(layout) > struct.calcsize("<" + word):  # too long for the entry, which then holds an offset
            (offset,) = struct.unpack_from(order + word, data, offset)
        tags[tag] = struct.unpack_from(layout, data, offset)
    return tags


def tag_value(tags: Tags, tag: int) -> int:
    """Return the first value of a tag, or the TIFF default (else 0) of an absent tag."""
    return (tags.get(tag) or (_DEFAULTS.get(tag, 0),))[0]


def segment_size(tags: Tags) -> tuple[int, int]:
    """Return (width, height) in pixels of a strip or tile."""
    width, height = tag_value(tags, WIDTH), tag_value(tags, HEIGHT)
    if tags.get(TILES[0]):
        return tag_value(tags, TILE_WIDTH), tag_value(tags, TILE_HEIGHT)
    return width, min(tag_value(tags, ROWS) or height, height)


def segments(tags: Tags) -> list[tuple[int, int]]:
    """Return (offset, size) in bytes of each strip or tile in the file."""
    offsets, sizes = TILES if tags.get(TILES[0]) else STRIPS
    return list(zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False))


def decoded_bytes(tags: Tags) -> tuple[int, int]:
    """Return (bytes per pixel, bytes of one decoded segment) in OpenCV's memory."""
    samples, depth = tag_value(tags, SAMPLES), max(1, (tag_value(tags, BITS) + 7) // 8)
    width, height = segment_size(tags)
    channels = 3 if tag_value(tags, PHOTOMETRIC) > 1 else 1
    return depth * max(samples, channels), width * height * (4 if depth == 1 else depth * samples)


def row_bytes(tags: Tags) -> int:
    """Return the bytes of one uncompressed row of a strip or tile."""
    samples = tag_value(tags, SAMPLES) if tag_value(tags, PLANAR) == 1 else 1
    return (segment_size(tags)[0] * samples * tag_value(tags, BITS) + 7) // 8


# --- Bands: a large TIFF is decoded some rows at a time --------------------------------------------------------------

_UNCOMPRESSED = 1
_BAND_COMPRESSIONS = frozenset({_UNCOMPRESSED, 5, 8, 32946, 32773})  # their strips need no tables from other tags
_BLACK_IS_ZERO, _RGB = 1, 2
_BAND_BYTES = 1 << 24
_COPIED_TAGS = (WIDTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, PREDICTOR, ALPHA, FORMAT)


def rows_per_band(tags: Tags) -> int:
    """Return how many rows each band has: a multiple of 8, or 0 for an image that cannot be split."""
    is_plain = tag_value(tags, COMPRESSION) in _BAND_COMPRESSIONS
    is_plain = is_plain and tag_value(tags, PHOTOMETRIC) in (_BLACK_IS_ZERO, _RGB)
    if not is_plain or tags.get(TILES[0]) or tag_value(tags, PLANAR) != 1 or len(tags.get(BITS, ())) > 8:
        return 0
    _, rows = segment_size(tags)
    if tag_value(tags, COMPRESSION) == _UNCOMPRESSED:  # an uncompressed strip can be cut at any row
        rows = 1
    smallest_band = 8 * rows * row_bytes(tags)  # in bytes
    return 8 * rows * max(1, _BAND_BYTES // smallest_band) if 0 < smallest_band <= 4 * _BAND_BYTES else 0


def row_bands(data: bytes, tags: Tags, rows: int) -> Iterator[tuple[int, bytes]]:
    """Yield (first row, a TIFF file of `rows` rows from there on) until the end of the image."""
    height, read_strips = tag_value(tags, HEIGHT), _strip_reader(data, tags)
    _, rows_per_strip = segment_size(tags)
    order = "<" if data[:2] == b"II" else ">"
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        if tag_value(tags, COMPRESSION) == _UNCOMPRESSED:
            yield top, _build_tiff(tags, bottom - top, bottom - top, [b"".join(read_strips(top, bottom))], order)
        else:
            strips = list(read_strips(top // rows_per_strip, math.ceil(bottom / rows_per_strip)))
            yield top, _build_tiff(tags, bottom - top, rows_per_strip, strips, order)


def _strip_reader(data: bytes, tags: Tags) -> Callable[[int, int], Iterable[memoryview]]:
    """Return a function (first, last) -> strips; of an uncompressed image it counts and returns rows instead."""
    view, strips = memoryview(data), segments(tags)
    if tag_value(tags, COMPRESSION) != _UNCOMPRESSED:
        return lambda first, last: (view[offset : offset + size] for offset, size in strips[first:last])
    length, (_, rows) = row_bytes(tags), segment_size(tags)
    starts = [strips[row // rows][0] + row % rows * length for row in range(tag_value(tags, HEIGHT))]
    return lambda first, last: (view[start : start + length] for start in starts[first:last])


def _build_tiff(
    tags: Tags, height: int, rows_per_strip: int, strips: list[bytes] | list[memoryview], order: str
) -> bytes:
    """Return a TIFF file of these strips: header, directory, values too long for their entry, strips."""
    fields = {tag: tags[tag] for tag in _COPIED_TAGS if tags.get(tag)}
    fields |= {HEIGHT: (height,), ROWS: (rows_per_strip,)}
    fields |= {STRIPS[0]: (0,) * len(strips), STRIPS[1]: tuple(map(len, strips))}
    directory_end = 8 + 2 + 12 * len(fields) + 4
    values_end = directory_end + sum(4 * len(values) for values in fields.values() if len(values) > 1)
    offset, offsets = values_end, []
    for strip in strips:
        offsets.append(offset)
        offset += len(strip)
    fields[STRIPS[0]] = tuple(offsets)
    entries: list[bytes] = []
    long_values: list[bytes] = []
    for tag, values in sorted(fields.items()):
        is_short = tag in (BITS, ALPHA, FORMAT)  # libtiff reads these as 16-bit values only
        packed = struct.pack(f"{order}{len(values)}{'H' if is_short else 'I'}", *values)
        inline = packed.ljust(4, b"\0")
        if len(packed) > 4:
            inline = struct.pack(order + "I", directory_end + sum(map(len, long_values)))
            long_values.append(packed.ljust(4 * len(values), b"\0"))
        entries.append(struct.pack(order + "HHI", tag, 3 if is_short else 4, len(values)) + inline)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    body = b"".join([header, *entries, bytes(4), *long_values])
    return b"".join([body.ljust(values_end, b"\0"), *strips])
