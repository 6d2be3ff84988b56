"""The tags of a TIFF, of which EXIF holds one, too."""

import math
import struct

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, ROWS = 256, 257, 258, 259, 262, 274, 277, 278
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, ALPHA, FORMAT, JPEG_TABLES = 284, 317, 322, 323, 338, 339, 347
STRIPS, TILES = (273, 279), (324, 325)  # offsets, sizes
_READ = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, ROWS, PLANAR, TILE_WIDTH, TILE_HEIGHT}
    | {PREDICTOR, ALPHA, FORMAT, JPEG_TABLES, *STRIPS, *TILES}
)
_TYPES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
_ABSENT = {BITS: 1, COMPRESSION: 1, PHOTOMETRIC: 1, ORIENTATION: 1, SAMPLES: 1, PLANAR: 1, PREDICTOR: 1, FORMAT: 1}


def read_tags(data):
    """{tag: values} of the first directory of a TIFF or BigTIFF; of a repeated tag the first, as libtiff has it."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    head, word = ("HHQ", "Q") if big else ("HHI", "I")
    entry = struct.calcsize("<" + head + word)
    tags = {}
    for position in range(start + (8 if big else 2), start + (8 if big else 2) + min(count, 4096) * entry, entry):
        tag, kind, number = struct.unpack_from(order + head, data, position)
        if tag not in _READ or tag in tags:
            continue
        tags[tag] = ()
        if kind not in _TYPES or number > len(data):
            continue
        values, at = f"{order}{number}{_TYPES[kind]}", position + struct.calcsize("<" + head)
        if struct.calcsize(values) > struct.calcsize("<" + word):
            (at,) = struct.unpack_from(order + word, data, at)
        tags[tag] = struct.unpack_from(values, data, at)
    return tags


def one(tags, tag):
    """The value of a tag that has one, or what stands for it where it is absent."""
    return (tags.get(tag) or (_ABSENT.get(tag, 0),))[0]


def part_size(tags):
    """(width, height) of a strip or tile."""
    width, height = one(tags, WIDTH), one(tags, HEIGHT)
    if tags.get(TILES[0]):
        return one(tags, TILE_WIDTH), one(tags, TILE_HEIGHT)
    return width, min(one(tags, ROWS) or height, height)


def parts(tags):
    """(offset, size) of each strip or tile."""
    offsets, sizes = TILES if tags.get(TILES[0]) else STRIPS
    return list(zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False))


def decoded_bytes(tags):
    """(of a pixel, of the part that is decoded at a time) as OpenCV holds them."""
    samples, deep = one(tags, SAMPLES), max(1, (one(tags, BITS) + 7) // 8)
    width, height = part_size(tags)
    coloured = 3 if one(tags, PHOTOMETRIC) > 1 else 1
    return deep * max(samples, coloured), width * height * (4 if deep == 1 else deep * samples)


_STRIPPED = frozenset({1, 5, 8, 32946, 32773})  # compressions whose strips need nothing besides
_BLACK_IS_ZERO, _RGB = 1, 2
_PIECE = 1 << 24  # bytes
_KEPT = (WIDTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, PREDICTOR, ALPHA, FORMAT)


def rows_of_pieces(tags):
    """How many rows each piece has that the picture can be cut into: a multiple of 8, or 0 where it cannot be."""
    plain = one(tags, COMPRESSION) in _STRIPPED and one(tags, PHOTOMETRIC) in (_BLACK_IS_ZERO, _RGB)
    if not plain or tags.get(TILES[0]) or one(tags, PLANAR) != 1 or len(tags.get(BITS, ())) > 8:
        return 0
    _, rows = part_size(tags)
    if one(tags, COMPRESSION) == 1:  # such a strip can be cut anywhere
        rows = 1
    block = 8 * rows * row_bytes(tags)
    return 8 * rows * max(1, _PIECE // block) if 0 < block <= 4 * _PIECE else 0


def pieces(data, tags, rows):
    """(first row, a TIFF of this row and those below it) for all `rows` rows at a time."""
    height, stored = one(tags, HEIGHT), _rows_stored(data, tags)
    _, per_strip = part_size(tags)
    raw = one(tags, COMPRESSION) == 1
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        if raw:
            strips, each = [b"".join(stored(top, bottom))], bottom - top
        else:
            strips, each = list(stored(top // per_strip, math.ceil(bottom / per_strip))), per_strip
        yield top, _written(tags, bottom - top, each, strips, "<" if data[:2] == b"II" else ">")


def _rows_stored(data, tags):
    """A function that gives the strips, or of raw ones the rows, from one number up to another."""
    view, strips = memoryview(data), parts(tags)
    if one(tags, COMPRESSION) != 1:
        return lambda first, last: (view[at : at + size] for at, size in strips[first:last])
    length, (_, rows) = row_bytes(tags), part_size(tags)
    starts = [strips[row // rows][0] + row % rows * length for row in range(one(tags, HEIGHT))]
    return lambda first, last: (view[start : start + length] for start in starts[first:last])


def _written(tags, height, rows, strips, order):
    """A TIFF of these strips, which lie at its end."""
    fields = {tag: tags[tag] for tag in _KEPT if tags.get(tag)}
    fields |= {HEIGHT: (height,), ROWS: (rows,), STRIPS[0]: (0,) * len(strips), STRIPS[1]: tuple(map(len, strips))}
    end = 8 + 2 + 12 * len(fields) + 4
    at = end + sum(4 * len(values) for values in fields.values() if len(values) > 1)
    offsets = []
    for strip in strips:
        offsets.append(at)
        at += len(strip)
    fields[STRIPS[0]] = tuple(offsets)
    entries, long = [], []
    for tag, values in sorted(fields.items()):
        short = tag in (BITS, ALPHA, FORMAT)  # libtiff takes these as nothing else
        packed = struct.pack(f"{order}{len(values)}{'H' if short else 'I'}", *values)
        place = packed.ljust(4, b"\0")
        if len(packed) > 4:
            place = struct.pack(order + "I", end + sum(map(len, long)))
            long.append(packed.ljust(4 * len(values), b"\0"))
        entries.append(struct.pack(order + "HHI", tag, 3 if short else 4, len(values)) + place)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    body = b"".join([head, *entries, bytes(4), *long])
    return b"".join([body.ljust(end + sum(4 * len(v) for v in fields.values() if len(v) > 1), b"\0"), *strips])


def row_bytes(tags):
    """Of a strip or tile, unpacked."""
    samples = one(tags, SAMPLES) if one(tags, PLANAR) == 1 else 1
    return (part_size(tags)[0] * samples * one(tags, BITS) + 7) // 8
