"""The one path from a photograph's bytes to the pixels that a model sees.

Records, prediction, explanation and the app all come through here, so that what is measured is what is deployed.
"""

import dataclasses
import math
import re

import cv2
import numpy as np

from dr_tf.fundus import subprocesses
from dr_tf.fundus.border import find_border, inside, shrink
from dr_tf.fundus.decode import MAX_PIXELS, decode
from dr_tf.fundus.enhance import enhance
from dr_tf.fundus.geometry import Geometry, square_around
from dr_tf.fundus.gradability import Gradability, gradability
from dr_tf.fundus.header import BadImageError, read_header
from dr_tf.fundus.is_fundus import why_no_retina, without_colour

# A JPEG is decoded at the least scale that leaves this many pixels for each of the crop's: 51 dB against all of them.
_OVERSAMPLING = 1.3
_SMALLEST = 32
# What libjpeg and libtiff say of damaged data; of odd tags they speak, too.
_DAMAGED = re.compile(rb"Corrupt JPEG data|Premature end of JPEG|TIFF_Error|TIFF_Warning \w+Decode")
_KEPT = 0.985  # of the radius: white paper shines into the outermost pixels


@dataclasses.dataclass(frozen=True)
class Prepared:
    image: np.ndarray  # [size, size, 3] RGB, black beyond the retina's border
    geometry: Geometry
    gradability: Gradability  # of the photograph as taken, before any enhancement
    roundness: float  # how much of the border was seen


def prepare(data, *, size, enhancement="plain", max_pixels=MAX_PIXELS):
    """Decode, find the retina, crop, resize, enhance. Raises BadImageError with the reason where that fails."""
    side = size * _OVERSAMPLING
    photograph, border = _find(data, math.ceil(side), max_pixels)
    if _side(border) < size and photograph.reduction > 1:  # the retina is a small part of a large photograph
        shorter = min(photograph.rgb.shape[:2])
        photograph, border = _find(data, math.ceil(side * shorter / _side(border)), max_pixels)
    geometry = square_around(
        border, reduction=photograph.reduction, width=photograph.width, height=photograph.height, size=size
    )
    image = crop(photograph.rgb, geometry, reduction=photograph.reduction)
    quality = gradability(image, geometry.circle_on_crop)
    return Prepared(enhance(enhancement, image, geometry.circle_on_crop), geometry, quality, border.roundness)


@subprocesses.run_in_worker
def prepare_undamaged(data, **options):
    """`prepare`, and refuses data that their library says are damaged. From any thread; it changes nothing around it."""
    with subprocesses.library_messages() as read_messages:
        try:
            return prepare(data, **options)
        finally:  # whatever else is found wrong with such a picture
            if _DAMAGED.search(read_messages()):
                raise BadImageError(f"the {read_header(data).format.upper()} file is damaged") from None


def _find(data, side, max_pixels):
    photograph = decode(data, side=side, max_pixels=max_pixels)
    if min(photograph.width, photograph.height) < _SMALLEST:
        raise BadImageError(f"{photograph.width} x {photograph.height} pixels are too few for a retina")
    working_copy = shrink(photograph.rgb)
    border = find_border(photograph.rgb, working_copy)
    reason = why_no_retina(photograph.rgb, border, working_copy)
    if reason:
        raise BadImageError(f"no retina found: {reason}")
    if without_colour(border, *working_copy):
        raise BadImageError("greyscale or red-free photograph: what is graded here is learned from colour")
    return photograph, border


def _side(border):
    left, top, right, bottom = border.rectangle
    return max(right - left, bottom - top)


def crop(rgb, geometry, *, reduction=1):
    """The geometry's square out of `rgb`, a copy of the original at 1/`reduction`; black where there is no retina.

    Beyond the border everything is blackened: white paper, burned-in names and the camera's own marks tell a model
    which clinic a photograph is from.
    """
    square = _square(rgb, geometry, reduction)
    image = resized(square, geometry.size)
    x, y, radius = geometry.circle_on_crop
    return cv2.copyTo(image, inside((x, y, _KEPT * radius), image.shape[:2]).view(np.uint8))


def resized(square, size):
    """A square at another size, itself where it has that already."""
    if square.shape[:2] == (size, size):
        return square
    shrinks = square.shape[0] >= size
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def crop_mask(mask, geometry):
    """A lesion mask of the whole original (anything above zero counts) on the crop, 0 or 1.

    A pixel that a lesion covers by a fifth belongs to it: by half, most microaneurysms would vanish at 512 pixels.
    """
    if mask.shape[:2] != (geometry.height, geometry.width):
        raise BadImageError(
            f"its mask is {mask.shape[1]} x {mask.shape[0]}, the photograph {geometry.width} x {geometry.height}"
        )
    square = _square(np.where(mask > 0, np.uint8(255), np.uint8(0)), geometry, 1)
    cover = cv2.resize(square, (geometry.size, geometry.size), interpolation=cv2.INTER_AREA)
    return (cover >= 0.2 * 255).astype(np.uint8)


def _square(pixels, geometry, reduction):
    left, top, right, bottom = (v // reduction for v in geometry.rectangle)
    before_x, before_y, after_x, after_y = (v // reduction for v in geometry.padding)
    return cv2.copyMakeBorder(
        pixels[top:bottom, left:right], before_y, after_y, before_x, after_x, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )


def encode_jpeg(image, quality=95):
    """JPEG bytes with full colour resolution: small red lesions live in the colour channels."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1].tobytes()
