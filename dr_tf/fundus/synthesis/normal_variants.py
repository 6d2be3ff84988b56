"""Paint what healthy eyes show as well: a few drusen, pigment spots, naevi and reflexes.

They occur alike at every grade, so that single dots and specks do not give a grade away.
"""

from collections.abc import Sequence

import numpy as np

from dr_tf.fundus.synthesis import drawing
from dr_tf.fundus.synthesis.findings import DRUSEN
from dr_tf.fundus.synthesis.scene import Scene


def _specks(
    rng: np.random.Generator,
    scene: Scene,
    sizes: np.ndarray,
    *,
    weights: Sequence[float],
    roughness: float,
    values: tuple[float, float],
) -> None:
    placed = scene.place(rng, np.maximum(0.8, sizes * scene.layout.unit))
    spots = drawing.blobs(rng, placed[:, :2], placed[:, 2], roughness=roughness)
    scene.paint(spots, weights=weights, soft=0.8, values=rng.uniform(*values, len(spots)))


def _hard_drusen(rng: np.random.Generator, scene: Scene) -> None:
    """Paint a few drusen, as most eyes have. Only many of them are a finding."""
    sizes = rng.uniform(0.005, 0.011, rng.poisson(2.5 * (scene.traits.age / 60) ** 2))
    _specks(rng, scene, sizes, weights=DRUSEN, roughness=0.2, values=(0.3, 0.9))


def _pigment_spots(rng: np.random.Generator, scene: Scene) -> None:
    """Paint brown specks: nearly as dark in red as in green, unlike blood."""
    sizes = rng.uniform(0.006, 0.018, rng.poisson(2.5))
    _specks(rng, scene, sizes, weights=(0.45, 0.5, 0.3), roughness=0.3, values=(0.2, 0.8))


def _naevus(rng: np.random.Generator, scene: Scene) -> None:
    if rng.random() < 0.06:
        placed = scene.place(rng, [rng.uniform(0.06, 0.16) * scene.layout.unit])
        outlines, values = drawing.blobs(rng, placed[:, :2], placed[:, 2], roughness=0.1), [rng.uniform(0.3, 0.8)]
        scene.paint(outlines, weights=(0.5, 0.4, 0.1), soft=scene.layout.unit / 50, values=values[: len(outlines)])


def _foveal_reflex(rng: np.random.Generator, scene: Scene) -> None:
    if rng.random() < 0.25 + 0.5 * scene.traits.sheen:
        spot = scene.layout.falloff(rng.normal(0, 0.008, 2), rng.uniform(0.008, 0.02))
        scene.density.add(spot * rng.uniform(0.1, 0.5), (-0.4, -0.8, -1.0))


def _nerve_fibre_reflexes(rng: np.random.Generator, scene: Scene) -> None:
    """Paint the pale streaks along the nerve fibres that young retinas show."""
    layout, count = scene.layout, rng.poisson(14 * scene.traits.sheen)
    radii = rng.uniform(0.02, 0.05, count) * layout.unit
    placed = scene.place(rng, radii, where=lambda points: (points**2).sum(1) > 0.1)
    from_disc = placed[:, :2] - layout.disc_pixels
    angle = np.arctan2(from_disc[:, 1], from_disc[:, 0]) + rng.normal(0, 0.4, len(placed))
    streaks = drawing.blobs(rng, placed[:, :2], placed[:, 2] * 0.5, stretch=3.0, angle=angle)
    values = rng.uniform(0.2, 0.8, len(streaks))
    scene.paint(streaks, weights=(-0.15, -0.3, -0.5), soft=layout.unit / 60, values=values)


def paint(rng: np.random.Generator, scene: Scene) -> None:
    """Paint all of them. Which and how many depends on the traits and on chance, never on the grade."""
    for paint_one in (_hard_drusen, _pigment_spots, _naevus, _foveal_reflex, _nerve_fibre_reflexes):
        paint_one(rng, scene)
