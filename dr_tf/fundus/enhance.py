"""Enhancements of a cropped photograph, by name: uint8 RGB square in, uint8 RGB square of the same size out.

`circle=(cx, cy, r)` is the retina's border in pixel-edge coordinates (pixel i covers [i, i + 1]); None is the inscribed
circle.
"""

import cv2
import numpy as np

SMALLEST_SIDE = 16
# JPEG ringing at the border of a photograph reaches about this level; a retina that dark shows nothing.
BLACK = 12
# Bands of padding are straight and nearly all black; the few lit pixels of a caption or a hot sensor are not retina.
_LIT_SHARE = 0.02
# The blur runs on a copy on which its sigma is still four pixels: at two, bright specks come out 3 grey levels off.
_WORKING_SIGMA = 4.0


def check_crop(image):
    """ValueError, in one line, for anything but a uint8 RGB square of at least 16 pixels a side."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a crop is a uint8 array of height x width x 3, not {found}")
    height, width = image.shape[:2]
    if height != width or height < SMALLEST_SIDE:
        raise ValueError(f"a crop is a square of at least {SMALLEST_SIDE} pixels a side, not {height} x {width}")


def circle_or_inscribed(image, circle):
    if circle is None:
        height, width = image.shape[:2]
        return width / 2, height / 2, min(height, width) / 2
    cx, cy, r = (float(value) for value in circle)
    if not (np.isfinite([cx, cy, r]).all() and r > 0):
        raise ValueError(f"a circle is (cx, cy, r) with finite values and r above 0, not {circle}")
    return cx, cy, r


def squared_distances(side, cx, cy):
    """Of each pixel's centre from (cx, cy), side x side."""
    centres = np.arange(side, dtype=np.float32) + np.float32(0.5)
    return (centres - np.float32(cx))[None, :] ** 2 + (centres - np.float32(cy))[:, None] ** 2


def _span(lit, inside, axis):
    lit, inside = (cv2.reduce(mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for mask in (lit, inside))
    seen = np.flatnonzero(lit > _LIT_SHARE * inside)
    return slice(seen[0], seen[-1] + 1) if seen.size else slice(0)


def field_mask(image, circle=None):
    """255 in the circle where it is not cut off by a band of padding, else 0; dark retina inside is 255."""
    cx, cy, r = circle_or_inscribed(image, circle)
    inside = cv2.compare(squared_distances(image.shape[0], cx, cy), r * r, cv2.CMP_LE)
    lit = cv2.compare(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), BLACK, cv2.CMP_GT) & inside
    kept = _span(lit, inside, 1), _span(lit, inside, 0)
    mask = np.zeros_like(inside)
    mask[kept] = inside[kept]
    # The outermost pixel is half retina, half surround: kept, it draws a dark line around every enhanced field.
    return cv2.erode(mask, np.ones((3, 3), np.uint8))


def plain(image, circle=None):
    """The photograph as it is."""
    check_crop(image)
    circle_or_inscribed(image, circle)
    return image


def masked_blur(image, mask, sigma):
    """Gaussian blur of the pixels under the 0/255 mask alone: blur(image * mask) / blur(mask), float32."""
    factor = max(1, int(sigma / _WORKING_SIGMA))
    # Averaging f x f pixels is itself a blur, of variance (f^2 - 1) / 12, and linear interpolation one of f^2 / 6.
    spent = (factor**2 - 1) / 12 + (factor**2 / 6 if factor > 1 else 0)
    total = _reduced_blur(cv2.copyTo(image, mask), factor, np.sqrt(sigma**2 - spent) / factor)
    weight = _reduced_blur(mask, factor, np.sqrt(sigma**2 - spent) / factor)
    means = total * (255 / np.maximum(weight, 1e-3))[..., None]
    if factor > 1:
        means = cv2.resize(means, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    return means[: image.shape[0], : image.shape[1]]


def _reduced_blur(image, factor, sigma):
    pad = -image.shape[0] % factor
    image = cv2.copyMakeBorder(image, 0, pad, 0, pad, cv2.BORDER_CONSTANT).astype(np.float32)
    if factor > 1:
        image = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)


def ben_graham(image, circle=None, *, gain=4.0, sigma_share=1 / 30, outside=128):
    """Ben Graham (Kaggle 2015): gain * (image - blur) + 128 with sigma = r / 30.

    He blurred the black surround too, which leaves a bright rim, and cut the field to 90 % to be rid of it. Here the
    blur is of the field alone, so the whole field is kept. The surround is 128 as he had it: that is the mean of the
    field and, after (x - 127) / 128, the zero that convolutions pad with; black would make the rim the strongest edge.
    """
    check_crop(image)
    mask = field_mask(image, circle)
    mean = masked_blur(image, mask, max(0.5, circle_or_inscribed(image, circle)[2] * sigma_share))
    detail = cv2.addWeighted(image, gain, mean, -gain, 128, dtype=cv2.CV_8U)
    return cv2.copyTo(detail, mask, np.full_like(image, outside))


def _mirrored(at, seen):
    """The coordinates with those beyond the first or last True of `seen` reflected to its inside."""
    low, high = (float(edge) for edge in np.flatnonzero(seen)[[0, -1]])
    return low + np.abs(high - low - np.abs(high - at))


def _folded(image, mask, circle):
    """The single-channel image with all that lies outside the mask replaced by the field's mirror image."""
    cx, cy, r = circle
    pixels = np.arange(image.shape[0], dtype=np.float32)
    distance = np.sqrt(np.maximum(squared_distances(image.shape[0], cx, cy), 1e-3))
    pull = np.minimum(np.maximum(2 * r / distance - 1, 0), 1)
    x = _mirrored(cx - 0.5 + pull * (pixels + 0.5 - cx)[None, :], mask.any(axis=0))
    y = _mirrored(cy - 0.5 + pull * (pixels + 0.5 - cy)[:, None], mask.any(axis=1))
    return cv2.remap(image, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def clahe(image, circle=None, clip_limit=2.0, tiles=8):
    """Contrast-limited adaptive histogram equalization of the lightness; the surround is left as it was.

    Tiles at the rim are equalized with the field's mirror image in place of the surround: its black would fill their
    histograms and leave the rim of the retina too bright.
    """
    check_crop(image)
    mask = field_mask(image, circle)
    if not mask.any():
        return image.copy()
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lightness = _folded(cv2.extractChannel(lab, 0), mask, circle_or_inscribed(image, circle))
    equalizer = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))
    lab = cv2.insertChannel(equalizer.apply(lightness), lab, 0)
    return cv2.copyTo(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), mask, image.copy())


ENHANCEMENTS = {"plain": plain, "graham": ben_graham, "clahe": clahe}


def enhance(name, image, circle=None):
    """`ENHANCEMENTS[name](image, circle)`; ValueError naming the known ones for any other name."""
    if name not in ENHANCEMENTS:
        raise ValueError(f"unknown enhancement {name!r}; known: {', '.join(ENHANCEMENTS)}")
    return ENHANCEMENTS[name](image, circle)
