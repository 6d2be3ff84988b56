"""Lesions of diabetic retinopathy, painted into a scene. Sizes are in disc-fovea distances (about 4.8 mm)."""

import cv2
import numpy as np

from dr_tf.fundus.synthesis import brushes
from dr_tf.fundus.synthesis.scene import quadrant

BLOOD = (0.3, 0.85, 0.75)
LIPID = (-0.28, -0.85, -0.6)
COTTON = (-0.2, -0.55, -0.95)
FINE_VESSEL = (0.15, 0.6, 0.5)
_FAINT = 0.35


def microaneurysms(rng, scene, count):
    """Round red dots, most of them near the posterior pole, some so faint that they are easily missed."""
    unit = scene.layout.unit
    radii = np.maximum(1.0, rng.uniform(0.006, 0.012, count) * unit)
    placed = scene.place(rng, radii, where=lambda points: (points**2).sum(1) < 1.3)
    dots = [brushes.blob(rng, centre, radius, roughness=0.08) for centre, radius in placed]
    values = rng.uniform(_FAINT, 1.0, len(dots)) * 0.8
    scene.paint(dots, weights=BLOOD, soft=0.4 + unit / 500, values=values, name="microaneurysms")


def _haemorrhage(rng, scene, centre, radius, flame):
    """Outlines of one haemorrhage: a blot, or a flame split along the nerve fibres, which run away from the disc."""
    if not flame:
        return [brushes.blob(rng, centre, radius, stretch=rng.uniform(1, 1.3), angle=rng.uniform(0, 3), roughness=0.2)]
    away = centre - scene.layout.disc_pixels
    angle = np.arctan2(away[1], away[0]) + rng.normal(0, 0.25)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    outlines = []
    for shift in rng.uniform(-1, 1, 4):
        middle = centre + across * shift * radius * 0.22 + along * rng.normal(0, 0.15) * radius
        outlines.append(brushes.blob(rng, middle, radius * 0.24, stretch=rng.uniform(2, 3.4), angle=angle, roughness=0.15))
    return outlines


def haemorrhages(rng, scene, counts):
    """Dot, blot and flame haemorrhages, `counts` of them in each quadrant, none touching another."""
    unit, flames = scene.layout.unit, rng.beta(0.8, 2)
    size = rng.uniform(0.8, 1.2)
    taken, outlines, values = [], [], []
    for index, count in enumerate(counts):
        radii = np.sort(np.clip(rng.lognormal(np.log(0.015 * size), 0.55, count), 0.008, 0.09) * unit)[::-1]
        radii = np.maximum(radii, 1.5)
        placed = scene.place(rng, radii, where=quadrant(index), taken=taken, gap=3)
        # Where the large ones left no room, small dots still find some: the count decides the grade.
        short = count - len(placed)
        placed += scene.place(rng, np.full(4 * short, max(1.5, 0.01 * unit)), where=quadrant(index), taken=taken + placed, gap=3)[:short]
        taken += placed
        for centre, radius in placed:
            shapes = _haemorrhage(rng, scene, centre, radius, radius > 3 and rng.random() < flames)
            outlines += shapes
            values += [rng.uniform(0.25, 0.95)] * len(shapes)
    # Superficial blood is sharp, deep blood blurred.
    deep = rng.random(len(outlines)) < rng.uniform(0.2, 0.8)
    for chosen, soft in ((deep, 0.7 + unit / 110), (~deep, 0.4 + unit / 350)):
        part = [(outline, value) for outline, value, here in zip(outlines, values, chosen, strict=True) if here]
        if part:
            scene.paint([o for o, _ in part], weights=BLOOD, soft=soft, values=[v for _, v in part], name="haemorrhages")


def hard_exudates(rng, scene, *, near, clusters):
    """Waxy yellow spots in rings and clumps: with `near` some lie within a disc diameter of the fovea, else none does."""
    layout = scene.layout
    safe = 2 * layout.disc_radius
    outlines, values = [], []
    for index in range(clusters):
        spots = int(rng.gamma(1.6, 9)) + 4
        spread = rng.uniform(0.05, 0.2)
        if near and index == 0:
            turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.85) * safe
            middle = reach * np.array([np.cos(turn), np.sin(turn)])
        else:
            room = scene.room(lambda points: (points**2).sum(1) < 1.4)
            middle = (room[rng.integers(len(room))] - layout.fovea) / layout.unit
        arc, start = rng.uniform(1.5, 6.3), rng.uniform(0, 6.3)
        angle, radius = start + rng.uniform(0, arc, spots), spread * rng.normal(1, 0.25, spots)
        points = middle + np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
        sizes = np.clip(rng.lognormal(np.log(0.0085), 0.5, spots), 0.004, 0.03)
        for point, size in zip(points, sizes, strict=True):
            # The widest outline that `blob` draws reaches about twice the radius.
            outside = near or (point**2).sum() > (safe + 2.5 * size + 0.02) ** 2
            if outside and ((point - layout.disc) ** 2).sum() > (1.3 * layout.disc_radius) ** 2:
                outlines.append(brushes.blob(rng, layout.pixels(point), max(0.8, size * layout.unit), roughness=0.3))
                values.append(rng.uniform(0.45, 1.0))
    scene.paint(outlines, weights=LIPID, soft=0.35 + layout.unit / 600, values=values, name="hard_exudates")


def cotton_wool_spots(rng, scene, count):
    """Fluffy pale patches beside the arcades, which hide the vessels under them."""
    unit = scene.layout.unit
    radii = rng.uniform(0.025, 0.06, count) * unit
    placed = scene.place(rng, radii, where=lambda points: ((points - (0.6, 0)) ** 2).sum(1) < 1.2, gap=8)
    tufts = []
    for centre, radius in placed:
        angle = rng.uniform(0, np.pi)
        for _ in range(4):
            at = centre + rng.normal(0, 0.3, 2) * radius
            tufts.append(brushes.blob(rng, at, radius * 0.7, stretch=rng.uniform(1, 1.6), angle=angle, roughness=0.25))
    values = rng.uniform(0.5, 1.0, len(tufts))
    scene.paint(tufts, weights=COTTON, soft=0.022 * unit, values=values, name="cotton_wool_spots")


def _tangle(rng, scene, centre, *, reach, strands, bend, name, density):
    """A knot of fine, winding vessels around `centre` (units), drawn at twice the resolution."""
    side, unit = scene.layout.side, scene.layout.unit
    layer = np.zeros((2 * side, 2 * side), np.uint8)
    starts = centre + rng.normal(0, 0.15 * reach, (strands, 2))
    lengths = rng.uniform(0.7, 1.6, strands) * reach
    for path in brushes.wander(rng, starts, rng.uniform(0, 6.3, strands), lengths, steps=26, bend=bend):
        thickness = max(1, round(2 * unit * rng.uniform(0.003, 0.007)))
        brushes.stroke(layer, 2 * scene.layout.pixels(path), thickness, int(rng.uniform(110, 255)))
    layer = cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA)
    scene.density.add(brushes.soften(layer, 0.5 + unit / 800), np.array(FINE_VESSEL) * density)
    grain = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    scene.mark(name, cv2.morphologyEx((layer > 40).astype(np.uint8), cv2.MORPH_CLOSE, grain))


def irma(rng, scene, patches):
    """Intraretinal microvascular abnormalities: small winding shunts, flat in the retina, away from disc and fovea."""
    placed = scene.place(rng, np.full(patches, 0.12 * scene.layout.unit), where=lambda points: (points**2).sum(1) > 0.15)
    for centre, _ in placed:
        at = (centre - scene.layout.fovea) / scene.layout.unit
        _tangle(rng, scene, at, reach=rng.uniform(0.1, 0.2), strands=9, bend=0.55, name="irma", density=1.0)


def new_vessels(rng, scene, *, on_disc, elsewhere):
    """Lacy fronds of new vessels on the disc (NVD) and along the arcades (NVE), larger and denser than IRMA."""
    if on_disc:
        at = scene.layout.disc + rng.normal(0, 0.04, 2)
        _tangle(rng, scene, at, reach=rng.uniform(0.25, 0.45), strands=34, bend=0.26, name="new_vessels", density=1.0)
    ring = lambda points: (points**2).sum(1) > 0.35  # noqa: E731
    for centre, _ in scene.place(rng, np.full(elsewhere, 0.2 * scene.layout.unit), where=ring):
        at = (centre - scene.layout.fovea) / scene.layout.unit
        _tangle(rng, scene, at, reach=rng.uniform(0.18, 0.36), strands=30, bend=0.26, name="new_vessels", density=1.0)


def _boat(rng, scene):
    """Blood between retina and vitreous: level above, round below."""
    unit = scene.layout.unit
    room = scene.room(lambda points: (points**2).sum(1) > 0.2)
    middle = room[rng.integers(len(room))]
    width, depth = rng.uniform(0.15, 0.4) * unit, rng.uniform(0.12, 0.35) * unit
    turn = np.linspace(0, np.pi, 24)
    hull = np.stack([np.cos(turn) * width, np.sin(turn) ** 0.8 * depth], 1) + rng.normal(0, 0.01 * unit, (24, 2))
    scene.paint(
        [hull + middle], weights=np.array(BLOOD) * 1.7, soft=0.8 + unit / 250, values=[0.9], name="vitreous_haemorrhage"
    )


def _cloud(rng, scene):
    """Blood in the vitreous: a blurred, stringy cloud that settles downwards."""
    side = scene.layout.side
    noise = brushes.pyramid_noise(rng, side, (0.5, 0.4, 0.3, 0.22, 0.12), finest=max(1, side // 64))
    at = (rng.uniform(-0.6, 0.8), rng.uniform(0.2, 0.8))
    cloud = scene.layout.falloff(at, rng.uniform(0.2, 0.4)) * np.clip(0.8 + noise, 0, 2)
    scene.density.add(cloud, np.array(BLOOD) * rng.uniform(0.8, 1.4))
    scene.mark("vitreous_haemorrhage", cloud > 0.3)


def vitreous_haemorrhage(rng, scene, *, boat, cloud):
    if boat:
        _boat(rng, scene)
    if cloud:
        _cloud(rng, scene)
