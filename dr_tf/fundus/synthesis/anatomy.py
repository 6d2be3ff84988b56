"""Draw a patient's anatomical traits, and place the fovea and the optic disc in one eye.

Every eye is laid out as a right eye, with the fovea at the origin and the nose at +x; left eyes are mirrored once the
retina is finished. The unit of length is the distance from fovea to disc, about 4.8 mm.
"""

import dataclasses

import numpy as np

# The disc-fovea distance as a share of the circle's diameter at a field of 50 degrees, measured on IDRiD by eye.
_UNIT_AT_50_DEGREES = 0.39


@dataclasses.dataclass(frozen=True)
class Traits:
    """Traits that a patient's two eyes share. Each eye differs from them only a little.

    Attributes:
        age: in years.
        sex: "female" or "male".
        pigment: of the fundus, in standard deviations from the average.
        tessellation: how clearly the choroidal vessels show, 0 to 0.8.
        tortuosity: of the vessels; 1 is average.
        cup: cup-to-disc ratio.
        disc_radius: in disc-fovea distances.
        calibre: width of the vessels; 1 is average.
        arcade: vertical distance of the vessel arcades; 1 is average.
        sheen: of the nerve fibre layer, 0 to 1.
    """

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


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw the traits of a screened adult. None of them depends on any disease."""
    age = int(np.clip(rng.normal(56, 13), 20, 89))
    relative_age = (age - 20) / 70
    return Traits(
        age=age,
        sex=str(rng.choice(["female", "male"])),
        pigment=float(np.clip(rng.normal(0.0, 1.0), -2, 2)),
        tessellation=float(np.clip(rng.beta(1.3, 4.0) + 0.2 * relative_age, 0, 0.8)),
        tortuosity=float(rng.gamma(4, 0.25)),
        cup=float(np.clip(rng.normal(0.36, 0.09), 0.15, 0.55)),
        disc_radius=float(np.clip(rng.normal(0.172, 0.011), 0.145, 0.2)),
        calibre=float(np.clip(rng.normal(1.0, 0.1), 0.75, 1.25)),
        arcade=float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.15)),
        sheen=float(np.clip(rng.beta(2, 2.5) * (1.25 - 0.9 * relative_age), 0, 1)),
    )


@dataclasses.dataclass(frozen=True)
class Layout:
    """Geometry of one eye on a square canvas whose inscribed circle is the photographed field.

    Attributes:
        side: of the canvas in pixels.
        fovea: position in pixels.
        unit: pixels per disc-fovea distance.
        disc: position of the optic disc relative to the fovea, in units.
        disc_radius: in units.
        visible: uint8 mask, 1 where the camera shows retina, in the orientation of a right eye.
    """

    side: int
    fovea: np.ndarray
    unit: float
    disc: np.ndarray
    disc_radius: float
    visible: np.ndarray

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Convert points from units to pixels."""
        return np.asarray(points) * self.unit + self.fovea

    @property
    def disc_pixels(self) -> np.ndarray:
        """Return the position of the optic disc in pixels."""
        return self.pixels(self.disc)

    def axes(self, origin: np.ndarray | tuple[float, float] = (0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
        """Return the x of all columns [1, side] and the y of all rows [side, 1], in units from `origin`."""
        x, y = (float(value) for value in self.pixels(np.asarray(origin)))
        ramp = np.arange(self.side, dtype=np.float32) + 0.5
        return ((ramp - x) / self.unit)[None, :], ((ramp - y) / self.unit)[:, None]

    def falloff(self, origin: np.ndarray | tuple[float, float], spread: float) -> np.ndarray:
        """Return a Gaussian of height 1 around `origin` over the whole canvas; both arguments are in units."""
        x, y = self.axes(origin)
        return np.exp(-(y**2) / (2 * spread**2)) * np.exp(-(x**2) / (2 * spread**2))


def draw_layout(
    rng: np.random.Generator, traits: Traits, *, side: int, field: float, gaze: float, visible: np.ndarray
) -> Layout:
    """Place the fovea and the optic disc of one eye.

    Args:
        rng: the random generator.
        traits: of the patient.
        side: of the canvas in pixels.
        field: angle of view in degrees.
        gaze: how far the centre of the photograph lies from the fovea towards the disc, 0 to 1.
        visible: the mask of what the camera shows.
    """
    unit = float(side * _UNIT_AT_50_DEGREES * 50 / field * rng.normal(1, 0.03))
    disc = np.array([1.0, rng.normal(-0.07, 0.05)])
    centre = np.array([gaze, rng.normal(0, 0.09)])
    radius = float(traits.disc_radius * rng.normal(1, 0.02))
    return Layout(side, side / 2 - centre * unit, unit, disc, radius, visible)
