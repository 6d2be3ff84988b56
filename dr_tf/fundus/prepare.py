"""Prepare an image file for a model: decode, find the retina, crop, resize and enhance.

Records, prediction, explanation and the exports all use this one function, so that evaluation and deployment see the
same pixels.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from dr_tf.fundus import subprocesses
from dr_tf.fundus.border import Border, find_border, inside, shrink
from dr_tf.fundus.decode import MAX_PIXELS, DecodedImage, decode
from dr_tf.fundus.dicom import count_frames, is_dicom
from dr_tf.fundus.enhance import enhance
from dr_tf.fundus.geometry import Geometry, square_around
from dr_tf.fundus.gradability import Gradability, gradability
from dr_tf.fundus.header import BadImageError, read_header
from dr_tf.fundus.is_fundus import is_greyscale, not_fundus_reason

# A JPEG is decoded at the smallest scale that leaves this many pixels per pixel of the crop, on each axis. The crops
# differ from those of full decodes by 51 dB PSNR.
_OVERSAMPLING = 1.3
_SMALLEST_SIDE = 32
# What libjpeg and libtiff print for damaged data. They print other messages, too, for example for unknown tags.
DAMAGE_MESSAGE = re.compile(rb"Corrupt JPEG data|Premature end of JPEG|TIFF_Error|TIFF_Warning \w+Decode")
_KEPT_RADIUS = 0.985  # share of the radius: a white surround brightens the outermost pixels


@dataclasses.dataclass(frozen=True)
class PreparedCrop:
    """A cropped fundus photograph, as a model takes it.

    Attributes:
        image: uint8 RGB [size, size, 3], black beyond the border of the retina.
        geometry: where the crop lies on the original.
        gradability: image quality, measured before any enhancement.
        roundness: share of the visible border that was found, 0 to 1.
        frame: the number of the frame in a DICOM file of several, counted from 1; 0 for other files.
    """

    image: np.ndarray
    geometry: Geometry
    gradability: Gradability
    roundness: float
    frame: int = 0


def prepare(
    data: bytes, *, size: int, enhancement: str = "plain", max_pixels: int = MAX_PIXELS, frame: int = 1
) -> PreparedCrop:
    """Decode an image file, find the retina, crop it to a square, resize and enhance it.

    Args:
        data: the bytes of a JPEG, PNG, TIFF, BMP or DICOM file.
        size: pixels on a side of the crop.
        enhancement: a name in `dr_tf.fundus.enhance.ENHANCEMENTS`.
        max_pixels: the most pixels that the original may have.
        frame: of a DICOM file, counted from 1.

    Raises:
        BadImageError: the file is damaged or too large, or is not a colour fundus photograph.
    """
    needed_side = size * _OVERSAMPLING
    decoded, border = _decode_and_find_border(data, math.ceil(needed_side), max_pixels, frame)
    if (
        _longer_side(border) < size and decoded.reduction > 1
    ):  # the retina is a small part of a large image: decode finer
        shorter_side = min(decoded.rgb.shape[:2])
        needed_side = math.ceil(needed_side * shorter_side / _longer_side(border))
        decoded, border = _decode_and_find_border(data, needed_side, max_pixels, frame)
    geometry = square_around(border, reduction=decoded.reduction, width=decoded.width, height=decoded.height, size=size)
    image = crop(decoded.rgb, geometry, reduction=decoded.reduction)
    quality = gradability(image, geometry.circle_on_crop)
    return PreparedCrop(enhance(enhancement, image, geometry.circle_on_crop), geometry, quality, border.roundness)


@subprocesses.run_in_worker
def prepare_undamaged(data: bytes, frames: Sequence[int] = (), **options: Any) -> PreparedCrop:
    """Run `prepare` in a worker process, and also refuse a file for which libjpeg or libtiff reports damage.

    Any thread may call it.

    Args:
        data: the bytes of the file.
        frames: of a DICOM file with several frames, those to choose from, counted from 1; by default all. The most gradable
            one is taken, the first of equals.
        **options: those of `prepare` except `frame`.

    Raises:
        BadImageError: as `prepare`, for every frame; also if the file is damaged or crashes the worker.
    """
    count = count_frames(data)
    if count == 1:
        return _prepare_undamaged(data, **options)
    best: PreparedCrop | None = None
    problems: dict[str, int] = {}
    for number in frames or range(1, count + 1):
        try:
            crop = _prepare_undamaged(data, frame=number, **options)
        except BadImageError as error:
            problems.setdefault(str(error), number)
            continue
        if best is None or crop.gradability.score > best.gradability.score:
            best = dataclasses.replace(crop, frame=number)
    if best is None:
        raise BadImageError("; ".join(_problem(*problem, one_of=len(problems)) for problem in problems.items()))
    return best


def _problem(reason: str, number: int, *, one_of: int) -> str:
    """Why a frame cannot be used. A reason that all frames share is that of the file."""
    return f"frame {number}: {reason}" if one_of > 1 else reason


def _prepare_undamaged(data: bytes, **options: Any) -> PreparedCrop:
    with subprocesses.library_messages() as read_messages:
        try:
            return prepare(data, **options)
        finally:  # damage is the reason to report, whatever else `prepare` found wrong
            if DAMAGE_MESSAGE.search(read_messages()):
                kind = "dicom" if is_dicom(data) else read_header(data).format
                raise BadImageError(f"the {kind.upper()} file is damaged") from None


def _decode_and_find_border(data: bytes, side: int, max_pixels: int, frame: int) -> tuple[DecodedImage, Border]:
    decoded = decode(data, side=side, max_pixels=max_pixels, frame=frame)
    if min(decoded.width, decoded.height) < _SMALLEST_SIDE:
        raise BadImageError(f"{decoded.width} x {decoded.height} pixels are too few for a retina")
    working_copy = shrink(decoded.rgb)
    border = find_border(decoded.rgb, working_copy)
    reason = not_fundus_reason(decoded.rgb, border, working_copy)
    if reason:
        raise BadImageError(f"no retina found: {reason}")
    if is_greyscale(border, *working_copy):
        raise BadImageError("greyscale or red-free photograph: grading needs a colour photograph")
    return decoded, border


def _longer_side(border: Border) -> int:
    left, top, right, bottom = border.rectangle
    return max(right - left, bottom - top)


def crop(rgb: np.ndarray, geometry: Geometry, *, reduction: int = 1) -> np.ndarray:
    """Crop the square of `geometry`, resize it, and blacken everything beyond the border of the retina.

    White surrounds, burned-in names and a camera's own marks are blackened because a model would learn from them which
    clinic an image is from.

    Args:
        rgb: uint8 RGB copy of the original at 1/`reduction` of its size.
        geometry: the crop on the original.
        reduction: how many times the original is larger than `rgb`.

    Returns:
        uint8 RGB [geometry.size, geometry.size, 3].
    """
    square = _cut_square(rgb, geometry, reduction)
    image = resize_square(square, geometry.size)
    x, y, radius = geometry.circle_on_crop
    return cv2.copyTo(image, inside((x, y, _KEPT_RADIUS * radius), image.shape[:2]).view(np.uint8))


def resize_square(square: np.ndarray, size: int) -> np.ndarray:
    """Resize a square image: area averaging to reduce it, bicubic interpolation to enlarge it."""
    if square.shape[:2] == (size, size):
        return square
    is_smaller = square.shape[0] >= size
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC)


def crop_mask(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Crop a lesion mask of the original (any value above zero is lesion) to a uint8 mask of 0 and 1.

    A pixel belongs to a lesion that covers at least a fifth of it. At one half, most microaneurysms would vanish at 512
    pixels.

    Raises:
        BadImageError: the mask's size is not that of the original.
    """
    if mask.shape[:2] != (geometry.height, geometry.width):
        raise BadImageError(
            f"its mask is {mask.shape[1]} x {mask.shape[0]}, the photograph {geometry.width} x {geometry.height}"
        )
    square = _cut_square(np.where(mask > 0, np.uint8(255), np.uint8(0)), geometry, 1)
    coverage = cv2.resize(square, (geometry.size, geometry.size), interpolation=cv2.INTER_AREA)
    return (coverage >= 0.2 * 255).astype(np.uint8)


def _cut_square(pixels: np.ndarray, geometry: Geometry, reduction: int) -> np.ndarray:
    left, top, right, bottom = (v // reduction for v in geometry.rectangle)
    before_x, before_y, after_x, after_y = (v // reduction for v in geometry.padding)
    return cv2.copyMakeBorder(
        pixels[top:bottom, left:right], before_y, after_y, before_x, after_x, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode RGB as JPEG without chroma subsampling, as small red lesions differ mostly in colour."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1].tobytes()
