"""Enhance a fundus crop: Ben Graham's local-average subtraction, CLAHE, or none.

Each function takes a uint8 RGB square and returns one of the same size. `circle=(cx, cy, r)` is the border of the
retina in pixel-edge coordinates (pixel i covers [i, i + 1]); None stands for the inscribed circle.
"""

import cv2
import numpy as np

Circle = tuple[float, float, float]

SMALLEST_SIDE = 16
# JPEG ringing at the border of an image reaches about this level. A retina that dark shows nothing.
BLACK = 12
# A row or column with at most this share of lit pixels is padding: a caption or hot pixels light up a few even there.
_LIT_SHARE = 0.02
# Large blurs run on a reduced copy, on which their sigma is at least this many pixels: at two pixels, bright specks
# come out 3 grey levels off.
_WORKING_SIGMA = 4.0


def check_crop(image: np.ndarray) -> None:
    """Raise ValueError unless `image` is a uint8 RGB square of at least 16 pixels a side."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        actual = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a crop is a uint8 array of height x width x 3, not {actual}")
    height, width = image.shape[:2]
    if height != width or height < SMALLEST_SIDE:
        raise ValueError(f"a crop is a square of at least {SMALLEST_SIDE} pixels a side, not {height} x {width}")


def circle_or_inscribed(image: np.ndarray, circle: Circle | None) -> Circle:
    """Return `circle`, or the image's inscribed circle for None.

    Raises:
        ValueError: a value is not finite, or the radius is not positive.
    """
    if circle is None:
        height, width = image.shape[:2]
        return width / 2, height / 2, min(height, width) / 2
    cx, cy, r = (float(value) for value in circle)
    if not (np.isfinite([cx, cy, r]).all() and r > 0):
        raise ValueError(f"a circle is (cx, cy, r) with finite values and r above 0, not {circle}")
    return cx, cy, r


def squared_distances(side: int, cx: float, cy: float) -> np.ndarray:
    """Return the squared distance of each pixel's centre from (cx, cy), float32 [side, side]."""
    centres = np.arange(side, dtype=np.float32) + np.float32(0.5)
    return (centres - np.float32(cx))[None, :] ** 2 + (centres - np.float32(cy))[:, None] ** 2


def _lit_span(lit: np.ndarray, inside: np.ndarray, axis: int) -> slice:
    """Return the slice from the first to the last row (axis 1) or column (axis 0) that is not padding."""
    lit, inside = (cv2.reduce(mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for mask in (lit, inside))
    lit_lines = np.flatnonzero(lit > _LIT_SHARE * inside)
    return slice(lit_lines[0], lit_lines[-1] + 1) if lit_lines.size else slice(0)


def _compare(image: np.ndarray, value: float, operation: int) -> np.ndarray:
    return cv2.compare(image, value, operation)  # type: ignore[call-overload]  # OpenCV's stubs know no scalars here


def field_mask(image: np.ndarray, circle: Circle | None = None) -> np.ndarray:
    """Return the mask of the retina, uint8 [height, width].

    It is 255 inside the circle, also where the retina is dark, and 0 elsewhere and on bands of black padding.
    """
    cx, cy, r = circle_or_inscribed(image, circle)
    inside = _compare(squared_distances(image.shape[0], cx, cy), r * r, cv2.CMP_LE)
    lit = _compare(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), BLACK, cv2.CMP_GT) & inside
    kept = _lit_span(lit, inside, 1), _lit_span(lit, inside, 0)
    mask = np.zeros_like(inside)
    mask[kept] = inside[kept]
    # The outermost pixel is half retina, half surround. Kept, it would draw a dark line around every enhanced field.
    return cv2.erode(mask, np.ones((3, 3), np.uint8))


def plain(image: np.ndarray, circle: Circle | None = None) -> np.ndarray:
    """Return the image unchanged."""
    check_crop(image)
    circle_or_inscribed(image, circle)
    return image


def masked_blur(image: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur only the pixels under a 0/255 mask: blur(image * mask) / blur(mask), Gaussian, float32."""
    factor = max(1, int(sigma / _WORKING_SIGMA))
    # Reducing and enlarging blur, too: averaging f x f pixels has the variance (f^2 - 1) / 12, linear interpolation
    # f^2 / 6.
    resizing_variance = (factor**2 - 1) / 12 + (factor**2 / 6 if factor > 1 else 0)
    reduced_sigma = np.sqrt(sigma**2 - resizing_variance) / factor
    total = _reduced_blur(cv2.copyTo(image, mask), factor, reduced_sigma)
    weight = _reduced_blur(mask, factor, reduced_sigma)
    means = total * (255 / np.maximum(weight, 1e-3))[..., None]
    if factor > 1:
        means = cv2.resize(means, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    return means[: image.shape[0], : image.shape[1]]


def _reduced_blur(image: np.ndarray, factor: int, sigma: float) -> np.ndarray:
    pad = -image.shape[0] % factor
    image = cv2.copyMakeBorder(image, 0, pad, 0, pad, cv2.BORDER_CONSTANT).astype(np.float32)
    if factor > 1:
        image = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)


def ben_graham(
    image: np.ndarray,
    circle: Circle | None = None,
    *,
    gain: float = 4.0,
    sigma_share: float = 1 / 30,
    outside: int = 128,
) -> np.ndarray:
    """Subtract the local average colour, after Ben Graham (Kaggle 2015): gain * (image - blur) + 128, sigma = r / 30.

    Graham also blurred the black surround, which leaves a bright rim, and cut the field to 90 % to remove the rim.
    Here only the field is blurred, so the whole field is kept. The surround is 128, as in his version: that is the
    mean of the field and, after (x - 127) / 128, the zero with which convolutions pad. With a black surround, the rim
    would be the strongest edge.

    Args:
        image: uint8 RGB square.
        circle: the border of the retina.
        gain: contrast of the result.
        sigma_share: sigma of the blur as a share of the circle's radius.
        outside: grey level of the surround.
    """
    check_crop(image)
    mask = field_mask(image, circle)
    mean = masked_blur(image, mask, max(0.5, circle_or_inscribed(image, circle)[2] * sigma_share))
    detail = cv2.addWeighted(image, gain, mean, -gain, 128, dtype=cv2.CV_8U)
    return cv2.copyTo(detail, mask, np.full_like(image, outside))


def _reflect(positions: np.ndarray, is_inside: np.ndarray) -> np.ndarray:
    """Reflect positions beyond the first or last True of `is_inside` to between them."""
    low, high = (float(edge) for edge in np.flatnonzero(is_inside)[[0, -1]])
    return low + np.abs(high - low - np.abs(high - positions))


def _mirror_outside(image: np.ndarray, mask: np.ndarray, circle: Circle) -> np.ndarray:
    """Replace everything outside the mask of a single-channel image by the mirror image of the field."""
    cx, cy, r = circle
    pixels = np.arange(image.shape[0], dtype=np.float32)
    distance = np.sqrt(np.maximum(squared_distances(image.shape[0], cx, cy), 1e-3))
    pull = np.minimum(np.maximum(2 * r / distance - 1, 0), 1)
    x = _reflect(cx - 0.5 + pull * (pixels + 0.5 - cx)[None, :], np.asarray(mask.any(axis=0)))
    y = _reflect(cy - 0.5 + pull * (pixels + 0.5 - cy)[:, None], np.asarray(mask.any(axis=1)))
    return cv2.remap(image, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def clahe(image: np.ndarray, circle: Circle | None = None, clip_limit: float = 2.0, tiles: int = 8) -> np.ndarray:
    """Apply contrast-limited adaptive histogram equalization (CLAHE) to the lightness; the surround stays unchanged.

    Tiles at the rim see the mirror image of the field in place of the surround. Its black would fill their histograms
    and leave the rim of the retina too bright.

    Args:
        image: uint8 RGB square.
        circle: the border of the retina.
        clip_limit: the contrast limit, as in OpenCV.
        tiles: number of tiles on a side.
    """
    check_crop(image)
    mask = field_mask(image, circle)
    if not mask.any():
        return image.copy()
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lightness = _mirror_outside(cv2.extractChannel(lab, 0), mask, circle_or_inscribed(image, circle))
    equalizer = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))
    lab = cv2.insertChannel(equalizer.apply(lightness), lab, 0)
    return cv2.copyTo(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), mask, image.copy())


ENHANCEMENTS = {"plain": plain, "graham": ben_graham, "clahe": clahe}


def enhance(name: str, image: np.ndarray, circle: Circle | None = None) -> np.ndarray:
    """Apply the enhancement of that name.

    Raises:
        ValueError: no enhancement has that name.
    """
    if name not in ENHANCEMENTS:
        raise ValueError(f"unknown enhancement {name!r}; known: {', '.join(ENHANCEMENTS)}")
    return ENHANCEMENTS[name](image, circle)
