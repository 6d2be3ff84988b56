"""What is compared of a photograph to find its copies: a few views on the retina, and a descriptor of each.

A view is a thumbnail of the green channel in the frame of the retina's border, so that scale and most re-cropping are
gone. Where the border is not certain (a round field that was cut and squeezed has a left and a right arc, and either
can win), its mirror image and the box around what is seen are frames, too: two copies share at least one of the three.

The descriptor is a band of cosine coefficients of the locally normalized view. A mirror changes signs among them and a
quarter turn swaps them, so the eight variants of a photograph cost nothing to describe.
"""

import dataclasses

import cv2
import numpy as np

SIDE = 96  # of a view: 9 KB, and the larger vessels are 2 to 3 pixels wide
_SEEN = 0.965  # of the radius: the border itself moves with the camera, not with the eye
_LOWEST, _HIGHEST = 3, 12  # half waves over the view: below lies shading, above what a badly cut copy does not share
_NEIGHBOURHOOD = 4.5  # pixels
_FLOOR = 0.05  # of the mean variance: a plain neighbourhood stays plain

# (transposed, rows mirrored, columns mirrored) of b that looks like a, and what made b of a (turns are clockwise).
VARIANTS = {
    (0, 0, 0): "",
    (0, 0, 1): "mirror",
    (0, 1, 1): "turn180",
    (0, 1, 0): "mirror turn180",
    (1, 1, 0): "turn90",
    (1, 0, 1): "turn270",
    (1, 0, 0): "mirror turn270",
    (1, 1, 1): "mirror turn90",
}
_FREQUENCY = np.hypot(*np.mgrid[:_HIGHEST, :_HIGHEST])
_BAND = (_FREQUENCY >= _LOWEST) & (_FREQUENCY < _HIGHEST)
LENGTH = int(_BAND.sum())


@dataclasses.dataclass(frozen=True)
class Trace:
    """What the audit keeps of a photograph. Views are uint8, 0 where the retina is not seen."""

    sha256: str
    views: np.ndarray  # [frames, SIDE, SIDE]
    descriptors: np.ndarray  # [frames, LENGTH] float16


def trace(image, geometry, sha256):
    """The Trace of a crop."""
    views = np.stack([_view(image, frame, geometry) for frame in _frames(geometry)])
    return Trace(sha256, views, np.stack([describe(view) for view in views]).astype(np.float16))


def _seen_box(geometry):
    """Left, top, right, bottom of what is no padding, in pixels of the crop."""
    left, top, right, bottom = (v * geometry.size / geometry.square[2] for v in geometry.padding)
    return left, top, geometry.size - right, geometry.size - bottom


def _frames(geometry):
    x, y, radius = geometry.circle_on_crop
    left, top, right, bottom = _seen_box(geometry)
    cx, cy, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) / 2
    frames = [(x, y, radius)]
    aside = np.hypot(x - cx, y - cy) > 0.03 * radius
    if aside:
        frames.append((2 * cx - x, 2 * cy - y, radius))
    if aside or abs(half / radius - 1) > 0.04:
        frames.append((cx, cy, half))
    return frames


def _view(image, frame, geometry):
    x, y, radius = frame
    scale = SIDE / (2 * radius)
    green = cv2.extractChannel(image, 1)
    if scale < 0.8:
        green = cv2.GaussianBlur(green, (0, 0), 0.45 / scale)
    place = np.array([[scale, 0, SIDE / 2 - scale * (x - 0.5) - 0.5], [0, scale, SIDE / 2 - scale * (y - 0.5) - 0.5]])
    view = cv2.warpAffine(green, place, (SIDE, SIDE), flags=cv2.INTER_LINEAR).astype(np.float32)
    seen = _seen(place, frame, geometry)
    # Stretched, so that eight bits are enough for a dark photograph, too.
    brightest = np.percentile(view[seen], 99.5) if seen.any() else 1.0
    return np.where(seen, np.clip(1 + 254 * view / max(brightest, 1.0), 1, 255), 0).astype(np.uint8)


def _seen(place, frame, geometry):
    """Where a view shows retina: inside its own circle, the border's circle and the photograph."""
    scale = place[0, 0]
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    x, y = (x - place[0, 2]) / scale + 0.5, (y - place[1, 2]) / scale + 0.5
    left, top, right, bottom = _seen_box(geometry)
    margin = 1 + 0.7 / scale
    seen = (x > left + margin) & (x < right - margin) & (y > top + margin) & (y < bottom - margin)
    for cx, cy, radius in (frame, geometry.circle_on_crop):
        seen &= (x - cx) ** 2 + (y - cy) ** 2 < (_SEEN * radius) ** 2
    return seen


def normalized(view, neighbourhood=_NEIGHBOURHOOD, seen=None):
    """The view with its shading and its local contrast taken out, 0 where nothing is seen; and what is seen."""
    seen = (view > 0).astype(np.float32) if seen is None else seen
    weight = cv2.GaussianBlur(seen, (0, 0), neighbourhood) + 1e-4
    view = view.astype(np.float32)
    detail = (view - cv2.GaussianBlur(view * seen, (0, 0), neighbourhood) / weight) * seen
    variance = cv2.GaussianBlur(detail * detail, (0, 0), neighbourhood) / weight
    mean = float((detail * detail).sum()) / max(float(seen.sum()), 1.0)
    return detail / np.sqrt(variance + _FLOOR * mean + 1e-3), seen


def describe(view):
    band = cv2.dct(normalized(view)[0])[:_HIGHEST, :_HIGHEST][_BAND]
    return band / max(float(np.linalg.norm(band)), 1e-6)


def varied(view, variant):
    """A view (or any square picture) as one of VARIANTS shows it."""
    transposed, rows, columns = variant
    view = view.swapaxes(0, 1) if transposed else view
    view = view[::-1] if rows else view
    return np.ascontiguousarray(view[:, ::-1] if columns else view)


def varied_descriptors(descriptors, variant):
    """The descriptors [n, LENGTH] of such views."""
    transposed, rows, columns = variant
    whole = np.zeros((len(descriptors), _HIGHEST, _HIGHEST), np.float32)
    whole[:, _BAND] = descriptors
    whole = whole.transpose(0, 2, 1) if transposed else whole
    signs = np.where(np.arange(_HIGHEST) % 2, np.float32(-1), np.float32(1))
    whole = whole * signs[:, None] if rows else whole
    return (whole * signs if columns else whole)[:, _BAND]
