"""Draw noise, soft polygons and smooth curves. Positions are pixel-edge coordinates."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

# OpenCV draws at fixed-point positions. With four fractional bits nothing visibly snaps to the pixel grid.
_FRACTION_BITS = 4


def fixed_point(points: ArrayLike) -> np.ndarray:
    """Convert pixel-edge float points to the fixed-point, pixel-centre integers that OpenCV draws at."""
    return np.round((np.asarray(points) - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)


def fill_all(layer: np.ndarray, mask: np.ndarray, outlines: np.ndarray, values: Iterable[float]) -> None:
    """Fill outlines [count, points, 2]: in `layer` with soft edges and `values`, in `mask` with ones."""
    soft, hard = fixed_point(outlines), np.floor(outlines).astype(np.int32)
    for fine, coarse, value in zip(soft, hard, values, strict=True):
        cv2.fillPoly(layer, [fine], (float(value),), lineType=cv2.LINE_AA, shift=_FRACTION_BITS)
        cv2.fillPoly(mask, [coarse], (1,))


def fill(layer: np.ndarray, polygon: ArrayLike, value: float = 255) -> None:
    """Fill one polygon with a soft edge."""
    cv2.fillPoly(layer, [fixed_point(polygon)], (value,), lineType=cv2.LINE_AA, shift=_FRACTION_BITS)


def stroke_fixed_point(layer: np.ndarray, points: np.ndarray, thickness: int, value: float) -> None:
    """Draw one open polyline of `fixed_point` points with a soft edge."""
    cv2.polylines(layer, [points], False, (value,), thickness, cv2.LINE_AA, _FRACTION_BITS)


def stroke(layer: np.ndarray, points: ArrayLike, thickness: int, value: float = 255) -> None:
    """Draw one open polyline with a soft edge."""
    stroke_fixed_point(layer, fixed_point(points), int(thickness), value)


def soften(layer: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a uint8 layer and return float32 in 0 to 1. Blurring bytes takes a third of the time of blurring floats."""
    return cv2.GaussianBlur(layer, (0, 0), sigma).astype(np.float32) * np.float32(1 / 255)


def pyramid_noise(rng: np.random.Generator, side: int, amplitudes: Sequence[float], *, finest: int = 1) -> np.ndarray:
    """Return noise [side, side] that is a sum of octaves, each built by doubling the size of the one before.

    Args:
        rng: the random generator.
        side: in pixels.
        amplitudes: standard deviation of each octave, coarse first.
        finest: cell size of the last octave in pixels.
    """
    sizes = [max(2, -(-side // (finest << level))) for level in range(len(amplitudes))][::-1]
    noise = None
    for size, amplitude in zip(sizes, amplitudes, strict=True):
        grain = rng.standard_normal((size, size), dtype=np.float32) * np.float32(amplitude)
        noise = grain if noise is None else cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) + grain
    assert noise is not None
    return noise if noise.shape[0] == side else cv2.resize(noise, (side, side))


def blobs(
    rng: np.random.Generator,
    centres: ArrayLike,
    radii: ArrayLike,
    *,
    stretch: ArrayLike = 1.0,
    angle: ArrayLike = 0.0,
    roughness: float = 0.2,
) -> np.ndarray:
    """Return closed irregular outlines [count, 18, 2].

    Args:
        rng: the random generator.
        centres: [count, 2].
        radii: mean radius of each.
        stretch: factor on the length along `angle`.
        angle: direction of the stretch in radians.
        roughness: how irregular the outlines are; 0 gives circles.
    """
    radii = np.asarray(radii, float)[:, None]
    turn = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    harmonic = np.array([2, 3, 5])[:, None, None]
    phase, height = rng.uniform(0, 2 * np.pi, (3, len(radii), 1)), rng.normal(0, 1 / harmonic, (3, len(radii), 1))
    reach = radii * np.maximum(0.3, 1 + roughness * (height * np.cos(harmonic * turn + phase)).sum(0))
    stretch, angle = (np.broadcast_to(value, len(radii))[:, None] for value in (stretch, angle))
    x, y, cos, sin = reach * np.cos(turn) * stretch, reach * np.sin(turn), np.cos(angle), np.sin(angle)
    return np.stack([x * cos - y * sin, x * sin + y * cos], 2) + np.reshape(centres, (-1, 1, 2))


def blob(rng: np.random.Generator, centre: ArrayLike, radius: float, **shape: Any) -> np.ndarray:
    """Return one outline [18, 2]; `shape` are the keyword arguments of `blobs`."""
    return blobs(rng, np.asarray(centre)[None], [radius], **shape)[0]


def smooth(paths: np.ndarray, iterations: int = 3) -> np.ndarray:
    """Smooth paths [count, points, 2] by Chaikin's corner cutting. The end points stay."""
    for _ in range(iterations):
        first, second = paths[:, :-1], paths[:, 1:]
        cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], 2)
        paths = np.concatenate([paths[:, :1], cut.reshape(len(paths), -1, 2), paths[:, -1:]], 1)
    return paths


def wander(
    rng: np.random.Generator,
    starts: np.ndarray,
    angles: ArrayLike,
    lengths: ArrayLike,
    *,
    steps: int = 20,
    bend: float = 0.15,
    stiff: float = 0.0,
    steer: Callable[[np.ndarray], np.ndarray] | None = None,
    pull: float = 0.0,
) -> np.ndarray:
    """Return random walks [walks, steps + 1, 2] whose curvature drifts, so that paths meander and never zigzag.

    Args:
        rng: the random generator.
        starts: [walks, 2].
        angles: initial heading of each walk in radians.
        lengths: of each walk.
        steps: of each walk.
        bend: how much the curvature varies.
        stiff: how strongly the heading returns to its course, which keeps a walk from curling up.
        steer: a function (points) -> the heading towards which the course turns at these points.
        pull: how far the course turns per step.
    """
    points = np.empty((len(starts), steps + 1, 2))
    points[:, 0] = starts
    heading, curvature = np.array(angles, float), rng.normal(0, bend, len(starts))
    course = heading.copy()
    stride = np.asarray(lengths, float) / steps
    for step in range(steps):
        curvature = 0.75 * curvature + rng.normal(0, bend * 0.6, len(starts)) - stiff * (heading - course)
        heading = heading + curvature
        if steer is not None:
            course = course + pull * np.sin(steer(points[:, step]) - course)
        points[:, step + 1] = points[:, step] + stride[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    return points
