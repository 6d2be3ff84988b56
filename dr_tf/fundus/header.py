"""What a photograph's first bytes say: format, size, orientation, and whether the file is whole.

Nothing is decoded here, so a gigapixel bomb or half a file is turned away for a few microseconds.
"""

import dataclasses
import re
import struct
import zlib

from dr_tf.fundus import tiff


class BadImageError(ValueError):
    """A file that cannot be used as a fundus photograph; the message is one line, for people."""


@dataclasses.dataclass(frozen=True)
class Header:
    format: str
    width: int  # as stored, before `orientation` is applied
    height: int
    orientation: int = 1  # EXIF: 5 to 8 swap width and height
    pixel: int = dataclasses.field(default=3, compare=False)  # bytes, as it is decoded
    held: int = dataclasses.field(default=0, compare=False)  # bytes that decoding takes besides the pixels
    piece: int = dataclasses.field(default=0, compare=False)  # rows at a time that it can be decoded by; 0: only whole

    @property
    def size(self):
        """(width, height) as a viewer shows the photograph."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(data):
    """Header of the JPEG, PNG, TIFF or BMP in `data`; raises BadImageError where it is none, cut or damaged."""
    if not data:
        raise BadImageError("the file is empty")
    for signature, read in _READERS.items():
        if data.startswith(signature):
            try:
                header = read(data)
            except (struct.error, IndexError, OverflowError, zlib.error):
                raise BadImageError("the file is cut short or damaged") from None
            if not (header.width > 0 and header.height > 0):
                raise BadImageError("the file states a size of zero")
            return header
    raise BadImageError("not a JPEG, PNG, TIFF or BMP file")


# --- JPEG -----------------------------------------------------------------------------------------------------------

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BETWEEN_SCANS = frozenset({0xC4, 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
# Inside entropy-coded data 0xFF is followed by a stuffed zero, a fill byte or, where an interval for them was defined, a
# restart marker; all else ends the scan, as does a zero stuffed after a fill byte: libjpeg swallows it, none writes it.
_SCAN_END = {
    False: re.compile(rb"\xff(?:[^\x00\xff]|\xff\x00)"),
    True: re.compile(rb"\xff(?:[^\x00\xd0-\xd7\xff]|\xff\x00)"),
}


def _jpeg(data):
    position, frame, orientation, restarts, scans = 2, None, 1, False, 0
    while True:
        position = data.find(b"\xff", position)
        if position < 0:
            raise BadImageError("the JPEG file is cut short")
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        if marker == 0xD9:
            break
        (length,) = struct.unpack_from(">H", data, position + 1)
        if marker in _FRAMES and frame is None:
            height, width = struct.unpack_from(">HH", data, position + 4)
            frame = Header(
                "jpeg", width, height, held=_coefficients(data[position + 8 : position + 21], width * height)
            )
            scans += marker in _PROGRESSIVE
        elif marker == 0xE1 and data[position + 3 : position + 9] == b"Exif\0\0":
            orientation = _orientation(data[position + 9 : position + 1 + length])
        elif marker == 0xDD:
            restarts = True
        position += 1 + length
        if marker == 0xDA:
            scans += 1
            position = _end_of_scan(data, position, restarts)
    if frame is None:
        raise BadImageError("the JPEG file holds no picture")
    # In one scan a JPEG is decoded row by row; in several, libjpeg keeps all that it has read.
    return dataclasses.replace(frame, orientation=orientation, held=frame.held if scans > 1 else 0)


def _coefficients(components, pixels):
    """Bytes of all coefficients, two for each; `components`: their number, and of each its id, factors and table."""
    factors = [divmod(byte, 16) for byte in components[2 : 1 + 3 * components[0] : 3]]
    most = max((a for a, _ in factors), default=1) * max((d for _, d in factors), default=1)
    return 2 * pixels * sum(across * down for across, down in factors) // max(most, 1)


def _end_of_scan(data, position, restarts):
    """libjpeg only warns of a cut or overwritten scan and paints the rest grey, which must not pass for a retina."""
    found = _SCAN_END[restarts].search(data, position)
    if found is None:
        raise BadImageError("the JPEG file is cut short")
    marker = data[found.start() + 1]
    if marker != 0xD9 and marker not in _BETWEEN_SCANS:
        raise BadImageError("the JPEG file is damaged")
    return found.start()


# --- PNG ------------------------------------------------------------------------------------------------------------


_CHANNELS = {0: 1, 2: 3, 3: 3}  # by colour type; with alpha 4


def _png(data):
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    position, orientation, channels, longest = 8, 1, _CHANNELS.get(colour, 4), 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        longest = max(longest, length)  # OpenCV reads a chunk at a time, most encoders write few kilobytes in each
        body = memoryview(data)[position + 4 : position + 8 + length]  # of megabytes, perhaps: no copy
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(body) != checksum:
            raise BadImageError("the PNG file is damaged")
        if kind == b"eXIf":
            orientation = _orientation(bytes(body[4:]))
        if kind == b"tRNS":
            channels = 4
        if kind == b"acTL":
            raise BadImageError("the PNG file is an animation")
        if kind == b"IEND":
            return Header("png", width, height, orientation, channels * (2 if bits == 16 else 1), longest)
        position += 12 + length


# --- TIFF (EXIF holds one, too) -------------------------------------------------------------------------------------


def _tiff(data):
    tags = tiff.read_tags(data)
    if not (tags.get(tiff.WIDTH) and tags.get(tiff.HEIGHT)):
        raise BadImageError("the TIFF file states no size")
    if any(offset + size > len(data) for offset, size in tiff.parts(tags)):
        raise BadImageError("the TIFF file is cut short")
    width, height, orientation = (tiff.one(tags, tag) for tag in (tiff.WIDTH, tiff.HEIGHT, tiff.ORIENTATION))
    orientation = orientation if 1 <= orientation <= 8 else 1
    pixel, held = tiff.decoded_bytes(tags)
    turned = pixel * width * height if orientation > 1 else 0  # OpenCV turns it in a copy
    return Header("tiff", width, height, orientation, pixel, held + turned, tiff.rows_of_pieces(tags))


def _orientation(exif):
    """A camera's broken EXIF block is no reason to lose the photograph."""
    try:
        value = tiff.one(tiff.read_tags(exif), tiff.ORIENTATION)
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
        raise BadImageError("the BMP file is cut short")
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
