"""What a photograph's first bytes say: format, size, orientation, and whether the file is whole.

Nothing is decoded here, so a gigapixel bomb or half a file is turned away for a few microseconds.
"""

import dataclasses
import re
import struct
import zlib


class BadPhotographError(ValueError):
    """A file that cannot be used as a fundus photograph; the message is one line, for people."""


@dataclasses.dataclass(frozen=True)
class Header:
    format: str
    width: int  # as stored, before `orientation` is applied
    height: int
    orientation: int = 1  # EXIF: 5 to 8 swap width and height

    @property
    def size(self):
        """(width, height) as a viewer shows the photograph."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(data):
    """Header of the JPEG, PNG, TIFF or BMP in `data`; raises BadPhotographError where it is none, cut or damaged."""
    if not data:
        raise BadPhotographError("the file is empty")
    for signature, read in _READERS.items():
        if data.startswith(signature):
            try:
                header = read(data)
            except (struct.error, IndexError, OverflowError, zlib.error):
                raise BadPhotographError("the file is cut short or damaged") from None
            if not (header.width > 0 and header.height > 0):
                raise BadPhotographError("the file states a size of zero")
            return header
    raise BadPhotographError("not a JPEG, PNG, TIFF or BMP file")


# --- JPEG -----------------------------------------------------------------------------------------------------------

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BETWEEN_SCANS = frozenset({0xC4, 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
# Inside entropy-coded data 0xFF is followed by a stuffed zero, a fill byte or, where an interval for them was defined, a
# restart marker; all else ends the scan, as does a zero stuffed after a fill byte: libjpeg swallows it, none writes it.
_SCAN_END = {
    False: re.compile(rb"\xff(?:[^\x00\xff]|\xff\x00)"),
    True: re.compile(rb"\xff(?:[^\x00\xd0-\xd7\xff]|\xff\x00)"),
}


def _jpeg(data):
    position, frame, orientation, restarts = 2, None, 1, False
    while True:
        position = data.find(b"\xff", position)
        if position < 0:
            raise BadPhotographError("the JPEG file is cut short")
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        if marker == 0xD9:
            break
        (length,) = struct.unpack_from(">H", data, position + 1)
        if marker in _FRAMES and frame is None:
            height, width = struct.unpack_from(">HH", data, position + 4)
            frame = Header("jpeg", width, height)
        elif marker == 0xE1 and data[position + 3 : position + 9] == b"Exif\0\0":
            orientation = _orientation(data[position + 9 : position + 1 + length])
        elif marker == 0xDD:
            restarts = True
        position += 1 + length
        if marker == 0xDA:
            position = _end_of_scan(data, position, restarts)
    if frame is None:
        raise BadPhotographError("the JPEG file holds no picture")
    return dataclasses.replace(frame, orientation=orientation)


def _end_of_scan(data, position, restarts):
    """libjpeg only warns of a cut or overwritten scan and paints the rest grey, which must not pass for a retina."""
    found = _SCAN_END[restarts].search(data, position)
    if found is None:
        raise BadPhotographError("the JPEG file is cut short")
    marker = data[found.start() + 1]
    if marker != 0xD9 and marker not in _BETWEEN_SCANS:
        raise BadPhotographError("the JPEG file is damaged")
    return found.start()


# --- PNG ------------------------------------------------------------------------------------------------------------


def _png(data):
    width, height = struct.unpack_from(">II", data, 16)
    position, orientation = 8, 1
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 4 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(body) != checksum:
            raise BadPhotographError("the PNG file is damaged")
        if kind == b"eXIf":
            orientation = _orientation(body[4:])
        if kind == b"IEND":
            return Header("png", width, height, orientation)
        position += 12 + length


# --- TIFF (EXIF holds one, too) -------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
_OFFSETS_AND_SIZES = ((273, 279), (324, 325))  # strips, tiles
_READ = frozenset({_WIDTH, _HEIGHT, _ORIENTATION, *_OFFSETS_AND_SIZES[0], *_OFFSETS_AND_SIZES[1]})
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def _tags(data):
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


def _tiff(data):
    tags = _tags(data)
    if not (tags.get(_WIDTH) and tags.get(_HEIGHT)):
        raise BadPhotographError("the TIFF file states no size")
    for offsets, sizes in _OFFSETS_AND_SIZES:
        ends = [offset + size for offset, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False)]
        if ends and max(ends) > len(data):
            raise BadPhotographError("the TIFF file is cut short")
    orientation = (tags.get(_ORIENTATION) or (1,))[0]
    return Header("tiff", tags[_WIDTH][0], tags[_HEIGHT][0], orientation if 1 <= orientation <= 8 else 1)


def _orientation(exif):
    """A camera's broken EXIF block is no reason to lose the photograph."""
    try:
        value = (_tags(exif).get(_ORIENTATION) or (1,))[0]
    except (struct.error, IndexError, OverflowError):
        return 1
    return value if 1 <= value <= 8 else 1


# --- BMP ------------------------------------------------------------------------------------------------------------


def _bmp(data):
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packed = False
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        packed = compression in (1, 2)
    (start,) = struct.unpack_from("<I", data, 10)
    if not packed and start + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise BadPhotographError("the BMP file is cut short")
    return Header("bmp", width, abs(height))


_READERS = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
    b"BM": _bmp,
}
