"""What healthy eyes show as well, at every grade alike: it keeps single dots and bright specks from giving a grade away."""

import numpy as np

from dr_tf.fundus.synthesis import brushes
from dr_tf.fundus.synthesis.findings import DRUSEN


def _hard_drusen(rng, scene):
    """A few, as most eyes have; only many make a finding."""
    count = rng.poisson(2.5 * (scene.traits.age / 60) ** 2)
    placed = scene.place(rng, rng.uniform(0.005, 0.011, count) * scene.layout.unit)
    spots = [brushes.blob(rng, centre, max(0.8, radius)) for centre, radius in placed]
    scene.paint(spots, weights=DRUSEN, soft=0.8, values=rng.uniform(0.3, 0.9, len(spots)))


def _pigment_dots(rng, scene):
    """Brown specks: as dark in red as in green, unlike blood."""
    placed = scene.place(rng, rng.uniform(0.006, 0.018, rng.poisson(2.5)) * scene.layout.unit)
    dots = [brushes.blob(rng, centre, max(0.9, radius), roughness=0.3) for centre, radius in placed]
    scene.paint(dots, weights=(0.45, 0.5, 0.3), soft=0.9, values=rng.uniform(0.2, 0.8, len(dots)))


def _naevus(rng, scene):
    if rng.random() < 0.06:
        for centre, radius in scene.place(rng, [rng.uniform(0.06, 0.16) * scene.layout.unit]):
            outline = brushes.blob(rng, centre, radius, roughness=0.1)
            scene.paint([outline], weights=(0.5, 0.4, 0.1), soft=radius / 5, values=[rng.uniform(0.3, 0.8)])


def _reflexes(rng, scene):
    """Young retinas glisten: a point in the fovea and pale streaks beside the vessels."""
    sheen, layout = scene.traits.sheen, scene.layout
    if rng.random() < 0.25 + 0.5 * sheen:
        spot = layout.falloff(rng.normal(0, 0.008, 2), rng.uniform(0.008, 0.02))
        scene.density.add(spot * rng.uniform(0.1, 0.5), (-0.4, -0.8, -1.0))
    count = rng.poisson(14 * sheen)
    placed = scene.place(rng, rng.uniform(0.02, 0.05, count) * layout.unit, where=lambda points: (points**2).sum(1) > 0.1)
    streaks = []
    for centre, radius in placed:
        away = centre - layout.disc_pixels
        angle = np.arctan2(away[1], away[0]) + rng.normal(0, 0.4)
        streaks.append(brushes.blob(rng, centre, radius * 0.5, stretch=3, angle=angle))
    scene.paint(streaks, weights=(-0.15, -0.3, -0.5), soft=layout.unit / 60, values=rng.uniform(0.2, 0.8, len(streaks)))


def paint(rng, scene):
    for painter in (_hard_drusen, _pigment_dots, _naevus, _reflexes):
        painter(rng, scene)
