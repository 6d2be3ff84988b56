"""Compute the signature of an image that the leak audit compares: a few registered views, and a descriptor of each.

A view is a thumbnail of the green channel in the frame of the retina's border, which removes scale and most differences
in cropping. The border can be ambiguous: a round field that was cut and squeezed has a left and a right arc, and either
can be found. In that case, the mirror image of the circle and the box around the visible retina are frames too, and two
copies share at least one of the three.

The descriptor is a band of DCT coefficients of the locally normalized view. A mirror changes signs among them and a
quarter turn swaps them, so the descriptors of all eight orientations follow from one.
"""

import dataclasses

import cv2
import numpy as np

from dr_tf.fundus.geometry import Geometry

VIEW_SIDE = 96  # pixels: 9 KB per view, and the larger vessels are 2 to 3 pixels wide
_VISIBLE_RADIUS = 0.965  # share of the radius that is used: the border itself moves with the camera, not with the eye
# Half waves over the view. Lower frequencies are shading; a badly cut copy does not share the higher ones.
_LOWEST_FREQUENCY, _HIGHEST_FREQUENCY = 3, 12
_NEIGHBOURHOOD = 4.5  # pixels
_VARIANCE_FLOOR = 0.05  # share of the mean variance: keeps the noise of uniform areas from being amplified

# The eight orientations of `b` that can match `a`: (is transposed, are rows reversed, are columns reversed), and the
# transform that made `b` from `a`. Turns are clockwise.
ORIENTATIONS = {
    (0, 0, 0): "",
    (0, 0, 1): "mirror",
    (0, 1, 1): "turn180",
    (0, 1, 0): "mirror turn180",
    (1, 1, 0): "turn90",
    (1, 0, 1): "turn270",
    (1, 0, 0): "mirror turn270",
    (1, 1, 1): "mirror turn90",
}
_FREQUENCY = np.hypot(*np.mgrid[:_HIGHEST_FREQUENCY, :_HIGHEST_FREQUENCY])
_BAND = (_FREQUENCY >= _LOWEST_FREQUENCY) & (_FREQUENCY < _HIGHEST_FREQUENCY)
DESCRIPTOR_LENGTH = int(_BAND.sum())


@dataclasses.dataclass(frozen=True)
class ImageSignature:
    """What the leak audit keeps of an image.

    Attributes:
        sha256: Digest of the original file.
        views: [views, VIEW_SIDE, VIEW_SIDE] uint8, 0 where no retina is visible.
        descriptors: [views, DESCRIPTOR_LENGTH] float16.
    """

    sha256: str
    views: np.ndarray
    descriptors: np.ndarray


def compute_signature(image: np.ndarray, geometry: Geometry, sha256: str) -> ImageSignature:
    """Compute the signature of a crop.

    Args:
        image: The crop, RGB.
        geometry: Where the crop lies on its original.
        sha256: Digest of the original file.
    """
    views = np.stack([_view(image, frame, geometry) for frame in _frames(geometry)])
    return ImageSignature(sha256, views, np.stack([compute_descriptor(view) for view in views]).astype(np.float16))


def _visible_box(geometry):
    """Left, top, right, bottom of the crop without its padding, in pixels of the crop."""
    left, top, right, bottom = (v * geometry.size / geometry.square[2] for v in geometry.padding)
    return left, top, geometry.size - right, geometry.size - bottom


def _frames(geometry):
    """The frames (x, y, radius) of the views, in pixels of the crop."""
    x, y, radius = geometry.circle_on_crop
    left, top, right, bottom = _visible_box(geometry)
    centre_x, centre_y, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
    frames = [(x, y, radius)]
    is_off_centre = np.hypot(x - centre_x, y - centre_y) > 0.03 * radius
    if is_off_centre:
        frames.append((2 * centre_x - x, 2 * centre_y - y, radius))
    if is_off_centre or abs(half / radius - 1) > 0.04:
        frames.append((centre_x, centre_y, half))
    return frames


def _view(image, frame, geometry):
    x, y, radius = frame
    scale = VIEW_SIDE / (2 * radius)
    green = cv2.extractChannel(image, 1)
    if scale < 0.8:
        green = cv2.GaussianBlur(green, (0, 0), 0.45 / scale)
    middle = VIEW_SIDE / 2
    warp = np.array([[scale, 0, middle - scale * (x - 0.5) - 0.5], [0, scale, middle - scale * (y - 0.5) - 0.5]])
    view = cv2.warpAffine(green, warp, (VIEW_SIDE, VIEW_SIDE), flags=cv2.INTER_LINEAR).astype(np.float32)
    visible = _visible(warp, frame, geometry)
    # Stretched, so that eight bits are enough for a dark image too.
    brightest = np.percentile(view[visible], 99.5) if visible.any() else 1.0
    return np.where(visible, np.clip(1 + 254 * view / max(brightest, 1.0), 1, 255), 0).astype(np.uint8)


def _visible(warp, frame, geometry):
    """Where a view shows retina: inside its own circle, the circle of the border, and the image."""
    scale = warp[0, 0]
    y, x = np.mgrid[:VIEW_SIDE, :VIEW_SIDE].astype(np.float32)
    x, y = (x - warp[0, 2]) / scale + 0.5, (y - warp[1, 2]) / scale + 0.5
    left, top, right, bottom = _visible_box(geometry)
    margin = 1 + 0.7 / scale
    visible = (x > left + margin) & (x < right - margin) & (y > top + margin) & (y < bottom - margin)
    for centre_x, centre_y, radius in (frame, geometry.circle_on_crop):
        visible &= (x - centre_x) ** 2 + (y - centre_y) ** 2 < (_VISIBLE_RADIUS * radius) ** 2
    return visible


def normalize_view(
    view: np.ndarray, neighbourhood: float = _NEIGHBOURHOOD, visible: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Remove the shading and the local contrast of a view.

    Args:
        view: [height, width].
        neighbourhood: Standard deviation of the Gaussian neighbourhood, in pixels.
        visible: Float mask of the visible retina. By default, all pixels above 0 are visible.

    Returns:
        The normalized view, 0 where no retina is visible; and the mask.
    """
    visible = (view > 0).astype(np.float32) if visible is None else visible
    weight = cv2.GaussianBlur(visible, (0, 0), neighbourhood) + 1e-4
    view = view.astype(np.float32)
    detail = (view - cv2.GaussianBlur(view * visible, (0, 0), neighbourhood) / weight) * visible
    variance = cv2.GaussianBlur(detail * detail, (0, 0), neighbourhood) / weight
    mean = float((detail * detail).sum()) / max(float(visible.sum()), 1.0)
    return detail / np.sqrt(variance + _VARIANCE_FLOOR * mean + 1e-3), visible


def compute_descriptor(view: np.ndarray) -> np.ndarray:
    """Compute the descriptor of a view: [DESCRIPTOR_LENGTH], of unit length."""
    band = cv2.dct(normalize_view(view)[0])[:_HIGHEST_FREQUENCY, :_HIGHEST_FREQUENCY][_BAND]
    return band / max(float(np.linalg.norm(band)), 1e-6)


def reorient_view(view: np.ndarray, orientation: tuple[int, int, int]) -> np.ndarray:
    """Mirror or turn a view (or any square image) into one of ORIENTATIONS."""
    is_transposed, are_rows_reversed, are_columns_reversed = orientation
    view = view.swapaxes(0, 1) if is_transposed else view
    view = view[::-1] if are_rows_reversed else view
    return np.ascontiguousarray(view[:, ::-1] if are_columns_reversed else view)


def reorient_descriptors(descriptors: np.ndarray, orientation: tuple[int, int, int]) -> np.ndarray:
    """Compute the descriptors [n, DESCRIPTOR_LENGTH] of reoriented views from those of the views."""
    is_transposed, are_rows_reversed, are_columns_reversed = orientation
    spectrum = np.zeros((len(descriptors), _HIGHEST_FREQUENCY, _HIGHEST_FREQUENCY), np.float32)
    spectrum[:, _BAND] = descriptors
    spectrum = spectrum.transpose(0, 2, 1) if is_transposed else spectrum
    signs = np.where(np.arange(_HIGHEST_FREQUENCY) % 2, np.float32(-1), np.float32(1))
    spectrum = spectrum * signs[:, None] if are_rows_reversed else spectrum
    return (spectrum * signs if are_columns_reversed else spectrum)[:, _BAND]
