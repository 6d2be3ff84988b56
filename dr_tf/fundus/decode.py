"""Photograph files -> RGB pixels, upright, 8 bits a channel, no more of them than the target needs."""

import dataclasses
import tempfile

import cv2
import numpy as np

from dr_tf.fundus import memory, tiff, tiff_data
from dr_tf.fundus.header import BadImageError, read_header

MAX_PIXELS = 200_000_000
_AT_ONCE = 1 << 23  # bytes

_JPEG_FLAGS = {
    1: cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}


@dataclasses.dataclass(frozen=True)
class Photograph:
    """`rgb` shows the photograph at 1/`reduction` of its size; (width, height) are the original's, upright."""

    rgb: np.ndarray
    width: int
    height: int
    reduction: int = 1


def decode(data, *, side=None, max_pixels=MAX_PIXELS):
    """The photograph in `data`, as a viewer would show it.

    Where it is a JPEG and `side` is given, it is decoded at the least of 1/1, 1/2, 1/4, 1/8 that leaves its shorter
    side at least `side` pixels: the entropy-coded data is read once either way, the rest shrinks with the pixels. Large
    photographs of other kinds are shrunk as they are turned into 8 bits, and all of them where memory does not do.
    """
    header = read_header(data)
    if header.width * header.height > max_pixels:
        raise BadImageError(
            f"{header.width} x {header.height} is over the limit of {max_pixels / 1e6:g} megapixels"
        )
    memory.check_file(len(data))
    memory.check_packing(header, len(data))
    reduction = _reduction(header, side, len(data))
    with memory.turn(memory.needed(header, len(data), reduction)):
        rgb = _decoded(data, header, reduction)
    width, height = header.size
    if rgb.shape[:2] != (height // reduction, width // reduction):
        raise BadImageError("the file states a size that is not its picture's")
    return Photograph(rgb, width, height, reduction)


def _reduction(header, side, size):
    """The least loss that memory allows; beyond it, what leaves `side` pixels."""
    wanted = next((r for r in (8, 4, 2) if side and min(header.size) // r >= side), 1)
    if header.format != "jpeg" and not _is_large(header):
        wanted = 1
    for reduction in (1, 2, 4, 8):
        if reduction >= wanted and memory.needed(header, size, reduction) <= memory.MOST:
            return reduction
    need = memory.needed(header, size, 8)
    raise BadImageError(
        f"{header.width} x {header.height} pixels take {need / 1e6:.0f} MB to decode, over the limit of "
        f"{memory.MOST / 1e6:g} MB"
    )


def _is_large(header):
    return header.pixel * header.width * header.height > memory.LARGE


def _decoded(data, header, reduction):
    if header.format == "jpeg":
        pixels = _pixels(data, _JPEG_FLAGS[reduction])
        # A last, partly filled column or row of a reduced JPEG would reach beyond the original; turned, it would be first.
        pixels = pixels[: header.height // reduction, : header.width // reduction] if reduction > 1 else pixels
        return _upright(_eight_bit_rgb(pixels), header.orientation)
    if header.format == "tiff" and (fault := tiff_data.fault(data)):
        raise BadImageError(fault)
    if header.piece and _is_large(header):
        return _upright(_by_pieces(data, header, reduction), header.orientation)
    decoded = _pixels_from_file if _is_large(header) else _pixels
    pixels = decoded(data, _JPEG_FLAGS[1] if header.format == "bmp" else cv2.IMREAD_UNCHANGED)
    rgb = _eight_bit_rgb(pixels, composite=header.format == "png", reduction=reduction)
    return rgb if header.format == "tiff" else _upright(rgb, header.orientation)  # OpenCV turns those itself


def _pixels(data, flags):
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise BadImageError("the file cannot be decoded")
    return pixels


def _pixels_from_file(data, flags):
    """The same in half the memory: what imdecode gives, OpenCV copies to hand it over."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            pixels = cv2.imread(file.name, None, flags)  # of which no copy is made, as one is without None
        except cv2.error:
            pixels = None
    if pixels is None:
        raise BadImageError("the file cannot be decoded")
    return pixels


def _by_pieces(data, header, reduction):
    """A large TIFF, of which only some strips are unpacked at a time; twice, as all of them tell the full scale."""
    tags = tiff.read_tags(data)

    def pieces():
        for top, piece in tiff.pieces(data, tags, header.piece):
            yield top // reduction, _pixels(piece, cv2.IMREAD_UNCHANGED)

    full = max(_full_scale(pixels) for _, pixels in pieces())
    rgb = np.empty((header.height // reduction, header.width // reduction, 3), np.uint8)
    for top, pixels in pieces():
        if top < len(rgb):
            some = _eight_bit_rgb(pixels, full=full, reduction=reduction)
            rgb[top : top + len(some)] = some
    return rgb


def _eight_bit_rgb(pixels, *, composite=False, reduction=1, full=None):
    """Some rows at a time where there are many, so that no further copies of all are made."""
    full = full or _full_scale(pixels)
    height, width = (side // reduction for side in pixels.shape[:2])
    rows = max(1, _AT_ONCE // max(1, pixels[0].nbytes * reduction))
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        some = pixels[top * reduction : min(height, top + rows) * reduction, : width * reduction]
        some = _rows_to_rgb(some, full, composite)
        shape = width, len(some) // reduction
        rgb[top : top + rows] = cv2.resize(some, shape, interpolation=cv2.INTER_AREA) if reduction > 1 else some
    return rgb


def _rows_to_rgb(pixels, full, composite):
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.float32) * (255 / full) + 0.5).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 4:
        rgb, alpha = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), pixels[..., 3:]
        # What lies under transparent pixels is arbitrary; on black they become background.
        return (rgb.astype(np.uint16) * alpha // 255).astype(np.uint8) if composite and alpha.min() < 255 else rgb
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _full_scale(pixels):
    """Cameras store 10, 12 or 14 bits in 16: read as 16 they would be all but black."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BadImageError(f"pixels of type {pixels.dtype}; only 8 or 16 bits a channel are understood")
    if pixels.dtype == np.uint8:
        return 255
    brightest = int(pixels.max())
    return next(2**bits - 1 for bits in (10, 12, 14, 16) if brightest < 2**bits)


def _upright(rgb, orientation):
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    mirrored = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.ascontiguousarray(np.flip(rgb, mirrored))
