"""The tags of a TIFF, of which EXIF holds one, too."""

import struct

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, ROWS = 256, 257, 258, 259, 262, 274, 277, 278
PLANAR, TILE_WIDTH, TILE_HEIGHT, JPEG_TABLES = 284, 322, 323, 347
STRIPS, TILES = (273, 279), (324, 325)  # offsets, sizes
_READ = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, ROWS, PLANAR, TILE_WIDTH, TILE_HEIGHT}
    | {JPEG_TABLES, *STRIPS, *TILES}
)
_TYPES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
_ABSENT = {BITS: 1, COMPRESSION: 1, PHOTOMETRIC: 1, ORIENTATION: 1, SAMPLES: 1, PLANAR: 1}


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
