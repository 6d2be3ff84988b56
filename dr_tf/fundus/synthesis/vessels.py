"""The retinal vessels: grown as two trees (arteries, veins) from the disc, then drawn with tapering width."""

import dataclasses
import itertools

import cv2
import numpy as np

from dr_tf.fundus.synthesis import brushes

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
_CAPILLARY = 0.0035
# No vessel enters the foveal avascular zone.
_AVASCULAR = 0.11


@dataclasses.dataclass(frozen=True)
class Branch:
    """A path in units from the fovea, with its width (same unit) at each point."""

    points: np.ndarray
    widths: np.ndarray
    level: int


@dataclasses.dataclass(frozen=True)
class _Generation:
    """Branches of one level: how many per unit of the parents' length, from which share of it on, how long and wavy."""

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


def _even(points):
    """Eight control points along a course of any number, so that all trunks grow as one array."""
    old, new = np.linspace(0, 1, len(points)), np.linspace(0, 1, 8)
    return np.stack([np.interp(new, old, axis) for axis in np.transpose(points)], 1)


_CONTROLS = np.stack([_even(points) for points, _ in _TRUNKS])
_SHARES = np.array([share for _, share in _TRUNKS])


def _trunks(rng, traits, width, disc):
    count, reach = len(_SHARES), np.linspace(0, 1, 8)[:, None]
    spread = traits.arcade * rng.normal(1, 0.1, (count, 1))
    points = _CONTROLS - (1, 0)
    points[..., 1] *= spread
    points += disc
    points[:, 0] += rng.normal((0.02, 0), 0.02, (count, 2))
    points[:, 1:] += rng.normal(0, 0.07, (count, 7, 2)) * (0.2 + reach[1:])
    points = brushes.smooth(points, rounds=4)
    along = np.linspace(0, 1, points.shape[1])
    waves = np.array([3, 5, 8, 12])[:, None, None]
    phase, height = rng.uniform(0, 6.3, (4, count, 1)), rng.normal(0, 1 / waves, (4, count, 1))
    wave = (height * np.sin(2 * np.pi * waves * along + phase)).sum(0) * np.minimum(1, 4 * along)
    normal = np.gradient(points, axis=1)[..., ::-1] * (1, -1)
    normal /= np.hypot(normal[..., :1], normal[..., 1:]) + 1e-9
    points = points + 0.03 * traits.tortuosity * normal * wave[..., None]
    return [Branch(path, width * share * (1 - 0.55 * along), 0) for path, share in zip(points, _SHARES, strict=True)]


def _steer(points):
    """Inside the arcades branches converge on the raphe beside the fovea; outside they fan out to the periphery."""
    inside = (np.abs(points[:, 1]) < 0.8) & (points[:, 0] < 0.85)
    inward = np.arctan2(-points[:, 1], -0.12 - points[:, 0])
    return np.where(inside, inward, np.arctan2(points[:, 1], points[:, 0] - 0.6))


def _forks(rng, parents, count, nearest):
    """Places, headings and widths of branches that leave the parents, `count` per unit of length on average."""
    parents = [parent for parent in parents if len(parent.points) > 4]
    points, calibres = (np.concatenate([getattr(parent, name) for parent in parents]) for name in ("points", "widths"))
    sizes = np.array([len(parent.points) for parent in parents])
    first = np.cumsum(sizes) - sizes
    strides = np.hypot(*np.diff(points, axis=0, prepend=points[:1]).T)
    strides[first] = 0
    which = np.repeat(np.arange(len(parents)), rng.poisson(count * np.add.reduceat(strides, first)))
    number = len(which)
    at = first[which] + 1 + (sizes[which] * rng.uniform(nearest, 0.98, number) - 1).astype(int)
    tangent = points[at] - points[at - 1]
    aside = np.where(np.arange(number) % 2, 1, -1) * rng.uniform(0.45, 1.1, number)
    return points[at], np.arctan2(tangent[:, 1], tangent[:, 0]) + aside, calibres[at] * rng.uniform(0.35, 0.68, number)


def _offspring(rng, parents, generation, curl):
    """The next generation of branches, each ending where it would enter the foveal avascular zone."""
    starts, angles, widths = _forks(rng, parents, generation.count, generation.nearest)
    lengths, steps = rng.uniform(*generation.length, len(starts)), generation.steps
    bends = {"bend": 0.24 * curl * generation.curl, "stiff": 0.22, "steer": _steer, "pull": 1.3 / steps}
    paths = brushes.wander(rng, starts, angles, lengths, steps=steps, **bends)
    tapered = np.maximum(_CAPILLARY, widths[:, None] * np.linspace(1, 0.3, steps + 1))
    too_near = (paths**2).sum(2) < _AVASCULAR**2
    ends = np.where(too_near.any(1), too_near.argmax(1), steps + 1)
    whole = zip(paths, tapered, ends, strict=True)
    return [Branch(path[:end], width[:end], generation.level) for path, width, end in whole if end > 1]


def grow(rng, traits, disc, *, width):
    """One tree (arteries or veins), thinnest branches first, as they must be drawn."""
    newest = _trunks(rng, traits, width, disc)
    branches = list(newest)
    for generation in _GENERATIONS:
        newest = _offspring(rng, newest, generation, 0.6 + 0.4 * traits.tortuosity)
        branches += newest
    return sorted(branches, key=lambda branch: branch.widths[0])


def grow_pair(rng, traits, disc, *, narrowing=1.0):
    """Arteries and veins; `narrowing` is the factor on the arterial calibre that hypertension lowers."""
    width = _VEIN_WIDTH * traits.calibre
    veins = grow(rng, traits, disc, width=width)
    return grow(rng, traits, disc, width=width * rng.uniform(0.68, 0.8) * narrowing), veins


def draw(layout, branches, *, scale=1.0, least=0.0):
    """Coverage 0..1 of the branches that are at least `least` pixels wide, at `scale` times their width.

    Drawn at twice the resolution: OpenCV's thickness is a whole number, and a third of all vessels is
    thinner than a pixel; what remains of the width becomes opacity.
    """
    side = layout.side
    layer = np.zeros((2 * side, 2 * side), np.uint8)
    chosen = [branch for branch in branches if branch.widths[0] * layout.unit >= least]
    if chosen:
        pixels = 2 * layout.pixels(np.concatenate([branch.points for branch in chosen]))
        widths = 2 * scale * layout.unit * np.concatenate([branch.widths for branch in chosen])
        starts, ends = _pieces([(len(branch.points), 5 if branch.level else 3) for branch in chosen])
        middle = (starts + ends) // 2
        widths, at = widths[middle], pixels[middle]
        thickness = np.maximum(1, np.round(widths - 0.7)).astype(int)
        values = 255 * np.minimum(1, widths / (thickness + 0.7)) * np.minimum(1, 0.35 + widths / 9 / scale)
        near = ((at > -side / 5) & (at < 2.2 * side)).all(1)
        pixels = brushes.fixed(pixels)
        for start, end, thick, value in zip(starts[near], ends[near], thickness[near], values[near], strict=True):
            brushes.stroke_fixed(layer, pixels[start : end + 1], int(thick), value)
    return brushes.soften(cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA), 0.45 + side / 2500)


def _pieces(paths):
    """First and last index of every run of `piece` segments, over paths (length, piece) laid end to end."""
    offsets = itertools.accumulate((length for length, _ in paths), initial=0)
    runs = [
        (start, min(start + piece, first + length - 1))
        for first, (length, piece) in zip(offsets, paths, strict=False)
        for start in range(first, first + length - 1, piece)
    ]
    return np.array(runs).T
