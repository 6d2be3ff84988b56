"""Find the retina on a photograph of any camera: the circle of its border and the rectangle to crop.

The background is black, or the grey or white that corners show. Regions that stand out from it at several levels give
first guesses of a circle; along the radii of a guess the border is where brightness falls most steeply, which no
glow, vignette or exposure moves. A circle through most of these points leaves notches, burned-in text, reflections
and straight cuts outside the fit.
"""

import dataclasses
import typing

import cv2
import numpy as np

_SIDE = 256  # pixels on which the search runs: the border is the largest thing on a photograph
_DIMMEST = 5  # grey levels above the background that may be retina
_LEVELS = (16, 9, 5, 28, 45, 65)  # 16 first: glow rarely reaches it, so the first guess is mostly the last
_TOLERANCE = 0.015  # of the radius, between a point of the border and the circle
_CERTAIN = 0.85  # of the visible arc: no further level is tried
_WHOLE = 0.97  # of the visible arc: nothing that matters can lie outside
_ROUND = 0.5  # below this share of the visible arc the outline is no circle
_LARGEST = 0.9  # of the longer side: larger circles are straight cuts
_AGREE = 0.6  # of the rim lies where the guess has it
_ESCAPE = 0.04  # of the region may lie outside its circle: glow, text, notch
_WHITE = 200  # a corner this bright is paper, never retina
_RAYS, _STEPS, _SPAN = 180, 64, 4
_TRIPLES, _POINTS = 96, 120


@dataclasses.dataclass(frozen=True)
class Border:
    """In pixel-edge coordinates of the photograph it was found on: pixel i reaches from i to i + 1."""

    circle: tuple[float, float, float]  # centre x, centre y, radius
    rectangle: tuple[int, int, int, int]  # left, top, right, bottom: what the frame shows of the circle
    roundness: float  # share of the visible arc on which a border was seen; 0 where it was nowhere seen

    def scaled(self, factor):
        """The same border on a photograph `factor` times as large."""
        circle = tuple(float(v) * factor for v in self.circle)
        return Border(circle, tuple(round(v * factor) for v in self.rectangle), self.roundness)


class _Candidate(typing.NamedTuple):
    circle: np.ndarray
    roundness: float
    contrast: np.ndarray
    region: np.ndarray | None
    holds: bool  # hardly anything of the region lies outside the circle


def find_border(rgb, working_copy=None):
    """The border of whatever stands out from the background; where nothing does, the frame itself, roundness 0.

    `working_copy` is shrink(rgb), for a caller that has it already.
    """
    small, scale = working_copy or shrink(rgb)
    contrasts = _contrasts(small)
    candidates = [c for contrast in contrasts for c in _candidates(contrast, alone=len(contrasts) == 1)]
    if not candidates:
        return _frame(rgb.shape)
    # Where a background's own grey tells nearly as much as black does, it is right: it shows the straight cuts, too.
    best = max(candidates, key=lambda c: (c.holds, c.roundness + 0.1 * (c.contrast is contrasts[0])))
    if best.region is None:
        return _frame(rgb.shape)
    circle, roundness, contrast = best.circle, best.roundness, best.contrast
    if roundness < _ROUND or not best.holds:
        # Squeezed or pasted together: no circle, but all of it is kept.
        circle, roundness = _around(best.region), min(roundness, _ROUND)
    disc = inside(circle, contrast.shape)
    found = Border(tuple(circle), _rectangle((contrast > _DIMMEST) & disc, disc), roundness).scaled(1 / scale)
    height, width = rgb.shape[:2]
    left, top, right, bottom = found.rectangle
    return dataclasses.replace(found, rectangle=(left, top, min(right, width), min(bottom, height)))


def shrink(rgb, side=_SIDE):
    """`rgb` with its longer side at most `side`, and the factor; a small median takes off noise, text and dust."""
    height, width = rgb.shape[:2]
    scale = min(1.0, side / max(height, width))
    if (whole := int(1 / scale)) > 1:  # averaging whole blocks of pixels is many times as fast as fractions of them
        rgb = cv2.resize(rgb, (max(1, width // whole), max(1, height // whole)), interpolation=cv2.INTER_AREA)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.medianBlur(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR), 3), scale


def _frame(shape):
    height, width = shape[:2]
    return Border((width / 2, height / 2, float(np.hypot(width, height)) / 2), (0, 0, width, height), 0.0)


def _contrasts(small):
    """Difference to black and, where a corner shows another grey or white, to the nearest of both."""
    n = max(2, round(min(small.shape[:2]) / 50))
    corners = [np.median(p.reshape(-1, 3), 0) for p in (small[:n, :n], small[:n, -n:], small[-n:, :n], small[-n:, -n:])]
    to_black = _brightest(small)
    greys = [c for c in corners if np.ptp(c) < 24 and c.max() > _DIMMEST]
    if not greys:
        return [to_black]
    grey = np.median(greys, 0)
    to_both = cv2.min(to_black, _brightest(cv2.absdiff(small, np.broadcast_to(grey.astype(np.uint8), small.shape))))
    return [to_both] if grey.min() > _WHITE else [to_both, to_black]


def _brightest(picture):
    """Maximum over channels as float32; numpy takes twenty times as long along a last axis of three."""
    red, green, blue = cv2.split(picture)
    return cv2.max(red, cv2.max(green, blue)).astype(np.float32)


def _candidates(contrast, alone):
    """A circle for each level, with what stands out around it; a whole one on black needs no second look at that."""
    found = []
    for level in _LEVELS:
        region = _largest_region(contrast > level)
        guess = None if region is None else _ransac(_outline(region), region.shape)
        circle, rim = _refined(contrast, guess)
        if circle is None:
            continue
        roundness = _roundness(circle, rim, contrast.shape)
        if alone and roundness > _WHOLE:
            return [_Candidate(circle, roundness, contrast, region, holds=True)]
        region = _region(contrast, circle)
        found.append(_Candidate(circle, roundness, contrast, region, _holds(circle, region)))
        if roundness > _CERTAIN:
            break
    return found


def _refined(contrast, guess):
    """(circle, points of the rim); a guess that the rim disagrees with, as glow around it makes, is found anew."""
    rim = np.zeros((0, 2)) if guess is None else _rim(contrast, guess)
    if guess is not None and (len(rim) < 12 or _near(guess, rim).mean() < _AGREE):
        guess = _ransac(rim, contrast.shape)
        rim = rim if guess is None else _rim(contrast, guess)
    return (None if guess is None else _least_squares(rim[_near(guess, rim)], guess)), rim


def _holds(circle, region):
    if region is None:
        return False
    size = np.count_nonzero(region)
    return size - np.count_nonzero(region & inside(circle, region.shape)) <= _ESCAPE * size


def _largest_region(mask):
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if stats[largest, cv2.CC_STAT_AREA] < 0.02 * mask.size:
        return None
    contours, _ = cv2.findContours((labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED).astype(bool)


def _outline(region):
    """Points of a region's outline that are not the frame's edge."""
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate(contours)[:, 0].astype(np.float32) + 0.5
    height, width = region.shape
    return points[(points > 2).all(1) & (points[:, 0] < width - 2) & (points[:, 1] < height - 2)]


def _rim(contrast, circle):
    """Where each radius of a first guess falls most steeply, if it does anywhere near the guess."""
    x, y, radius = (np.float32(v) for v in circle)
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False, dtype=np.float32)[:, None]
    reach = np.linspace(0.7, 1.2, _STEPS, dtype=np.float32) * radius
    px, py = x + reach * np.cos(angles), y + reach * np.sin(angles)
    profile = cv2.remap(contrast, px - 0.5, py - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    height, width = contrast.shape
    in_frame = (px > 1) & (py > 1) & (px < width - 1) & (py < height - 1)
    fall = np.where(in_frame[:, _SPAN:], profile[:, :-_SPAN] - profile[:, _SPAN:], 0)
    steepest = fall.argmax(1)
    rays = np.arange(_RAYS)
    real = fall[rays, steepest] > max(3.0, 0.08 * float(np.median(profile[:, 0])))
    at = steepest + _SPAN // 2
    return np.column_stack([px[rays, at], py[rays, at]])[real]


def _ransac(points, shape):
    """The circle that most points agree on, by least squares through those; the draw is seeded, so it repeats."""
    if len(points) < 12:
        return None
    sample = points[np.linspace(0, len(points) - 1, min(len(points), _POINTS)).astype(int)]
    triples = np.random.default_rng(0).integers(len(sample), size=(_TRIPLES, 3))
    circles = _circles_through(*(sample[triples[:, i]] for i in range(3)))
    circles = circles[np.isfinite(circles).all(1)]
    circles = circles[(circles[:, 2] > 0.2 * min(shape)) & (circles[:, 2] < _LARGEST * max(shape))]
    if not len(circles):
        return None
    distance = np.hypot(sample[:, 0] - circles[:, :1], sample[:, 1] - circles[:, 1:2])
    agree = np.abs(distance - circles[:, 2:]) < np.maximum(1.2, _TOLERANCE * circles[:, 2:])
    circle = circles[np.argmax(agree.sum(1))]
    for _ in range(2):
        circle = _least_squares(points[_near(circle, points)], circle)
    return circle


def _circles_through(p, q, r):
    """(centre x, centre y, radius) through rows of three points; not finite where they lie on a line."""
    a, b = q - p, r - p
    twice_area = 2 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    aa, bb = (a**2).sum(1), (b**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = (b[:, 1] * aa - a[:, 1] * bb) / twice_area
        y = (a[:, 0] * bb - b[:, 0] * aa) / twice_area
    return np.stack([p[:, 0] + x, p[:, 1] + y, np.hypot(x, y)], 1)


def _near(circle, points):
    x, y, radius = circle
    return np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius) < max(1.2, _TOLERANCE * radius)


def _least_squares(points, fallback):
    """Kasa's fit, linear in (2 x, 2 y, r^2 - x^2 - y^2) of points around their mean."""
    if len(points) < 8:
        return fallback
    mean = points.mean(0, dtype=np.float64)
    x, y = (points - mean).T
    square = x * x + y * y
    (a, b), *_ = np.linalg.lstsq([[x @ x, x @ y], [x @ y, y @ y]], [x @ square / 2, y @ square / 2], rcond=None)
    return np.array([a + mean[0], b + mean[1], np.sqrt(a * a + b * b + square.mean())])


def _roundness(circle, rim, shape):
    x, y, radius = circle
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)
    px, py = x + radius * np.cos(angles), y + radius * np.sin(angles)
    visible = (px > 2) & (py > 2) & (px < shape[1] - 2) & (py < shape[0] - 2)
    near = rim[_near(circle, rim)]
    seen = np.zeros(_RAYS, bool)
    seen[np.round(np.arctan2(near[:, 1] - y, near[:, 0] - x) / (2 * np.pi) * _RAYS).astype(int) % _RAYS] = True
    seen |= np.roll(seen, 1) | np.roll(seen, -1)
    return float((seen & visible).sum() / visible.sum()) if visible.sum() >= 8 else 0.0


def inside(circle, shape):
    """Which pixels of a picture have their centre in the circle."""
    x, y, radius = circle
    columns, rows = np.arange(shape[1]) + 0.5 - x, np.arange(shape[0])[:, None] + 0.5 - y
    return columns**2 + rows**2 <= radius**2


def _region(contrast, circle):
    """What stands out by a quarter of the retina's own brightness: glow around it does not."""
    retina = contrast[inside(circle, contrast.shape)]
    return _largest_region(contrast > max(_DIMMEST, 0.25 * float(np.median(retina)))) if retina.size else None


def _around(region):
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (x, y), radius = cv2.minEnclosingCircle(np.concatenate(contours))
    return np.array([x + 0.5, y + 0.5, radius + 0.5])


def _rectangle(shown, disc):
    """Rows and columns of the circle that show anything on a quarter of their length: behind a straight cut none do."""
    spans = []
    for axis in (0, 1):
        lines = np.flatnonzero(shown.sum(axis) > 0.25 * np.maximum(disc.sum(axis), 1))
        spans.append((int(lines[0]), int(lines[-1]) + 1) if len(lines) else (0, shown.shape[1 - axis]))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom
