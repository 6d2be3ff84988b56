"""Paint the lesions of diabetic retinopathy into a scene. Sizes are in disc-fovea distances (about 4.8 mm)."""

from typing import Any

import cv2
import numpy as np

from dr_tf.fundus.synthesis import drawing
from dr_tf.fundus.synthesis.scene import Scene, Where, quadrant

# Optical density in red, green, blue.
BLOOD = (0.3, 0.85, 0.75)
LIPID = (-0.28, -0.85, -0.6)
COTTON_WOOL = (-0.2, -0.55, -0.95)
FINE_VESSEL = (0.15, 0.6, 0.5)
_FAINTEST = 0.35
_FLAME_PARTS = 6


def _farther_than(distance: float) -> Where:
    """Return the test for places farther than this from the fovea."""
    return lambda points: (points**2).sum(1) > distance**2


def microaneurysms(rng: np.random.Generator, scene: Scene, count: int) -> None:
    """Paint round red dots, most of them near the posterior pole, some so faint that they are easily missed."""
    unit = scene.layout.unit
    radii = np.maximum(1.0, rng.uniform(0.006, 0.012, count) * unit)
    placed = scene.place(rng, radii, where=lambda points: (points**2).sum(1) < 1.3)
    dots = drawing.blobs(rng, placed[:, :2], placed[:, 2], roughness=0.08)
    values = rng.uniform(_FAINTEST, 1.0, len(dots)) * 0.8
    scene.paint(dots, weights=BLOOD, soft=0.4 + unit / 500, values=values, name="microaneurysms")


def _place_haemorrhages(rng: np.random.Generator, scene: Scene, counts: tuple[int, ...]) -> np.ndarray:
    """Return circles [n, 3] for `counts` haemorrhages per quadrant, none touching another."""
    unit, median = scene.layout.unit, 0.0145 * rng.uniform(0.8, 1.2)
    taken = np.zeros((0, 3))
    for index, count in enumerate(counts):
        radii = np.sort(np.clip(rng.lognormal(np.log(median), 0.55, count), 0.008, 0.09) * unit)[::-1]
        where = quadrant(index)
        placed = scene.place(rng, np.maximum(radii, 1.5), where=where, gap=3, taken=taken)
        taken = np.concatenate([taken, placed])
        # Small dots still fit where the large ones left no room: the count decides the grade.
        missing = count - len(placed)
        dots = scene.place(rng, np.full(4 * missing, max(1.5, 0.01 * unit)), where=where, gap=3, taken=taken)[:missing]
        taken = np.concatenate([taken, dots])
    return taken


def _flame_outlines(rng: np.random.Generator, scene: Scene, circles: np.ndarray) -> np.ndarray:
    """Return outlines of flame haemorrhages, which split along the nerve fibres, away from the optic disc."""
    parts = _FLAME_PARTS
    from_disc = circles[:, :2] - scene.layout.disc_pixels
    angle = np.repeat(np.arctan2(from_disc[:, 1], from_disc[:, 0]) + rng.normal(0, 0.25, len(circles)), parts)
    radius, count = np.repeat(circles[:, 2], parts), len(angle)
    aside = np.tile(np.linspace(-1, 1, parts), len(circles)) * rng.uniform(0.2, 0.5, count) * radius
    along = rng.normal(0, 0.3, count) * radius
    shift = np.stack([along * np.cos(angle) - aside * np.sin(angle), along * np.sin(angle) + aside * np.cos(angle)], 1)
    centres = np.repeat(circles[:, :2], parts, 0) + shift
    return drawing.blobs(rng, centres, radius * 0.15, stretch=rng.uniform(2, 4.5, count), angle=angle, roughness=0.3)


def haemorrhages(rng: np.random.Generator, scene: Scene, counts: tuple[int, ...]) -> None:
    """Paint dot, blot and flame haemorrhages, `counts` in each quadrant. Deep ones are blurred, the others sharp."""
    unit, circles = scene.layout.unit, _place_haemorrhages(rng, scene, counts)
    is_flame = (circles[:, 2] > 0.018 * unit) & (rng.random(len(circles)) < 1.6 * rng.beta(0.8, 2))
    is_deep = ~is_flame & (rng.random(len(circles)) < rng.uniform(0.2, 0.8))
    values = rng.uniform(0.25, 0.95, len(circles))
    for chosen, soft in ((is_deep, 0.7 + unit / 110), (~is_deep & ~is_flame, 0.4 + unit / 350)):
        spots = circles[chosen]
        stretch, angle = rng.uniform(1, 1.3, len(spots)), rng.uniform(0, 3, len(spots))
        outlines = drawing.blobs(rng, spots[:, :2], spots[:, 2], roughness=0.32, stretch=stretch, angle=angle)
        scene.paint(outlines, weights=BLOOD, soft=soft, values=values[chosen], name="haemorrhages")
    outlines, soft = _flame_outlines(rng, scene, circles[is_flame]), 0.4 + unit / 350
    flame_values = np.repeat(values[is_flame], _FLAME_PARTS)
    scene.paint(outlines, weights=BLOOD, soft=soft, values=flame_values, name="haemorrhages")


def _exudate_cluster(rng: np.random.Generator, scene: Scene, is_near: bool) -> np.ndarray:
    """Return places [n, 2] in units of one ring or clump of exudates, near the fovea or anywhere."""
    layout, count = scene.layout, int(rng.gamma(1.4, 16)) + 5
    if is_near:
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.85) * 2 * layout.disc_radius
        middle = reach * np.array([np.cos(turn), np.sin(turn)])
    else:
        places = scene.lesion_places(lambda points: (points**2).sum(1) < 1.4)
        middle = (places[rng.integers(len(places))] - layout.fovea) / layout.unit
    angle = rng.uniform(0, 6.3) + rng.uniform(0, rng.uniform(1.5, 6.3), count)
    radius = rng.uniform(0.05, 0.2) * rng.normal(1, 0.25, count)
    return middle + np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def hard_exudates(rng: np.random.Generator, scene: Scene, *, near: bool, clusters: int) -> None:
    """Paint waxy yellow spots. With `near`, some lie within a disc diameter of the fovea; otherwise none does."""
    layout = scene.layout
    points = np.concatenate([_exudate_cluster(rng, scene, near and index == 0) for index in range(clusters)])
    sizes = np.clip(rng.lognormal(np.log(0.0075), 0.6, len(points)), 0.003, 0.03)
    # The widest outline that `blobs` draws reaches about two and a half times the radius.
    least_distance = 0.0 if near else 2 * layout.disc_radius + 2.5 * sizes + 0.02
    keep = np.hypot(*points.T) > least_distance
    keep &= np.hypot(*(points - layout.disc).T) > 1.3 * layout.disc_radius
    points, radii = points[keep], np.maximum(0.8, sizes[keep] * layout.unit)
    outlines = drawing.blobs(rng, layout.pixels(points), radii, roughness=0.3)
    values = rng.uniform(0.45, 1.0, len(outlines))
    scene.paint(outlines, weights=LIPID, soft=0.35 + layout.unit / 600, values=values, name="hard_exudates")


def cotton_wool_spots(rng: np.random.Generator, scene: Scene, count: int) -> None:
    """Paint fluffy pale patches beside the arcades."""
    unit, tufts = scene.layout.unit, 6
    radii = rng.uniform(0.025, 0.06, count) * unit
    placed = scene.place(rng, radii, where=lambda points: ((points - (0.6, 0)) ** 2).sum(1) < 1.2, gap=8)
    angle = np.repeat(rng.uniform(0, np.pi, len(placed)), tufts)
    placed = np.repeat(placed, tufts, 0)
    centres = placed[:, :2] + rng.normal(0, 0.5, (len(placed), 2)) * placed[:, 2:]
    radii, stretch = placed[:, 2] * rng.uniform(0.35, 0.65, len(placed)), rng.uniform(1, 1.8, len(placed))
    outlines = drawing.blobs(rng, centres, radii, stretch=stretch, angle=angle, roughness=0.25)
    values = rng.uniform(0.5, 1.0, len(outlines))
    scene.paint(outlines, weights=COTTON_WOOL, soft=0.013 * unit, values=values, name="cotton_wool_spots")


def _tangle(
    rng: np.random.Generator,
    scene: Scene,
    centre: np.ndarray,
    *,
    reach: float,
    strands: int,
    bend: float,
    stiff: float,
    name: str,
) -> None:
    """Paint a knot of fine, winding vessels around `centre` (units), drawn at twice the resolution."""
    side, unit = scene.layout.side, scene.layout.unit
    layer = np.zeros((2 * side, 2 * side), np.uint8)
    starts = centre + rng.normal(0, 0.15 * reach, (strands, 2))
    lengths = rng.uniform(0.7, 1.6, strands) * reach
    for path in drawing.wander(rng, starts, rng.uniform(0, 6.3, strands), lengths, steps=26, bend=bend, stiff=stiff):
        thickness = max(1, round(2 * unit * rng.uniform(0.003, 0.007)))
        drawing.stroke(layer, 2 * scene.layout.pixels(path), thickness, int(rng.uniform(110, 255)))
    small = cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA)
    scene.density.add(drawing.soften(small, 0.5 + unit / 800), FINE_VESSEL)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    scene.mark(name, cv2.morphologyEx((small > 40).astype(np.uint8), cv2.MORPH_CLOSE, kernel))


def irma(rng: np.random.Generator, scene: Scene, patches: int) -> None:
    """Paint intraretinal microvascular abnormalities: small winding shunts, away from the disc and the fovea."""
    placed = scene.place(rng, np.full(patches, 0.12 * scene.layout.unit), where=_farther_than(0.39))
    for centre in (placed[:, :2] - scene.layout.fovea) / scene.layout.unit:
        _tangle(rng, scene, centre, reach=rng.uniform(0.1, 0.2), strands=9, bend=0.5, stiff=0.0, name="irma")


def new_vessels(rng: np.random.Generator, scene: Scene, *, on_disc: bool, elsewhere: int) -> None:
    """Paint fronds of new vessels, larger and denser than IRMA.

    Args:
        rng: the random generator.
        scene: to paint in.
        on_disc: whether there are new vessels on the optic disc (NVD).
        elsewhere: number of new vessels elsewhere (NVE), along the arcades.
    """
    layout = scene.layout
    shape: dict[str, Any] = {"bend": 0.22, "stiff": 0.06, "name": "new_vessels"}
    if on_disc:
        centre = layout.disc + rng.normal(0, 0.04, 2)
        _tangle(rng, scene, centre, reach=rng.uniform(0.25, 0.45), strands=34, **shape)
    placed = scene.place(rng, np.full(elsewhere, 0.2 * layout.unit), where=_farther_than(0.6))
    for centre in (placed[:, :2] - layout.fovea) / layout.unit:
        _tangle(rng, scene, centre, reach=rng.uniform(0.18, 0.36), strands=30, **shape)


def _preretinal(rng: np.random.Generator, scene: Scene) -> None:
    """Paint boat-shaped blood between retina and vitreous: level above, round below."""
    unit, places = scene.layout.unit, scene.lesion_places(_farther_than(0.45))
    width, depth = rng.uniform(0.15, 0.4) * unit, rng.uniform(0.12, 0.35) * unit
    turn = np.linspace(0, np.pi, 24)
    hull = np.stack([np.cos(turn) * width, np.sin(turn) ** rng.uniform(0.6, 1.3) * depth], 1) + rng.normal(
        0, 0.006 * unit, (24, 2)
    )
    hull, soft = hull + places[rng.integers(len(places))], 0.8 + unit / 250
    scene.paint([hull], weights=np.array(BLOOD) * 1.7, soft=soft, values=[0.9], name="vitreous_haemorrhage")


def _cloud(rng: np.random.Generator, scene: Scene) -> None:
    """Paint blood in the vitreous: a blurred, stringy cloud that settles downwards."""
    side = scene.layout.side
    noise = drawing.pyramid_noise(rng, side, (0.5, 0.4, 0.3, 0.22, 0.12), finest=max(1, side // 64))
    centre = (rng.uniform(-0.6, 0.8), rng.uniform(0.2, 0.8))
    cloud = scene.layout.falloff(centre, rng.uniform(0.18, 0.36)) * np.clip(0.8 + noise, 0, 2)
    scene.density.add(cloud, np.array(BLOOD) * rng.uniform(0.5, 1.2))
    scene.mark("vitreous_haemorrhage", cloud > 0.3)


def vitreous_haemorrhage(rng: np.random.Generator, scene: Scene, *, preretinal: bool, cloud: bool) -> None:
    """Paint blood in front of the retina: boat-shaped preretinal blood, a cloud in the vitreous, or both."""
    if preretinal:
        _preretinal(rng, scene)
    if cloud:
        _cloud(rng, scene)
