"""Grow the arteries and veins of the retina as two trees from the optic disc, and draw them with tapering width."""

import dataclasses
import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from dr_tf.fundus.synthesis import drawing
from dr_tf.fundus.synthesis.anatomy import Layout, Traits

# Control points of the eight trunks in units from the fovea, as in a right eye (+x is nasal, +y is down), and their
# share of the full calibre.
_TRUNKS = (
    (((1, 0), (1.02, -0.22), (0.93, -0.5), (0.62, -0.76), (0.1, -0.9), (-0.5, -0.84), (-1.1, -0.6), (-1.7, -0.5)), 1.0),
    (((1, 0), (1.02, 0.22), (0.93, 0.5), (0.62, 0.78), (0.1, 0.92), (-0.5, 0.86), (-1.1, 0.62), (-1.7, 0.55)), 1.0),
    (((1, 0), (1.06, -0.22), (1.22, -0.55), (1.4, -0.9), (1.75, -1.25)), 0.66),
    (((1, 0), (1.06, 0.22), (1.22, 0.52), (1.45, 0.85), (1.8, 1.2)), 0.62),
    (((1, 0), (1.16, -0.06), (1.45, -0.16), (1.9, -0.3)), 0.42),
    (((1, 0), (1.15, 0.08), (1.45, 0.2), (1.9, 0.3)), 0.38),
    (((1, 0), (0.85, -0.12), (0.65, -0.22), (0.42, -0.22), (0.2, -0.16)), 0.24),
    (((1, 0), (0.85, 0.1), (0.65, 0.2), (0.4, 0.22), (0.18, 0.17)), 0.24),
)
_VEIN_WIDTH = 0.031
_CAPILLARY_WIDTH = 0.0035
_AVASCULAR_RADIUS = 0.11  # no vessel enters the foveal avascular zone


@dataclasses.dataclass(frozen=True)
class Branch:
    """A vessel between two forks.

    Attributes:
        points: [n, 2] in units from the fovea.
        widths: [n] in units.
        level: 0 for a trunk, one more for each fork.
    """

    points: np.ndarray
    widths: np.ndarray
    level: int


@dataclasses.dataclass(frozen=True)
class _Generation:
    """Parameters of the branches of one level.

    Attributes:
        level: as in `Branch`.
        count: branches per unit of the parents' length.
        nearest: share of the parent's length at which the first may fork off.
        length: range of their lengths in units.
        steps: segments of each path.
        curl: how wavy they are.
    """

    level: int
    count: float
    nearest: float
    length: tuple[float, float]
    steps: int
    curl: float


_GENERATIONS = (
    _Generation(1, 3.4, 0.16, (0.3, 1.2), 20, 1.0),
    _Generation(2, 4.0, 0.1, (0.12, 0.55), 13, 1.2),
    _Generation(3, 2.0, 0.1, (0.06, 0.25), 8, 1.5),
)


def _resample(points: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return eight control points along a course, so that all trunks fit into one array."""
    old, new = np.linspace(0, 1, len(points)), np.linspace(0, 1, 8)
    return np.stack([np.interp(new, old, axis) for axis in np.transpose(points)], 1)


_CONTROL_POINTS = np.stack([_resample(points) for points, _ in _TRUNKS])
_WIDTH_SHARES = np.array([share for _, share in _TRUNKS])


def _trunks(rng: np.random.Generator, traits: Traits, width: float, disc: np.ndarray) -> list[Branch]:
    count, reach = len(_WIDTH_SHARES), np.linspace(0, 1, 8)[:, None]
    spread = traits.arcade * rng.normal(1, 0.1, (count, 1))
    points = _CONTROL_POINTS - (1, 0)
    points[..., 1] *= spread
    points += disc
    points[:, 0] += rng.normal((0.02, 0), 0.02, (count, 2))
    points[:, 1:] += rng.normal(0, 0.07, (count, 7, 2)) * (0.2 + reach[1:])
    points = drawing.smooth(points, iterations=4)
    along = np.linspace(0, 1, points.shape[1])
    waves = np.array([3, 5, 8, 12])[:, None, None]
    phase, height = rng.uniform(0, 6.3, (4, count, 1)), rng.normal(0, 1 / waves, (4, count, 1))
    wave = (height * np.sin(2 * np.pi * waves * along + phase)).sum(0) * np.minimum(1, 4 * along)
    normal = np.gradient(points, axis=1)[..., ::-1] * (1, -1)
    normal /= np.hypot(normal[..., :1], normal[..., 1:]) + 1e-9
    points = points + 0.03 * traits.tortuosity * normal * wave[..., None]
    return [
        Branch(path, width * share * (1 - 0.55 * along), 0) for path, share in zip(points, _WIDTH_SHARES, strict=True)
    ]


def _steer(points: np.ndarray) -> np.ndarray:
    """Return the heading of branches: inside the arcades to the raphe beside the fovea, outside to the periphery."""
    is_inside = (np.abs(points[:, 1]) < 0.8) & (points[:, 0] < 0.85)
    inward = np.arctan2(-points[:, 1], -0.12 - points[:, 0])
    return np.where(is_inside, inward, np.arctan2(points[:, 1], points[:, 0] - 0.6))


def _forks(
    rng: np.random.Generator, parents: list[Branch], count: float, nearest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places, headings and widths of branches that leave the parents: on average `count` per unit of length."""
    parents = [parent for parent in parents if len(parent.points) > 4]
    points = np.concatenate([parent.points for parent in parents])
    widths = np.concatenate([parent.widths for parent in parents])
    sizes = np.array([len(parent.points) for parent in parents])
    first = np.cumsum(sizes) - sizes
    strides = np.hypot(*np.diff(points, axis=0, prepend=points[:1]).T)
    strides[first] = 0
    which = np.repeat(np.arange(len(parents)), rng.poisson(count * np.add.reduceat(strides, first)))
    n_forks = len(which)
    fork = first[which] + 1 + (sizes[which] * rng.uniform(nearest, 0.98, n_forks) - 1).astype(int)
    tangent = points[fork] - points[fork - 1]
    turn = np.where(np.arange(n_forks) % 2, 1, -1) * rng.uniform(0.45, 1.1, n_forks)
    heading = np.arctan2(tangent[:, 1], tangent[:, 0]) + turn
    return points[fork], heading, widths[fork] * rng.uniform(0.35, 0.68, n_forks)


def _next_generation(
    rng: np.random.Generator, parents: list[Branch], generation: _Generation, curl: float
) -> list[Branch]:
    """Return the branches of the next level. Each ends where it would enter the foveal avascular zone."""
    starts, angles, widths = _forks(rng, parents, generation.count, generation.nearest)
    lengths, steps = rng.uniform(*generation.length, len(starts)), generation.steps
    paths = drawing.wander(
        rng,
        starts,
        angles,
        lengths,
        steps=steps,
        bend=0.24 * curl * generation.curl,
        stiff=0.22,
        steer=_steer,
        pull=1.3 / steps,
    )
    tapered = np.maximum(_CAPILLARY_WIDTH, widths[:, None] * np.linspace(1, 0.3, steps + 1))
    too_near = (paths**2).sum(2) < _AVASCULAR_RADIUS**2
    ends = np.where(too_near.any(1), too_near.argmax(1), steps + 1)
    branches = zip(paths, tapered, ends, strict=True)
    return [Branch(path[:end], width[:end], generation.level) for path, width, end in branches if end > 1]


def grow(rng: np.random.Generator, traits: Traits, disc: np.ndarray, *, width: float) -> list[Branch]:
    """Grow one tree, of arteries or veins.

    Args:
        rng: the random generator.
        traits: of the patient.
        disc: position of the optic disc in units from the fovea.
        width: of the largest trunk in units.

    Returns:
        The branches, thinnest first, which is the order to draw them in.
    """
    newest = _trunks(rng, traits, width, disc)
    branches = list(newest)
    for generation in _GENERATIONS:
        newest = _next_generation(rng, newest, generation, 0.6 + 0.4 * traits.tortuosity)
        branches += newest
    return sorted(branches, key=lambda branch: branch.widths[0])


def grow_pair(
    rng: np.random.Generator, traits: Traits, disc: np.ndarray, *, narrowing: float = 1.0
) -> tuple[list[Branch], list[Branch]]:
    """Grow the trees of the arteries and of the veins.

    Args:
        rng: the random generator.
        traits: of the patient.
        disc: position of the optic disc in units from the fovea.
        narrowing: factor on the width of the arteries, which hypertension narrows.

    Returns:
        (arteries, veins).
    """
    width = _VEIN_WIDTH * traits.calibre
    veins = grow(rng, traits, disc, width=width)
    return grow(rng, traits, disc, width=width * rng.uniform(0.68, 0.8) * narrowing), veins


def draw(layout: Layout, branches: list[Branch], *, scale: float = 1.0, least: float = 0.0) -> np.ndarray:
    """Draw branches and return their coverage, 0 to 1.

    They are drawn at twice the resolution, and opacity stands for fractions of a pixel: OpenCV's thickness is a whole
    number, and a third of all vessels is thinner than a pixel.

    Args:
        layout: of the eye.
        branches: thinnest first.
        scale: factor on their width.
        least: width in pixels below which a branch is left out.
    """
    side = layout.side
    layer = np.zeros((2 * side, 2 * side), np.uint8)
    chosen = [branch for branch in branches if branch.widths[0] * layout.unit >= least]
    if chosen:
        pixels = 2 * layout.pixels(np.concatenate([branch.points for branch in chosen]))
        widths = 2 * scale * layout.unit * np.concatenate([branch.widths for branch in chosen])
        starts, ends = _split_into_strokes([(len(branch.points), 5 if branch.level else 3) for branch in chosen])
        middle = (starts + ends) // 2
        widths, position = widths[middle], pixels[middle]
        thickness = np.maximum(1, np.round(widths - 0.7)).astype(int)
        values = 255 * np.minimum(1, widths / (thickness + 0.7)) * np.minimum(1, 0.35 + widths / 9 / scale)
        near = ((position > -side / 5) & (position < 2.2 * side)).all(1)
        pixels = drawing.fixed_point(pixels)
        for start, end, thick, value in zip(starts[near], ends[near], thickness[near], values[near], strict=True):
            drawing.stroke_fixed_point(layer, pixels[start : end + 1], int(thick), value)
    return drawing.soften(cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA), 0.45 + side / 2500)


def _split_into_strokes(paths: list[tuple[int, int]]) -> np.ndarray:
    """Return the first and last point index of every stroke, [2, strokes].

    `paths` are (number of points, segments per stroke), and their points are laid end to end.
    """
    offsets = itertools.accumulate((length for length, _ in paths), initial=0)
    strokes = [
        (start, min(start + segments, first + length - 1))
        for first, (length, segments) in zip(offsets, paths, strict=False)
        for start in range(first, first + length - 1, segments)
    ]
    return np.array(strokes).T
