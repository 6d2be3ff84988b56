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


def _beyond(distance):
    """The test for places farther than this from the fovea."""
    return lambda points: (points**2).sum(1) > distance**2


def microaneurysms(rng, scene, count):
    """Round red dots, most of them near the posterior pole, some so faint that they are easily missed."""
    unit = scene.layout.unit
    radii = np.maximum(1.0, rng.uniform(0.006, 0.012, count) * unit)
    placed = scene.place(rng, radii, where=lambda points: (points**2).sum(1) < 1.3)
    dots = brushes.blobs(rng, placed[:, :2], placed[:, 2], roughness=0.08)
    values = rng.uniform(_FAINT, 1.0, len(dots)) * 0.8
    scene.paint(dots, weights=BLOOD, soft=0.4 + unit / 500, values=values, name="microaneurysms")


def _place_haemorrhages(rng, scene, counts):
    """Circles for `counts` haemorrhages per quadrant, none touching another."""
    unit, median = scene.layout.unit, 0.0145 * rng.uniform(0.8, 1.2)
    taken = np.zeros((0, 3))
    for index, count in enumerate(counts):
        radii = np.sort(np.clip(rng.lognormal(np.log(median), 0.55, count), 0.008, 0.09) * unit)[::-1]
        rooms = {"where": quadrant(index), "gap": 3}
        placed = scene.place(rng, np.maximum(radii, 1.5), taken=taken, **rooms)
        taken = np.concatenate([taken, placed])
        # Where the large ones left no room, small dots still find some: the count decides the grade.
        short = count - len(placed)
        dots = scene.place(rng, np.full(4 * short, max(1.5, 0.01 * unit)), taken=taken, **rooms)[:short]
        taken = np.concatenate([taken, dots])
    return taken


def _flames(rng, scene, circles):
    """Outlines of superficial haemorrhages, split along the nerve fibres, which run away from the disc."""
    parts = 6
    away = circles[:, :2] - scene.layout.disc_pixels
    angle = np.repeat(np.arctan2(away[:, 1], away[:, 0]) + rng.normal(0, 0.25, len(circles)), parts)
    radius, count = np.repeat(circles[:, 2], parts), len(angle)
    aside = np.tile(np.linspace(-1, 1, parts), len(circles)) * rng.uniform(0.2, 0.5, count) * radius
    along = rng.normal(0, 0.3, count) * radius
    shift = np.stack([along * np.cos(angle) - aside * np.sin(angle), along * np.sin(angle) + aside * np.cos(angle)], 1)
    centres = np.repeat(circles[:, :2], parts, 0) + shift
    return brushes.blobs(rng, centres, radius * 0.15, stretch=rng.uniform(2, 4.5, count), angle=angle, roughness=0.3)


def haemorrhages(rng, scene, counts):
    """Dot, blot and flame haemorrhages, `counts` of them in each quadrant; deep blood is blurred, superficial sharp."""
    unit, circles = scene.layout.unit, _place_haemorrhages(rng, scene, counts)
    flame = (circles[:, 2] > 0.018 * unit) & (rng.random(len(circles)) < 1.6 * rng.beta(0.8, 2))
    deep = ~flame & (rng.random(len(circles)) < rng.uniform(0.2, 0.8))
    values = rng.uniform(0.25, 0.95, len(circles))
    for chosen, soft in ((deep, 0.7 + unit / 110), (~deep & ~flame, 0.4 + unit / 350)):
        spots = circles[chosen]
        turn = {"stretch": rng.uniform(1, 1.3, len(spots)), "angle": rng.uniform(0, 3, len(spots))}
        outlines = brushes.blobs(rng, spots[:, :2], spots[:, 2], roughness=0.32, **turn)
        scene.paint(outlines, weights=BLOOD, soft=soft, values=values[chosen], name="haemorrhages")
    outlines, soft = _flames(rng, scene, circles[flame]), 0.4 + unit / 350
    scene.paint(outlines, weights=BLOOD, soft=soft, values=np.repeat(values[flame], 6), name="haemorrhages")


def _exudate_cluster(rng, scene, near):
    """Places (units) of one ring or clump of exudates."""
    layout, spots = scene.layout, int(rng.gamma(1.4, 16)) + 5
    if near:
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.85) * 2 * layout.disc_radius
        middle = reach * np.array([np.cos(turn), np.sin(turn)])
    else:
        room = scene.room(lambda points: (points**2).sum(1) < 1.4)
        middle = (room[rng.integers(len(room))] - layout.fovea) / layout.unit
    angle = rng.uniform(0, 6.3) + rng.uniform(0, rng.uniform(1.5, 6.3), spots)
    radius = rng.uniform(0.05, 0.2) * rng.normal(1, 0.25, spots)
    return middle + np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def hard_exudates(rng, scene, *, near, clusters):
    """Waxy yellow spots: with `near` some lie within a disc diameter of the fovea, else none does."""
    layout = scene.layout
    points = np.concatenate([_exudate_cluster(rng, scene, near and index == 0) for index in range(clusters)])
    sizes = np.clip(rng.lognormal(np.log(0.0075), 0.6, len(points)), 0.003, 0.03)
    # The widest outline that `blobs` draws reaches about two and a half times the radius.
    safe = 0.0 if near else 2 * layout.disc_radius + 2.5 * sizes + 0.02
    keep = np.hypot(*points.T) > safe
    keep &= np.hypot(*(points - layout.disc).T) > 1.3 * layout.disc_radius
    points, radii = points[keep], np.maximum(0.8, sizes[keep] * layout.unit)
    outlines = brushes.blobs(rng, layout.pixels(points), radii, roughness=0.3)
    values = rng.uniform(0.45, 1.0, len(outlines))
    scene.paint(outlines, weights=LIPID, soft=0.35 + layout.unit / 600, values=values, name="hard_exudates")


def cotton_wool_spots(rng, scene, count):
    """Fluffy pale patches beside the arcades."""
    unit, tufts = scene.layout.unit, 6
    radii = rng.uniform(0.025, 0.06, count) * unit
    placed = scene.place(rng, radii, where=lambda points: ((points - (0.6, 0)) ** 2).sum(1) < 1.2, gap=8)
    angle = np.repeat(rng.uniform(0, np.pi, len(placed)), tufts)
    placed = np.repeat(placed, tufts, 0)
    centres = placed[:, :2] + rng.normal(0, 0.5, (len(placed), 2)) * placed[:, 2:]
    radii, stretch = placed[:, 2] * rng.uniform(0.35, 0.65, len(placed)), rng.uniform(1, 1.8, len(placed))
    outlines = brushes.blobs(rng, centres, radii, stretch=stretch, angle=angle, roughness=0.25)
    values = rng.uniform(0.5, 1.0, len(outlines))
    scene.paint(outlines, weights=COTTON, soft=0.013 * unit, values=values, name="cotton_wool_spots")


def _tangle(rng, scene, centre, *, reach, strands, bend, stiff, name, density):
    """A knot of fine, winding vessels around `centre` (units), drawn at twice the resolution."""
    side, unit = scene.layout.side, scene.layout.unit
    layer = np.zeros((2 * side, 2 * side), np.uint8)
    starts = centre + rng.normal(0, 0.15 * reach, (strands, 2))
    lengths = rng.uniform(0.7, 1.6, strands) * reach
    for path in brushes.wander(rng, starts, rng.uniform(0, 6.3, strands), lengths, steps=26, bend=bend, stiff=stiff):
        thickness = max(1, round(2 * unit * rng.uniform(0.003, 0.007)))
        brushes.stroke(layer, 2 * scene.layout.pixels(path), thickness, int(rng.uniform(110, 255)))
    layer = cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA)
    scene.density.add(brushes.soften(layer, 0.5 + unit / 800), np.array(FINE_VESSEL) * density)
    grain = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    scene.mark(name, cv2.morphologyEx((layer > 40).astype(np.uint8), cv2.MORPH_CLOSE, grain))


def irma(rng, scene, patches):
    """Intraretinal microvascular abnormalities: small winding shunts, flat in the retina, away from disc and fovea."""
    placed = scene.place(rng, np.full(patches, 0.12 * scene.layout.unit), where=_beyond(0.39))
    for centre in (placed[:, :2] - scene.layout.fovea) / scene.layout.unit:
        shape = {"reach": rng.uniform(0.1, 0.2), "strands": 9, "bend": 0.5, "stiff": 0.0}
        _tangle(rng, scene, centre, name="irma", density=1.0, **shape)


def new_vessels(rng, scene, *, on_disc, elsewhere):
    """Lacy fronds of new vessels on the disc (NVD) and along the arcades (NVE), larger and denser than IRMA."""
    layout = scene.layout
    shape = {"bend": 0.22, "stiff": 0.06, "name": "new_vessels", "density": 1.0}
    if on_disc:
        at = layout.disc + rng.normal(0, 0.04, 2)
        _tangle(rng, scene, at, reach=rng.uniform(0.25, 0.45), strands=34, **shape)
    placed = scene.place(rng, np.full(elsewhere, 0.2 * layout.unit), where=_beyond(0.6))
    for centre in (placed[:, :2] - layout.fovea) / layout.unit:
        _tangle(rng, scene, centre, reach=rng.uniform(0.18, 0.36), strands=30, **shape)


def _boat(rng, scene):
    """Blood between retina and vitreous: level above, round below."""
    unit, room = scene.layout.unit, scene.room(_beyond(0.45))
    width, depth = rng.uniform(0.15, 0.4) * unit, rng.uniform(0.12, 0.35) * unit
    turn = np.linspace(0, np.pi, 24)
    hull = np.stack([np.cos(turn) * width, np.sin(turn) ** rng.uniform(0.6, 1.3) * depth], 1) + rng.normal(
        0, 0.006 * unit, (24, 2)
    )
    hull, soft = hull + room[rng.integers(len(room))], 0.8 + unit / 250
    scene.paint([hull], weights=np.array(BLOOD) * 1.7, soft=soft, values=[0.9], name="vitreous_haemorrhage")


def _cloud(rng, scene):
    """Blood in the vitreous: a blurred, stringy cloud that settles downwards."""
    side = scene.layout.side
    noise = brushes.pyramid_noise(rng, side, (0.5, 0.4, 0.3, 0.22, 0.12), finest=max(1, side // 64))
    at = (rng.uniform(-0.6, 0.8), rng.uniform(0.2, 0.8))
    cloud = scene.layout.falloff(at, rng.uniform(0.18, 0.36)) * np.clip(0.8 + noise, 0, 2)
    scene.density.add(cloud, np.array(BLOOD) * rng.uniform(0.5, 1.2))
    scene.mark("vitreous_haemorrhage", cloud > 0.3)


def vitreous_haemorrhage(rng, scene, *, boat, cloud):
    if boat:
        _boat(rng, scene)
    if cloud:
        _cloud(rng, scene)
