"""The pixels of a DICOM file: find a frame, check its size before it is decoded, and decode it.

A compressed frame states its size for itself. A frame that states another size than the header is refused: it may be a
decompression bomb.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import cv2
import numpy as np

from dr_tf.fundus.header import BadImageError, Header

_MAX_FRAGMENTS = 100_000
_UNDEFINED, _ITEM, _END = 0xFFFFFFFF, 0xE000, 0xE0DD
_CUT = "the DICOM file is cut short"
_BIG_ENDIAN, _RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # 0xF7 is JPEG-LS
_ADOBE = b"\xff\xee\0\x0eAdobe"  # libjpeg takes no notice of a shorter marker
_ADOBE_RGB = _ADOBE + b"\0\x64" + bytes(5)  # its last byte says that the colours were not transformed
_JPEG_2000 = b"\xff\x4f\xff\x51"


def pixel_data(data: bytes, position: int, syntax: str) -> tuple[str, memoryview]:
    """Return the value representation (OB or OW) and the value of the element with the pixels, which begins at `position`."""
    order = ">" if syntax == _BIG_ENDIAN else "<"
    try:
        group, element, representation = struct.unpack_from(f"{order}HH2s", data, position)
        if (group, element) != (0x7FE0, 0x0010):
            raise BadImageError("a DICOM object whose pixels are missing or are not whole numbers")
        explicit = representation in (b"OB", b"OW")  # whatever the transfer syntax says: some files contradict it
        (length,) = struct.unpack_from(f"{order}I", data, position + (8 if explicit else 4))
    except struct.error:
        raise BadImageError("a DICOM object without pixels") from None
    value = memoryview(data)[position + (12 if explicit else 8) :]
    if length != _UNDEFINED and length > len(value):
        raise BadImageError(_CUT)
    return representation.decode() if explicit else "OW", value if length == _UNDEFINED else value[:length]


def native_frame(value: memoryview, frame: Any, number: int, frames: int) -> memoryview:
    """Return one of `frames` frames of uncompressed pixels; `number` counts from 1."""
    samples = 2 if frame.attributes.PhotometricInterpretation == "YBR_FULL_422" else frame.attributes.SamplesPerPixel
    size = frame.width * frame.height * samples * frame.attributes.BitsAllocated // 8
    if not 1 <= number <= frames or size * frames > len(value):
        raise BadImageError(_CUT)
    start = (number - 1) * size
    if start % 2 and frame.transfer_syntax == _BIG_ENDIAN:  # bytes are swapped in pairs, of which one is in two frames
        raise BadImageError("DICOM: big-endian frames with an odd number of bytes are not read")
    return value[start : start + size + size % 2]


def coded_frame(value: memoryview, number: int, frames: int) -> bytes:
    """Return one of `frames` compressed frames, of whatever number of fragments; `number` counts from 1."""
    from pydicom.encaps import get_frame

    if _count_fragments(value) < frames:
        raise BadImageError(_CUT)
    return get_frame(io.BytesIO(value), number - 1, number_of_frames=max(1, frames))  # type: ignore[arg-type]


def _count_fragments(value: memoryview) -> int:
    """Return the number of fragments. Raises BadImageError unless they are whole and end with the delimiter."""
    position = 0
    for items in range(_MAX_FRAGMENTS):
        if position + 8 > len(value):
            raise BadImageError(_CUT)
        group, element, length = struct.unpack_from("<HHI", value, position)
        if (group, element) == (0xFFFE, _END):
            return items - 1  # the first item is the table of offsets
        if (group, element) != (0xFFFE, _ITEM):
            raise BadImageError("the DICOM file is damaged")
        position += 8 + length
    raise BadImageError("DICOM: the pixels are in too many fragments")


def with_colour_transform(jpeg: bytes, photometric: str) -> bytes:
    """Return a JPEG that states whether its colours are YCbCr or RGB, where only the DICOM header does.

    Without a marker of JFIF or Adobe, libjpeg takes three components for YCbCr. pydicom 3 follows the same order: the
    JPEG's own statement first, then the header's.
    """
    start = jpeg[:1024]
    if photometric != "RGB" or b"JFIF\0" in start or _ADOBE in start:
        return jpeg
    return jpeg[:2] + _ADOBE_RGB + jpeg[2:] if jpeg[:2] == b"\xff\xd8" else jpeg


def coded_size(coded: bytes) -> tuple[int, int]:
    """Return (width, height) as the header of a JPEG, JPEG-LS or JPEG 2000 frame states it."""
    try:
        if coded.startswith(b"\xff\xd8"):
            return _jpeg_size(coded)
        start = coded.index(_JPEG_2000) + 8  # after the length and the capabilities
        width, height, left, top = struct.unpack_from(">IIII", coded, start)
        return width - left, height - top
    except (struct.error, ValueError, IndexError):
        raise BadImageError("the DICOM file is damaged: its frame has no header") from None


def _jpeg_size(coded: bytes) -> tuple[int, int]:
    position = 2
    while coded[position] == 0xFF:
        marker = coded[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", coded, position + 5)
            return width, height
        position += 2 + struct.unpack_from(">H", coded, position + 2)[0]
    raise ValueError


def check_size(size: tuple[int, int], frame: Header) -> None:
    """Raise BadImageError unless the size that a frame states for itself is that of the header."""
    if size != (frame.width, frame.height):
        raise BadImageError(
            f"DICOM: the header states {frame.width} x {frame.height} pixels, its frame {size[0]} x {size[1]}"
        )


def decode_frame(coded: bytes | memoryview, frame: Any) -> tuple[np.ndarray, int]:
    """Decode a frame that is not a JPEG.

    Args:
        coded: as `dicom.read_frame` returns it.
        frame: its header.

    Returns:
        (grey [height, width] or RGB [height, width, 3] of 8 or 16 bits, the largest value of its bit depth).

    Raises:
        BadImageError: the frame cannot be decoded.
    """
    attributes = frame.attributes
    bits = attributes.BitsAllocated
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels, photometric = _decode(coded, frame)
            full_scale = 255 if pixels.dtype == np.uint8 else 2 ** int(attributes.get("BitsStored") or bits) - 1
            if photometric == "PALETTE COLOR":
                from pydicom.pixels import apply_color_lut

                pixels = apply_color_lut(pixels, attributes)
                return pixels, 255 if pixels.dtype == np.uint8 else 65535
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # pydicom and its codecs raise nearly every type
        raise BadImageError("the pixels of the DICOM file cannot be decoded") from error
    if photometric == "MONOCHROME1":
        return full_scale - np.minimum(pixels, pixels.dtype.type(full_scale)), full_scale
    if photometric.startswith("YBR_FULL"):
        return _ybr_to_rgb(pixels, full_scale), full_scale
    return pixels, full_scale


def _decode(coded, frame):
    """The decoded pixels, and their photometric interpretation, which a codec may have changed."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    attributes, syntax = frame.attributes, frame.transfer_syntax
    options = {
        "rows": frame.height,
        "columns": frame.width,
        "samples_per_pixel": int(attributes.get("SamplesPerPixel", 1)),
        "bits_allocated": int(attributes.BitsAllocated),
        "bits_stored": int(attributes.get("BitsStored") or attributes.BitsAllocated),
        "photometric_interpretation": str(attributes.PhotometricInterpretation),
        "planar_configuration": int(attributes.get("PlanarConfiguration") or 0),
        "pixel_representation": 0,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "pixel_vr": frame.representation,
    }
    if syntax == _RLE:
        pixels = _decode_rle(bytes(coded), options)
        return pixels, options["photometric_interpretation"]
    decoder = get_decoder(syntax)
    source = coded if decoder.is_native else encapsulate([bytes(coded)])
    pixels, stated = decoder.as_array(source, index=0, raw=True, view_only=decoder.is_native, **options)
    return pixels, str(stated["photometric_interpretation"])


def _decode_rle(coded: bytes, options: dict[str, Any]) -> np.ndarray:
    """Decode RLE. Unlike pydicom's decoder, it ends as soon as there are more pixels than the header states."""
    height, width, samples = options["rows"], options["columns"], options["samples_per_pixel"]
    sample_bytes = options["bits_allocated"] // 8
    count, *offsets = struct.unpack_from("<16I", coded)
    if count != samples * sample_bytes:
        raise BadImageError("the DICOM file is damaged: it has a wrong number of RLE segments")
    ends = [*offsets[1:count], len(coded)]
    planes = [_unpack_bits(coded[a:b], height * width) for a, b in zip(offsets, ends, strict=False)]
    by_sample = np.stack(planes).reshape(samples, sample_bytes, height, width)  # the high byte comes first
    pixels = by_sample[:, 0] if sample_bytes == 1 else by_sample[:, 0].astype(np.uint16) << 8 | by_sample[:, 1]
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)) if samples == 3 else pixels[0]


def _unpack_bits(segment: bytes, size: int) -> np.ndarray:
    """Decode PackBits: a byte n < 128 is followed by n + 1 bytes as they are, n > 128 by one that is repeated 257 - n times."""
    unpacked, position = bytearray(), 0
    while position + 1 < len(segment) and len(unpacked) < size:
        n = segment[position]
        if n < 128:
            unpacked += segment[position + 1 : position + 2 + n]
            position += 2 + n
        else:
            if n > 128:
                unpacked += segment[position + 1 : position + 2] * (257 - n)
            position += 1 if n == 128 else 2
    if len(unpacked) < size:
        raise BadImageError(_CUT)
    return np.frombuffer(unpacked, np.uint8, size)


def _ybr_to_rgb(pixels: np.ndarray, full_scale: int) -> np.ndarray:
    """Convert YBR_FULL, the YCbCr of JPEG, to RGB."""
    ycrcb = np.ascontiguousarray(pixels[..., [0, 2, 1]])
    if pixels.dtype == np.uint8:
        return cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB)
    scaled = (ycrcb.astype(np.float32) * (255 / full_scale) + 0.5).astype(np.uint8)
    return (cv2.cvtColor(scaled, cv2.COLOR_YCrCb2RGB).astype(np.float32) * (full_scale / 255)).astype(np.uint16)
