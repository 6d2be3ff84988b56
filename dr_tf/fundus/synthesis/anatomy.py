"""What a patient's two retinas share, and where things lie in one of them.

Everything is laid out as in a right eye, with the fovea at the origin, the nose at +x and the distance from fovea to
disc as the unit (about 4.8 mm); left eyes are mirrored once, when the retina is finished.
"""

import dataclasses

import numpy as np

# The disc-fovea distance as a share of the circle's diameter at a field of 50 degrees, measured on IDRiD by eye.
_UNIT_AT_50_DEGREES = 0.39


@dataclasses.dataclass(frozen=True)
class Traits:
    """A patient's shared traits; each eye departs from them only a little."""

    age: int
    sex: str
    pigment: float
    tessellation: float
    tortuosity: float
    cup: float
    disc_radius: float
    calibre: float
    arcade: float
    sheen: float


def draw_traits(rng):
    """Traits of a screened adult; none of them depends on any disease."""
    age = int(np.clip(rng.normal(56, 13), 20, 89))
    old = (age - 20) / 70
    return Traits(
        age=age,
        sex=str(rng.choice(["female", "male"])),
        pigment=float(np.clip(rng.normal(0.0, 1.0), -2, 2)),
        tessellation=float(np.clip(rng.beta(1.3, 4.0) + 0.2 * old, 0, 0.8)),
        tortuosity=float(rng.gamma(4, 0.25)),
        cup=float(np.clip(rng.normal(0.36, 0.09), 0.15, 0.55)),
        disc_radius=float(np.clip(rng.normal(0.172, 0.011), 0.145, 0.2)),
        calibre=float(np.clip(rng.normal(1.0, 0.1), 0.75, 1.25)),
        arcade=float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.15)),
        sheen=float(np.clip(rng.beta(2, 2.5) * (1.25 - 0.9 * old), 0, 1)),
    )


@dataclasses.dataclass(frozen=True)
class Layout:
    """One eye's geometry on a square canvas whose inscribed circle is the photographed field.

    fovea: pixels; unit: pixels per disc-fovea distance; disc, disc_radius: in that unit, from the fovea;
    visible: uint8, 1 where the camera shows retina, in the orientation of a right eye.
    """

    side: int
    fovea: np.ndarray
    unit: float
    disc: np.ndarray
    disc_radius: float
    visible: np.ndarray

    def pixels(self, points):
        return np.asarray(points) * self.unit + self.fovea

    @property
    def disc_pixels(self):
        return self.pixels(self.disc)

    def axes(self, origin=(0.0, 0.0)):
        """Column and row positions of all pixels, in units from `origin`: broadcast them rather than a full grid."""
        x, y = (float(value) for value in self.pixels(origin))
        ramp = np.arange(self.side, dtype=np.float32) + 0.5
        return ((ramp - x) / self.unit)[None, :], ((ramp - y) / self.unit)[:, None]

    def falloff(self, origin, spread):
        """A Gaussian around `origin` (in units) over the whole canvas."""
        x, y = self.axes(origin)
        return np.exp(-(y**2) / (2 * spread**2)) * np.exp(-(x**2) / (2 * spread**2))


def draw_layout(rng, traits, *, side, field, gaze, visible):
    """Places fovea and disc. `gaze` is how far the photograph's centre lies from the fovea towards the disc, 0 to 1."""
    unit = float(side * _UNIT_AT_50_DEGREES * 50 / field * rng.normal(1, 0.03))
    disc = np.array([1.0, rng.normal(-0.07, 0.05)])
    centre = np.array([gaze, rng.normal(0, 0.09)])
    radius = float(traits.disc_radius * rng.normal(1, 0.02))
    return Layout(side, side / 2 - centre * unit, unit, disc, radius, visible)
