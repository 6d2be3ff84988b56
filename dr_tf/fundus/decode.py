"""Decode JPEG, PNG, TIFF, BMP and DICOM files to upright 8-bit RGB, no larger than the caller needs."""

import dataclasses
import tempfile
from collections.abc import Iterator

import cv2
import numpy as np

from dr_tf.fundus import dicom, dicom_frames, memory, tiff, tiff_integrity
from dr_tf.fundus.header import BadImageError, Header, read_header

MAX_PIXELS = 200_000_000
_CONVERTED_BYTES = 1 << 23  # converted to 8-bit RGB at a time

_JPEG_FLAGS = {
    1: cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """An upright image, perhaps decoded at a reduced size.

    Attributes:
        rgb: uint8 [height // reduction, width // reduction, 3].
        width: of the original in pixels, upright.
        height: of the original in pixels, upright.
        reduction: the original is this many times as large as `rgb`: 1, 2, 4 or 8.
    """

    rgb: np.ndarray
    width: int
    height: int
    reduction: int = 1


def decode(data: bytes, *, side: int | None = None, max_pixels: int = MAX_PIXELS, frame: int = 1) -> DecodedImage:
    """Decode an image file and turn it upright, as a viewer would show it.

    A JPEG is decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 of its size that leaves the shorter side at least `side`
    pixels. This saves most of the time, except that of reading the entropy-coded data. Large images in other formats
    are reduced as they are converted to 8 bits. Any image is reduced further if it would take too much memory.

    Args:
        data: the file's bytes.
        side: the pixels that the shorter side must keep; by default all.
        max_pixels: the most pixels that an image may have.
        frame: of a DICOM file, counted from 1.

    Raises:
        BadImageError: the file is not an image, is damaged, or is too large.
    """
    file_bytes = len(data)
    memory.check_file_size(file_bytes)
    data, header = dicom.read_frame(data, frame) if dicom.is_dicom(data) else (data, read_header(data))
    if header.width * header.height > max_pixels:
        raise BadImageError(f"{header.width} x {header.height} is over the limit of {max_pixels / 1e6:g} megapixels")
    memory.check_compression_ratio(header, len(data))
    reduction = _choose_reduction(header, side, file_bytes)
    with memory.reserve(memory.decoding_bytes(header, file_bytes, reduction)):
        rgb = _decode_rgb(data, header, reduction)
    width, height = header.size
    if rgb.shape[:2] != (height // reduction, width // reduction):
        raise BadImageError("the size that the file states is not that of its image")
    return DecodedImage(rgb, width, height, reduction)


def _choose_reduction(header: Header, side: int | None, file_bytes: int) -> int:
    """Return the largest reduction that leaves `side` pixels, or a larger one if memory requires it."""
    wanted = next((r for r in (8, 4, 2) if side and min(header.size) // r >= side), 1)
    if header.format != "jpeg" and not _is_large(header):
        wanted = 1
    for reduction in (1, 2, 4, 8):
        if reduction >= wanted and memory.decoding_bytes(header, file_bytes, reduction) <= memory.MAX_DECODING_BYTES:
            return reduction
    needed = memory.decoding_bytes(header, file_bytes, 8)
    raise BadImageError(
        f"{header.width} x {header.height} pixels take {needed / 1e6:.0f} MB to decode, over the limit of "
        f"{memory.MAX_DECODING_BYTES / 1e6:g} MB"
    )


def _is_large(header: Header) -> bool:
    return header.pixel_bytes * header.width * header.height > memory.LARGE_BYTES


def _decode_rgb(data: bytes, header: Header, reduction: int) -> np.ndarray:
    if header.format == "jpeg":
        pixels = _decode_pixels(data, _JPEG_FLAGS[reduction])
        if reduction > 1:
            # The last, partly filled column or row of a reduced JPEG reaches beyond the original. Rotated upright, it
            # could come first and shift the image.
            pixels = pixels[: header.height // reduction, : header.width // reduction]
        return _turn_upright(_to_rgb(pixels), header.orientation)
    if header.format == "dicom":
        pixels, full_scale = dicom_frames.decode_frame(data, header)
        bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        return _to_rgb(bgr, full_scale=full_scale, reduction=reduction)
    if header.format == "tiff" and (damage := tiff_integrity.find_damage(data)):
        raise BadImageError(damage)
    if header.rows_per_band and _is_large(header):
        return _turn_upright(_decode_bands(data, header, reduction), header.orientation)
    decode_file = _decode_via_temporary_file if _is_large(header) else _decode_pixels
    pixels = decode_file(data, _JPEG_FLAGS[1] if header.format == "bmp" else cv2.IMREAD_UNCHANGED)
    rgb = _to_rgb(pixels, blend_alpha=header.format == "png", reduction=reduction)
    return rgb if header.format == "tiff" else _turn_upright(rgb, header.orientation)  # OpenCV rotates TIFFs itself


def _decode_pixels(data: bytes, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise BadImageError("the file cannot be decoded")
    return pixels


def _decode_via_temporary_file(data: bytes, flags: int) -> np.ndarray:
    """Decode in half the memory of `_decode_pixels`: OpenCV copies what imdecode returns."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            pixels = cv2.imread(file.name, None, flags)  # with None as `dst` the result is not copied
        except cv2.error:
            pixels = None
    if pixels is None:
        raise BadImageError("the file cannot be decoded")
    return pixels


def _decode_bands(data: bytes, header: Header, reduction: int) -> np.ndarray:
    """Decode a large TIFF a band of rows at a time: once for the full scale of all pixels, once for the result."""
    tags = tiff.read_tags(data)

    def bands() -> Iterator[tuple[int, np.ndarray]]:
        for top, band in tiff.row_bands(data, tags, header.rows_per_band):
            yield top // reduction, _decode_pixels(band, cv2.IMREAD_UNCHANGED)

    full_scale = max(_full_scale(pixels) for _, pixels in bands())
    rgb = np.empty((header.height // reduction, header.width // reduction, 3), np.uint8)
    for top, pixels in bands():
        if top < len(rgb):
            rows = _to_rgb(pixels, full_scale=full_scale, reduction=reduction)
            rgb[top : top + len(rows)] = rows
    return rgb


def _to_rgb(
    pixels: np.ndarray, *, blend_alpha: bool = False, reduction: int = 1, full_scale: int | None = None
) -> np.ndarray:
    """Convert to 8-bit RGB, a block of rows at a time, so that no second copy of a large image is made."""
    full_scale = full_scale or _full_scale(pixels)
    height, width = (side // reduction for side in pixels.shape[:2])
    rows = max(1, _CONVERTED_BYTES // max(1, pixels[0].nbytes * reduction))
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        block = pixels[top * reduction : min(height, top + rows) * reduction, : width * reduction]
        block = _rows_to_rgb(block, full_scale, blend_alpha)
        size = width, len(block) // reduction
        rgb[top : top + rows] = cv2.resize(block, size, interpolation=cv2.INTER_AREA) if reduction > 1 else block
    return rgb


def _rows_to_rgb(pixels: np.ndarray, full_scale: int, blend_alpha: bool) -> np.ndarray:
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.float32) * (255 / full_scale) + 0.5).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 4:
        rgb, alpha = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), pixels[..., 3:]
        # The colour of transparent pixels is arbitrary. Blended with black, they become background.
        return (rgb.astype(np.uint16) * alpha // 255).astype(np.uint8) if blend_alpha and alpha.min() < 255 else rgb
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _full_scale(pixels: np.ndarray) -> int:
    """Return the largest value of the bit depth in use.

    Cameras store 10, 12 or 14 bits in 16: read as 16 bits, the image would be nearly black.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BadImageError(f"the pixels have type {pixels.dtype}; only 8 or 16 bits per channel are supported")
    if pixels.dtype == np.uint8:
        return 255
    brightest = int(pixels.max())
    return next(2**bits - 1 for bits in (10, 12, 14, 16) if brightest < 2**bits)


def _turn_upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation."""
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    flipped_axes = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.ascontiguousarray(np.flip(rgb, flipped_axes))
