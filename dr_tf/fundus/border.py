"""Find the border of the retina on a fundus photograph from any camera: its circle and the rectangle to crop.

The background is black, or the grey or white that the corners show. Thresholding the contrast with it at several levels
gives regions, whose outlines give first guesses of the circle (RANSAC). Along the radii of a guess, the border is where
brightness falls most steeply; glow, vignetting and exposure do not move that place. The final circle is fitted through
most of these points, so that notches, burned-in text, reflections and straight cuts do not affect it.
"""

from __future__ import annotations

import dataclasses
import typing

import cv2
import numpy as np

_WORKING_SIDE = 256  # pixels of the copy that is searched: the border is the largest thing on an image
_MIN_CONTRAST = 5  # grey levels above the background that may be retina
_THRESHOLDS = (16, 9, 5, 28, 45, 65)  # 16 first: glow rarely reaches it, so the first guess is mostly the last
_TOLERANCE = 0.015  # of the radius, between a point of the border and the circle
_CONFIDENT_ROUNDNESS = 0.85  # no further threshold is tried
_COMPLETE_ROUNDNESS = 0.97  # nothing that matters can lie outside
_MIN_ROUNDNESS = 0.5  # below, the outline is not a circle
_MAX_RADIUS = 0.9  # of the longer side: larger circles are straight cuts
_MIN_AGREEMENT = 0.6  # share of the rim points that lie on the guess
_MAX_OUTSIDE = 0.04  # share of the region that may lie outside its circle: glow, text, notch
_WHITE = 200  # a corner this bright is a white surround, never retina
_RAYS, _STEPS, _FALL_STEPS = 180, 64, 4  # radii, samples on each, and the distance over which the fall is measured
_TRIPLES, _MAX_POINTS = 96, 120  # RANSAC: circles that are tried, points that vote

CircleTuple = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Border:
    """The border of a retina, in pixel-edge coordinates of the image it was found on: pixel i covers [i, i + 1].

    Attributes:
        circle: centre x, centre y, radius.
        rectangle: left, top, right, bottom of the part of the circle that the image shows.
        roundness: share of the visible arc on which a border was found; 0 if there is none.
    """

    circle: CircleTuple
    rectangle: tuple[int, int, int, int]
    roundness: float

    def scaled(self, factor: float) -> Border:
        """Return the same border on an image `factor` times as large."""
        x, y, radius = (float(v) * factor for v in self.circle)
        left, top, right, bottom = (round(v * factor) for v in self.rectangle)
        return Border((x, y, radius), (left, top, right, bottom), self.roundness)


class _Candidate(typing.NamedTuple):
    circle: np.ndarray
    roundness: float
    contrast: np.ndarray
    region: np.ndarray | None
    contains_region: bool  # hardly any of the region lies outside the circle


def find_border(rgb: np.ndarray, working_copy: tuple[np.ndarray, float] | None = None) -> Border:
    """Find the border of whatever stands out from the background.

    Args:
        rgb: uint8 [height, width, 3].
        working_copy: `shrink(rgb)`, if the caller has computed it already.

    Returns:
        The border; if nothing stands out, the whole frame with roundness 0.
    """
    small, scale = working_copy or shrink(rgb)
    contrasts = _contrasts(small)
    candidates = [
        candidate for contrast in contrasts for candidate in _candidates(contrast, is_only_one=len(contrasts) == 1)
    ]
    if not candidates:
        return _whole_frame(rgb.shape)
    # The contrast with the background's own grey wins when it is nearly as good as that with black: it also shows
    # straight cuts.
    best = max(candidates, key=lambda c: (c.contains_region, c.roundness + 0.1 * (c.contrast is contrasts[0])))
    if best.region is None:
        return _whole_frame(rgb.shape)
    circle, roundness, contrast = best.circle, best.roundness, best.contrast
    if roundness < _MIN_ROUNDNESS or not best.contains_region:
        # Not a circle, for example because the image was squeezed or pasted together: keep the whole region.
        circle, roundness = _enclosing_circle(best.region), min(roundness, _MIN_ROUNDNESS)
    disc = inside(circle, contrast.shape)
    rectangle = _bounding_rectangle((contrast > _MIN_CONTRAST) & disc, disc)
    border = Border(tuple(circle), rectangle, roundness).scaled(1 / scale)
    height, width = rgb.shape[:2]
    left, top, right, bottom = border.rectangle
    return dataclasses.replace(border, rectangle=(left, top, min(right, width), min(bottom, height)))


def shrink(rgb: np.ndarray, side: int = _WORKING_SIDE) -> tuple[np.ndarray, float]:
    """Reduce an image and remove noise, text and dust with a small median filter.

    Returns:
        (copy whose longer side is at most `side`, its size relative to `rgb`)
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, side / max(height, width))
    if (block := int(1 / scale)) > 1:  # averaging whole blocks of pixels is many times faster than fractional ones
        rgb = cv2.resize(rgb, (max(1, width // block), max(1, height // block)), interpolation=cv2.INTER_AREA)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.medianBlur(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR), 3), scale


def _whole_frame(shape: tuple[int, ...]) -> Border:
    height, width = shape[:2]
    return Border((width / 2, height / 2, float(np.hypot(width, height)) / 2), (0, 0, width, height), 0.0)


def _contrasts(small: np.ndarray) -> list[np.ndarray]:
    """Return contrast images: the difference from black and, if a corner is grey or white, from the nearer of both."""
    n = max(2, round(min(small.shape[:2]) / 50))
    corners = [np.median(p.reshape(-1, 3), 0) for p in (small[:n, :n], small[:n, -n:], small[-n:, :n], small[-n:, -n:])]
    from_black = _max_channel(small)
    grey_corners = [c for c in corners if np.ptp(c) < 24 and c.max() > _MIN_CONTRAST]
    if not grey_corners:
        return [from_black]
    grey = np.median(grey_corners, 0)
    from_grey = _max_channel(cv2.absdiff(small, np.broadcast_to(grey.astype(np.uint8), small.shape)))
    from_both = cv2.min(from_black, from_grey)
    return [from_both] if grey.min() > _WHITE else [from_both, from_black]


def _max_channel(image: np.ndarray) -> np.ndarray:
    """Return the maximum over channels as float32. NumPy takes twenty times as long along a last axis of three."""
    red, green, blue = cv2.split(image)
    return cv2.max(red, cv2.max(green, blue)).astype(np.float32)


def _candidates(contrast: np.ndarray, is_only_one: bool) -> list[_Candidate]:
    """Return a circle for each threshold, with the region that stands out around it.

    Args:
        contrast: a contrast image.
        is_only_one: whether it is the only one. Then a complete circle is returned at once.
    """
    candidates = []
    for threshold in _THRESHOLDS:
        region = _largest_region(contrast > threshold)
        guess = None if region is None else _ransac_circle(_outline(region), region.shape)
        circle, rim = _refine(contrast, guess)
        if circle is None:
            continue
        roundness = _roundness(circle, rim, contrast.shape)
        if is_only_one and roundness > _COMPLETE_ROUNDNESS:
            return [_Candidate(circle, roundness, contrast, region, contains_region=True)]
        region = _bright_region(contrast, circle)
        candidates.append(_Candidate(circle, roundness, contrast, region, _contains(circle, region)))
        if roundness > _CONFIDENT_ROUNDNESS:
            break
    return candidates


def _refine(contrast: np.ndarray, guess: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray]:
    """Return (circle, rim points). A guess that the rim disagrees with (glow, for example) is refitted to the rim."""
    rim = np.zeros((0, 2)) if guess is None else _rim_points(contrast, guess)
    if guess is not None and (len(rim) < 12 or _is_near(guess, rim).mean() < _MIN_AGREEMENT):
        guess = _ransac_circle(rim, contrast.shape)
        rim = rim if guess is None else _rim_points(contrast, guess)
    return (None if guess is None else _least_squares(rim[_is_near(guess, rim)], guess)), rim


def _contains(circle: np.ndarray, region: np.ndarray | None) -> bool:
    if region is None:
        return False
    area = np.count_nonzero(region)
    return bool(area - np.count_nonzero(region & inside(circle, region.shape)) <= _MAX_OUTSIDE * area)


def _largest_region(mask: np.ndarray) -> np.ndarray | None:
    """Return the largest connected component with its holes filled, or None if it is under 2 % of the image."""
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if stats[largest, cv2.CC_STAT_AREA] < 0.02 * mask.size:
        return None
    contours, _ = cv2.findContours((labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED).astype(bool)


def _outline(region: np.ndarray) -> np.ndarray:
    """Return the points of a region's outline that are not on the edge of the image."""
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate(contours)[:, 0].astype(np.float32) + 0.5
    height, width = region.shape
    return points[(points > 2).all(1) & (points[:, 0] < width - 2) & (points[:, 1] < height - 2)]


def _rim_points(contrast: np.ndarray, circle: np.ndarray) -> np.ndarray:
    """Return the point near the circle where the contrast falls most steeply, for each radius that has such a fall."""
    x, y, radius = (np.float32(v) for v in circle)
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False, dtype=np.float32)[:, None]
    reach = np.linspace(0.7, 1.2, _STEPS, dtype=np.float32) * radius
    px, py = x + reach * np.cos(angles), y + reach * np.sin(angles)
    profile = cv2.remap(contrast, px - 0.5, py - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    height, width = contrast.shape
    in_frame = (px > 1) & (py > 1) & (px < width - 1) & (py < height - 1)
    fall = np.where(in_frame[:, _FALL_STEPS:], profile[:, :-_FALL_STEPS] - profile[:, _FALL_STEPS:], 0)
    steepest = fall.argmax(1)
    rays = np.arange(_RAYS)
    is_edge = fall[rays, steepest] > max(3.0, 0.08 * float(np.median(profile[:, 0])))
    middle = steepest + _FALL_STEPS // 2
    return np.column_stack([px[rays, middle], py[rays, middle]])[is_edge]


def _ransac_circle(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the circle on which most points lie, refitted by least squares. The random draw is seeded."""
    if len(points) < 12:
        return None
    sample = points[np.linspace(0, len(points) - 1, min(len(points), _MAX_POINTS)).astype(int)]
    triples = np.random.default_rng(0).integers(len(sample), size=(_TRIPLES, 3))
    circles = _circles_through(*(sample[triples[:, i]] for i in range(3)))
    circles = circles[np.isfinite(circles).all(1)]
    circles = circles[(circles[:, 2] > 0.2 * min(shape)) & (circles[:, 2] < _MAX_RADIUS * max(shape))]
    if not len(circles):
        return None
    distance = np.hypot(sample[:, 0] - circles[:, :1], sample[:, 1] - circles[:, 1:2])
    agree = np.abs(distance - circles[:, 2:]) < np.maximum(1.2, _TOLERANCE * circles[:, 2:])
    circle = circles[np.argmax(agree.sum(1))]
    for _ in range(2):
        circle = _least_squares(points[_is_near(circle, points)], circle)
    return circle


def _circles_through(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return (centre x, centre y, radius) through rows of three points; not finite for points on a line."""
    a, b = q - p, r - p
    twice_area = 2 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    aa, bb = (a**2).sum(1), (b**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = (b[:, 1] * aa - a[:, 1] * bb) / twice_area
        y = (a[:, 0] * bb - b[:, 0] * aa) / twice_area
    return np.stack([p[:, 0] + x, p[:, 1] + y, np.hypot(x, y)], 1)


def _is_near(circle: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y, radius = circle
    return np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius) < max(1.2, _TOLERANCE * radius)


def _least_squares(points: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Fit a circle by Kasa's method: linear in (2 x, 2 y, r^2 - x^2 - y^2), for points relative to their mean."""
    if len(points) < 8:
        return fallback
    mean = points.mean(0, dtype=np.float64)
    x, y = (points - mean).T
    square = x * x + y * y
    (a, b), *_ = np.linalg.lstsq([[x @ x, x @ y], [x @ y, y @ y]], [x @ square / 2, y @ square / 2], rcond=None)
    return np.array([a + mean[0], b + mean[1], np.sqrt(a * a + b * b + square.mean())])


def _roundness(circle: np.ndarray, rim: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the share of the visible arc that has rim points on it."""
    x, y, radius = circle
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)
    px, py = x + radius * np.cos(angles), y + radius * np.sin(angles)
    visible = (px > 2) & (py > 2) & (px < shape[1] - 2) & (py < shape[0] - 2)
    near = rim[_is_near(circle, rim)]
    covered = np.zeros(_RAYS, bool)
    covered[np.round(np.arctan2(near[:, 1] - y, near[:, 0] - x) / (2 * np.pi) * _RAYS).astype(int) % _RAYS] = True
    covered |= np.roll(covered, 1) | np.roll(covered, -1)
    return float((covered & visible).sum() / visible.sum()) if visible.sum() >= 8 else 0.0


def inside(circle: CircleTuple | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask of the pixels whose centre lies in the circle.

    Args:
        circle: centre x, centre y, radius in pixel-edge coordinates.
        shape: (height, width, ...) of the image.
    """
    x, y, radius = circle
    columns, rows = np.arange(shape[1]) + 0.5 - x, np.arange(shape[0])[:, None] + 0.5 - y
    return columns**2 + rows**2 <= radius**2


def _bright_region(contrast: np.ndarray, circle: np.ndarray) -> np.ndarray | None:
    """Return what stands out by a quarter of the retina's own brightness, which leaves out the glow around it."""
    retina = contrast[inside(circle, contrast.shape)]
    return _largest_region(contrast > max(_MIN_CONTRAST, 0.25 * float(np.median(retina)))) if retina.size else None


def _enclosing_circle(region: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (x, y), radius = cv2.minEnclosingCircle(np.concatenate(contours))
    return np.array([x + 0.5, y + 0.5, radius + 0.5])


def _bounding_rectangle(visible: np.ndarray, disc: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the rows and columns of the circle that show enough retina.

    Enough is a quarter of their length. Those beyond a straight cut show none.
    """
    spans = []
    for axis in (0, 1):
        lines = np.flatnonzero(visible.sum(axis) > 0.25 * np.maximum(disc.sum(axis), 1))
        spans.append((int(lines[0]), int(lines[-1]) + 1) if len(lines) else (0, visible.shape[1 - axis]))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom
