"""The retina without vessels or lesions, as optical density per colour: reflected light is colour * exp(-density)."""

import cv2
import numpy as np

from dr_tf.fundus.synthesis import brushes

# Density per unit of each layer in red, green, blue. Negative is brighter than the fundus around it.
PIGMENT = (0.9, 1.0, 0.8)
MACULA = (0.45, 0.75, 0.9)
FIBRES = (-0.35, -0.75, -1.3)
CHOROID = (-0.34, -0.36, -0.1)
DISC = (-0.37, -0.68, -0.98)
CUP = (-0.14, -0.36, -0.5)
RIM = (0.03, 0.3, 0.4)
MOTTLE = (0.6, 1.0, 1.0)


class Density:
    """Three planes that layers are added to; one exponential at the end turns all of them into light."""

    def __init__(self, side):
        self.planes = [np.zeros((side, side), np.float32) for _ in range(3)]

    def add(self, layer, weights):
        layer = np.ascontiguousarray(layer, np.float32)
        for plane, weight in zip(self.planes, weights, strict=True):
            cv2.scaleAdd(layer, float(weight), plane, plane)

    def light(self):
        """Red, green and blue planes, as shares of the fundus' own colour."""
        return [cv2.exp(-plane) for plane in self.planes]


def _macula(rng, layout, traits):
    dip = rng.uniform(0.2, 0.5) * layout.falloff((0, 0), rng.uniform(0.1, 0.14))
    return dip + rng.uniform(0.12, 0.32) * layout.falloff((0, 0), rng.uniform(0.28, 0.42))


def _fibres(rng, layout, traits):
    """The sheen of the nerve fibres: brightest around the disc and under the arcades, finely striped away from it."""
    half = layout.side // 2
    stripes = cv2.resize(rng.standard_normal((220, 6), dtype=np.float32), (64, 440), interpolation=cv2.INTER_CUBIC)
    centre = (float(layout.disc_pixels[0]) / 2, float(layout.disc_pixels[1]) / 2)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    striped = cv2.warpPolar(stripes, (half, half), centre, 0.8 * layout.unit, flags)
    striped = cv2.resize(striped, (layout.side, layout.side))
    glow = layout.falloff(layout.disc, 0.42)
    x, y = layout.disc - (0.35, 0)
    arcs = layout.falloff((x, y - 0.55), 0.33) + layout.falloff((x, y + 0.55), 0.33)
    envelope = 0.55 * glow + 0.4 * arcs
    return traits.sheen * envelope * (0.55 + 0.13 * striped) + 0.12 * glow


def _choroid(rng, layout, traits):
    """Choroidal vessels: broad bands that stream around the macula, seen where pigment is thin."""
    half = layout.side // 2
    layer = np.zeros((half, half), np.uint8)
    number = 210
    starts = rng.uniform(-1.5, 1.9, (number, 2))
    angles = np.arctan2(starts[:, 1], starts[:, 0] - 0.4) + rng.normal(0, 0.4, number)
    paths = brushes.wander(rng, starts, angles, rng.uniform(0.3, 0.8, number), steps=10, bend=0.2, stiff=0.1)
    widths = np.maximum(1, np.round(layout.unit / 2 * rng.uniform(0.008, 0.022, number))).astype(int)
    paths = brushes.fixed(layout.pixels(paths) / 2)
    for path, width, value in zip(paths, widths, rng.uniform(90, 255, number), strict=True):
        brushes.stroke_fixed(layer, path, int(width), value)
    bands = cv2.resize(brushes.soften(layer, 0.4 + layout.unit / 260), (layout.side, layout.side))
    hidden = 1 - 0.85 * layout.falloff((0, 0), 0.45)
    patches = cv2.resize(np.clip(rng.normal(0.6, 0.4, (4, 4)), 0, 1.3).astype(np.float32), (layout.side, layout.side))
    return traits.tessellation * bands * hidden * patches


def paint(rng, layout, traits):
    """Density of the bare fundus."""
    density = Density(layout.side)
    density.add(_macula(rng, layout, traits), MACULA)
    density.add(_fibres(rng, layout, traits), FIBRES)
    density.add(_choroid(rng, layout, traits), CHOROID)
    density.add(
        brushes.pyramid_noise(rng, layout.side, (0.04, 0.03, 0.018, 0.014, 0.012, 0.013, 0.014), finest=2), MOTTLE
    )
    density.add(brushes.pyramid_noise(rng, layout.side, (0.07, 0.05, 0.02), finest=layout.side // 10), PIGMENT)
    return density


def _ellipse(rng, layout, centre, radius, *, ratio, soft, wobble):
    """A soft, slightly irregular ellipse as coverage 0..1 in a window: the disc is a fiftieth of the canvas."""
    cover = np.zeros((layout.side, layout.side), np.float32)
    low = np.clip(layout.pixels(np.asarray(centre) - 2 * radius).astype(int), 0, layout.side)
    high = np.clip(layout.pixels(np.asarray(centre) + 2 * radius).astype(int), 0, layout.side)
    x, y = layout.axes(centre)
    x, y = x[:, low[0] : high[0]] / (radius * ratio), y[low[1] : high[1]] / radius
    turn = np.arctan2(y, x)
    edge = 1 + wobble * (np.cos(2 * turn + rng.uniform(0, 6.3)) + 0.6 * np.cos(3 * turn + rng.uniform(0, 6.3)))
    cover[low[1] : high[1], low[0] : high[0]] = np.clip((edge - np.sqrt(x * x + y * y)) / soft + 0.5, 0, 1)
    return cover


def paint_disc(rng, layout, density, *, cup, tilt=1.0):
    """The optic disc with its cup (`cup` is the cup-to-disc ratio); returns the cup's coverage."""
    rim = _ellipse(
        rng, layout, layout.disc, layout.disc_radius, ratio=rng.uniform(0.88, 0.97) * tilt, soft=0.16, wobble=0.02
    )
    x, _ = layout.axes(layout.disc)
    nasal = np.clip(0.45 + 0.5 * x / layout.disc_radius, 0, 1)
    centre = layout.disc - (layout.disc_radius * rng.uniform(0, 0.18), rng.normal(0, 0.01))
    hollow = (
        _ellipse(rng, layout, centre, layout.disc_radius * cup, ratio=0.95, soft=0.75 - 0.5 * cup, wobble=0.04) * rim
    )
    density.add(rim * rng.uniform(0.75, 1.05), DISC)
    density.add(rim * nasal, RIM)
    density.add(hollow * rng.uniform(0.7, 1.2), CUP)
    halo = _ellipse(rng, layout, layout.disc, layout.disc_radius * 1.12, ratio=0.95, soft=0.25, wobble=0.03) - rim
    density.add(np.maximum(halo, 0) * rng.uniform(-0.3, 0.6), (-0.2, -0.35, -0.3))
    return hollow
