"""Read an image file's header without decoding it: format, size, orientation, and whether the file is complete.

The check takes microseconds, so a gigapixel decompression bomb or half a file is refused before anything is decoded.
"""

import dataclasses
import re
import struct
import zlib

from dr_tf.fundus import tiff


class BadImageError(ValueError):
    """A file that cannot be used as a fundus photograph. The message is one line, meant for the user."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What an image file's header states.

    Attributes:
        format: "jpeg", "png", "tiff" or "bmp".
        width: in pixels as stored, before `orientation` is applied.
        height: in pixels as stored.
        orientation: the EXIF orientation, 1 to 8; 5 to 8 swap width and height.
        pixel_bytes: bytes of a decoded pixel in memory.
        extra_bytes: memory that decoding takes besides the file and the pixels.
        rows_per_band: how many rows can be decoded at a time; 0 for an image that is decoded only as a whole.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    pixel_bytes: int = dataclasses.field(default=3, compare=False)
    extra_bytes: int = dataclasses.field(default=0, compare=False)
    rows_per_band: int = dataclasses.field(default=0, compare=False)

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) of the upright image, as a viewer shows it."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(data: bytes) -> Header:
    """Read the header of a JPEG, PNG, TIFF or BMP file.

    Raises:
        BadImageError: the data are in another format, cut short, or damaged.
    """
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
    raise BadImageError("not a JPEG, PNG, TIFF, BMP or DICOM file")


# --- JPEG -----------------------------------------------------------------------------------------------------------

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_START_OF_SCAN, _END_OF_IMAGE, _RESTART_INTERVAL, _APP1 = 0xDA, 0xD9, 0xDD, 0xE1
_BETWEEN_SCANS = frozenset({0xC4, 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
# Inside entropy-coded data 0xFF is followed by a stuffed zero, a fill byte or, in a file with a restart interval, a
# restart marker. Anything else ends the scan. So does a zero stuffed after a fill byte: libjpeg accepts it, but no
# encoder writes it. Keyed by whether the file has a restart interval.
_SCAN_END = {
    False: re.compile(rb"\xff(?:[^\x00\xff]|\xff\x00)"),
    True: re.compile(rb"\xff(?:[^\x00\xd0-\xd7\xff]|\xff\x00)"),
}


def _read_jpeg(data: bytes) -> Header:
    position, frame, orientation, has_restarts, scans = 2, None, 1, False, 0
    while True:
        position = data.find(b"\xff", position)
        if position < 0:
            raise BadImageError("the JPEG file is cut short")
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        if marker == _END_OF_IMAGE:
            break
        (length,) = struct.unpack_from(">H", data, position + 1)
        if marker in _START_OF_FRAME and frame is None:
            height, width = struct.unpack_from(">HH", data, position + 4)
            components = data[position + 8 : position + 21]
            frame = Header("jpeg", width, height, extra_bytes=_coefficient_bytes(components, width * height))
            scans += marker in _PROGRESSIVE
        elif marker == _APP1 and data[position + 3 : position + 9] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 9 : position + 1 + length])
        elif marker == _RESTART_INTERVAL:
            has_restarts = True
        position += 1 + length
        if marker == _START_OF_SCAN:
            scans += 1
            position = _find_scan_end(data, position, has_restarts)
    if frame is None:
        raise BadImageError("the JPEG file contains no image")
    # libjpeg decodes a single scan row by row. With several scans it keeps the coefficients of the whole image.
    return dataclasses.replace(frame, orientation=orientation, extra_bytes=frame.extra_bytes if scans > 1 else 0)


def _coefficient_bytes(components: bytes, pixels: int) -> int:
    """Return the bytes of all DCT coefficients, two each.

    `components` is the part of the frame header with their number and, of each, its id, sampling factors and table.
    """
    factors = [divmod(byte, 16) for byte in components[2 : 1 + 3 * components[0] : 3]]
    largest = max((x for x, _ in factors), default=1) * max((y for _, y in factors), default=1)
    return 2 * pixels * sum(x * y for x, y in factors) // max(largest, 1)


def _find_scan_end(data: bytes, position: int, has_restarts: bool) -> int:
    """Return where the scan ends.

    libjpeg only warns of a cut or overwritten scan and paints the rest grey, which must not pass for a retina.
    """
    end = _SCAN_END[has_restarts].search(data, position)
    if end is None:
        raise BadImageError("the JPEG file is cut short")
    marker = data[end.start() + 1]
    if marker != _END_OF_IMAGE and marker not in _BETWEEN_SCANS:
        raise BadImageError("the JPEG file is damaged")
    return end.start()


# --- PNG ------------------------------------------------------------------------------------------------------------


_CHANNELS = {0: 1, 2: 3, 3: 3}  # by colour type; 4 for the types with alpha


def _read_png(data: bytes) -> Header:
    width, height, bits, colour_type = struct.unpack_from(">IIBB", data, 16)
    position, orientation, channels, longest = 8, 1, _CHANNELS.get(colour_type, 4), 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        longest = max(longest, length)  # OpenCV reads a chunk at a time; most encoders write a few kilobytes in each
        body = memoryview(data)[position + 4 : position + 8 + length]  # a view, as a chunk may have megabytes
        (checksum,) = struct.unpack_from(">I", data, position + 8 + length)
        if zlib.crc32(body) != checksum:
            raise BadImageError("the PNG file is damaged")
        if kind == b"eXIf":
            orientation = _exif_orientation(bytes(body[4:]))
        if kind == b"tRNS":
            channels = 4
        if kind == b"acTL":
            raise BadImageError("the PNG file is an animation")
        if kind == b"IEND":
            return Header("png", width, height, orientation, channels * (2 if bits == 16 else 1), longest)
        position += 12 + length


# --- TIFF, and the EXIF blocks of the other formats -----------------------------------------------------------------


def _read_tiff(data: bytes) -> Header:
    tags = tiff.read_tags(data)
    if not (tags.get(tiff.WIDTH) and tags.get(tiff.HEIGHT)):
        raise BadImageError("the TIFF file states no size")
    if any(offset + size > len(data) for offset, size in tiff.segments(tags)):
        raise BadImageError("the TIFF file is cut short")
    width, height, orientation = (tiff.tag_value(tags, tag) for tag in (tiff.WIDTH, tiff.HEIGHT, tiff.ORIENTATION))
    orientation = orientation if 1 <= orientation <= 8 else 1
    pixel_bytes, segment_bytes = tiff.decoded_bytes(tags)
    rotated_copy = pixel_bytes * width * height if orientation > 1 else 0  # OpenCV rotates a TIFF into a copy
    return Header(
        "tiff", width, height, orientation, pixel_bytes, segment_bytes + rotated_copy, tiff.rows_per_band(tags)
    )


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation, or 1 (upright) for a broken EXIF block: that is no reason to lose the image."""
    try:
        value = tiff.tag_value(tiff.read_tags(exif), tiff.ORIENTATION)
    except (struct.error, IndexError, OverflowError):
        return 1
    return value if 1 <= value <= 8 else 1


# --- BMP ------------------------------------------------------------------------------------------------------------


def _read_bmp(data: bytes) -> Header:
    (info_size,) = struct.unpack_from("<I", data, 14)
    if info_size == 12:  # the OS/2 header
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        is_compressed = False
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        is_compressed = compression in (1, 2)
    (pixels_start,) = struct.unpack_from("<I", data, 10)
    if not is_compressed and pixels_start + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise BadImageError("the BMP file is cut short")
    return Header("bmp", width, abs(height))


_READERS = {
    b"\xff\xd8\xff": _read_jpeg,
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"II*\0": _read_tiff,
    b"MM\0*": _read_tiff,
    b"II+\0": _read_tiff,
    b"MM\0+": _read_tiff,
    b"BM": _read_bmp,
}
