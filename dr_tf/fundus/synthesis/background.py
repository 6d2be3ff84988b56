"""Paint the retina without vessels or lesions: pigment, macula, nerve fibres, choroid and optic disc.

Everything is painted as optical density per colour channel. The reflected light is colour * exp(-density).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from dr_tf.fundus.synthesis import drawing
from dr_tf.fundus.synthesis.anatomy import Layout, Traits

# Density of each layer at full coverage in red, green, blue. Negative values are brighter than the fundus around.
PIGMENT = (0.9, 1.0, 0.8)
MACULA = (0.45, 0.75, 0.9)
FIBRES = (-0.35, -0.75, -1.3)
CHOROID = (-0.34, -0.36, -0.1)
DISC = (-0.37, -0.68, -0.98)
CUP = (-0.14, -0.36, -0.5)
RIM = (0.03, 0.3, 0.4)
MOTTLE = (0.6, 1.0, 1.0)


class Density:
    """Optical density in red, green and blue, to which layers are added."""

    def __init__(self, side: int):
        self.planes = [np.zeros((side, side), np.float32) for _ in range(3)]

    def add(self, layer: np.ndarray, weights: Sequence[float] | np.ndarray) -> None:
        """Add a layer [side, side] with a weight for each channel."""
        layer = np.ascontiguousarray(layer, np.float32)
        for plane, weight in zip(self.planes, weights, strict=True):
            cv2.scaleAdd(layer, float(weight), plane, plane)

    def light(self) -> list[np.ndarray]:
        """Return the red, green and blue planes of the reflected light, relative to the colour of the fundus."""
        return [cv2.exp(-plane) for plane in self.planes]


def _macula(rng: np.random.Generator, layout: Layout) -> np.ndarray:
    dip = rng.uniform(0.2, 0.5) * layout.falloff((0, 0), rng.uniform(0.1, 0.14))
    return dip + rng.uniform(0.12, 0.32) * layout.falloff((0, 0), rng.uniform(0.28, 0.42))


def _nerve_fibres(rng: np.random.Generator, layout: Layout, traits: Traits) -> np.ndarray:
    """Return the sheen of the nerve fibres: brightest around the disc and under the arcades, with radial stripes."""
    half = layout.side // 2
    stripes = cv2.resize(rng.standard_normal((220, 6), dtype=np.float32), (64, 440), interpolation=cv2.INTER_CUBIC)
    centre = (float(layout.disc_pixels[0]) / 2, float(layout.disc_pixels[1]) / 2)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    striped = cv2.warpPolar(stripes, (half, half), centre, 0.8 * layout.unit, flags)
    striped = cv2.resize(striped, (layout.side, layout.side))
    glow = layout.falloff(layout.disc, 0.42)
    x, y = layout.disc - (0.35, 0)
    arcades = layout.falloff((x, y - 0.55), 0.33) + layout.falloff((x, y + 0.55), 0.33)
    envelope = 0.55 * glow + 0.4 * arcades
    return traits.sheen * envelope * (0.55 + 0.13 * striped) + 0.12 * glow


def _choroid(rng: np.random.Generator, layout: Layout, traits: Traits) -> np.ndarray:
    """Return the choroidal vessels: broad bands that run around the macula and show where pigment is thin."""
    half = layout.side // 2
    layer = np.zeros((half, half), np.uint8)
    count = 210
    starts = rng.uniform(-1.5, 1.9, (count, 2))
    angles = np.arctan2(starts[:, 1], starts[:, 0] - 0.4) + rng.normal(0, 0.4, count)
    paths = drawing.wander(rng, starts, angles, rng.uniform(0.3, 0.8, count), steps=10, bend=0.2, stiff=0.1)
    widths = np.maximum(1, np.round(layout.unit / 2 * rng.uniform(0.008, 0.022, count))).astype(int)
    paths = drawing.fixed_point(layout.pixels(paths) / 2)
    for path, width, value in zip(paths, widths, rng.uniform(90, 255, count), strict=True):
        drawing.stroke_fixed_point(layer, path, int(width), value)
    bands = cv2.resize(drawing.soften(layer, 0.4 + layout.unit / 260), (layout.side, layout.side))
    macula_shade = 1 - 0.85 * layout.falloff((0, 0), 0.45)
    patches = cv2.resize(np.clip(rng.normal(0.6, 0.4, (4, 4)), 0, 1.3).astype(np.float32), (layout.side, layout.side))
    return traits.tessellation * bands * macula_shade * patches


def paint(rng: np.random.Generator, layout: Layout, traits: Traits) -> Density:
    """Return the density of the fundus without vessels, disc or lesions."""
    density = Density(layout.side)
    density.add(_macula(rng, layout), MACULA)
    density.add(_nerve_fibres(rng, layout, traits), FIBRES)
    density.add(_choroid(rng, layout, traits), CHOROID)
    density.add(
        drawing.pyramid_noise(rng, layout.side, (0.04, 0.03, 0.018, 0.014, 0.012, 0.013, 0.014), finest=2), MOTTLE
    )
    density.add(drawing.pyramid_noise(rng, layout.side, (0.07, 0.05, 0.02), finest=layout.side // 10), PIGMENT)
    return density


def _ellipse(
    rng: np.random.Generator,
    layout: Layout,
    centre: np.ndarray,
    radius: float,
    *,
    ratio: float,
    soft: float,
    wobble: float,
) -> np.ndarray:
    """Return the coverage, 0 to 1, of a soft, slightly irregular ellipse.

    Only a window around it is computed, as the disc is a fiftieth of the canvas.
    """
    coverage = np.zeros((layout.side, layout.side), np.float32)
    low = np.clip(layout.pixels(np.asarray(centre) - 2 * radius).astype(int), 0, layout.side)
    high = np.clip(layout.pixels(np.asarray(centre) + 2 * radius).astype(int), 0, layout.side)
    x, y = layout.axes(centre)
    x, y = x[:, low[0] : high[0]] / (radius * ratio), y[low[1] : high[1]] / radius
    angle = np.arctan2(y, x)
    edge = 1 + wobble * (np.cos(2 * angle + rng.uniform(0, 6.3)) + 0.6 * np.cos(3 * angle + rng.uniform(0, 6.3)))
    coverage[low[1] : high[1], low[0] : high[0]] = np.clip((edge - np.sqrt(x * x + y * y)) / soft + 0.5, 0, 1)
    return coverage


def paint_disc(
    rng: np.random.Generator, layout: Layout, density: Density, *, cup: float, tilt: float = 1.0
) -> np.ndarray:
    """Paint the optic disc and its cup.

    Args:
        rng: the random generator.
        layout: of the eye.
        density: to paint on.
        cup: cup-to-disc ratio.
        tilt: factor on the disc's width; a tilted disc looks narrow.

    Returns:
        The cup's coverage, 0 to 1.
    """
    disc = _ellipse(
        rng, layout, layout.disc, layout.disc_radius, ratio=rng.uniform(0.88, 0.97) * tilt, soft=0.16, wobble=0.02
    )
    x, _ = layout.axes(layout.disc)
    nasal = np.clip(0.45 + 0.5 * x / layout.disc_radius, 0, 1)
    centre = layout.disc - (layout.disc_radius * rng.uniform(0, 0.18), rng.normal(0, 0.01))
    cup_coverage = (
        _ellipse(rng, layout, centre, layout.disc_radius * cup, ratio=0.95, soft=0.75 - 0.5 * cup, wobble=0.04) * disc
    )
    density.add(disc * rng.uniform(0.75, 1.05), DISC)
    density.add(disc * nasal, RIM)
    density.add(cup_coverage * rng.uniform(0.7, 1.2), CUP)
    halo = _ellipse(rng, layout, layout.disc, layout.disc_radius * 1.12, ratio=0.95, soft=0.25, wobble=0.03) - disc
    density.add(np.maximum(halo, 0) * rng.uniform(-0.3, 0.6), (-0.2, -0.35, -0.3))
    return cup_coverage
