"""Photograph files -> RGB pixels, upright, 8 bits a channel, no more of them than the target needs."""

import dataclasses

import cv2
import numpy as np

from dr_tf.fundus.header import BadPhotographError, read_header

MAX_PIXELS = 200_000_000

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
    side at least `side` pixels: the entropy-coded data is read once either way, the rest shrinks with the pixels.
    """
    header = read_header(data)
    if header.width * header.height > max_pixels:
        raise BadPhotographError(
            f"{header.width} x {header.height} is over the limit of {max_pixels / 1e6:g} megapixels"
        )
    width, height = header.size
    reduction = _reduction(min(width, height), side) if header.format == "jpeg" else 1
    pixels = _pixels(data, _JPEG_FLAGS[reduction] if header.format in ("jpeg", "bmp") else cv2.IMREAD_UNCHANGED)
    # A last, partly filled column or row of a reduced JPEG would reach beyond the original; turned, it would be first.
    pixels = pixels[: header.height // reduction, : header.width // reduction] if reduction > 1 else pixels
    rgb = _eight_bit_rgb(pixels, composite=header.format == "png")
    if header.format != "tiff":  # which OpenCV turns itself
        rgb = _upright(rgb, header.orientation)
    if rgb.shape[:2] != (height // reduction, width // reduction):
        raise BadPhotographError("the file states a size that is not its picture's")
    return Photograph(rgb, width, height, reduction)


def _reduction(shorter, side):
    return next((r for r in (8, 4, 2) if side and shorter // r >= side), 1)


def _pixels(data, flags):
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise BadPhotographError("the file cannot be decoded")
    return pixels


def _eight_bit_rgb(pixels, *, composite):
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.float32) * (255 / _full_scale(pixels)) + 0.5).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise BadPhotographError(f"pixels of type {pixels.dtype}; only 8 or 16 bits a channel are understood")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if pixels.shape[2] == 4:
        rgb, alpha = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), pixels[..., 3:]
        # What lies under transparent pixels is arbitrary; on black they become background.
        return (rgb.astype(np.uint16) * alpha // 255).astype(np.uint8) if composite and alpha.min() < 255 else rgb
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _full_scale(pixels):
    """Cameras store 10, 12 or 14 bits in 16: read as 16 they would be all but black."""
    brightest = int(pixels.max())
    return next(2**bits - 1 for bits in (10, 12, 14, 16) if brightest < 2**bits)


def _upright(rgb, orientation):
    if orientation >= 5:
        rgb = rgb.transpose(1, 0, 2)
    mirrored = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.ascontiguousarray(np.flip(rgb, mirrored))
