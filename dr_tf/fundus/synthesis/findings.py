"""Paint the findings of ODIR other than retinopathy: glaucoma, cataract, AMD, hypertension, myopia and others."""

import dataclasses
from collections.abc import Callable, Iterable

import cv2
import numpy as np

from dr_tf.fundus.synthesis import drawing
from dr_tf.fundus.synthesis.lesions import BLOOD
from dr_tf.fundus.synthesis.scene import Scene

# Optical density in red, green, blue.
DRUSEN = (-0.14, -0.38, -0.35)
ATROPHY = (-0.3, -0.45, -0.75)
SCAR_RIM = (0.7, 0.8, 0.6)
MEMBRANE = (0.1, -0.15, -0.2)


def _paint_nothing(rng: np.random.Generator, scene: Scene) -> None:
    return None


def drusen(rng: np.random.Generator, scene: Scene) -> None:
    """Paint many soft yellow deposits in the macula."""
    unit, count = scene.layout.unit, int(rng.integers(40, 110))
    points = scene.layout.pixels(rng.normal(0, rng.uniform(0.13, 0.25), (count, 2)))
    radii = np.maximum(0.9, np.clip(rng.lognormal(np.log(0.011), 0.45, count), 0.005, 0.035) * unit)
    spots, values = drawing.blobs(rng, points, radii), rng.uniform(0.4, 1.0, count)
    scene.paint(spots, weights=DRUSEN, soft=0.7 + unit / 220, values=values, name="drusen")


def _macular_degeneration(rng: np.random.Generator, scene: Scene) -> None:
    """Paint drusen, and geographic atrophy (dry) or a choroidal neovascular membrane with blood (wet)."""
    drusen(rng, scene)
    layout, centre = scene.layout, rng.normal(0, 0.05, 2)
    outline = drawing.blob(rng, layout.pixels(centre), rng.uniform(0.13, 0.3) * layout.unit, roughness=0.25)
    soft = 0.6 + layout.unit / 180
    if rng.random() < 0.5:
        scene.paint([outline], weights=ATROPHY, soft=soft, values=[rng.uniform(0.6, 0.95)], name="geographic_atrophy")
        return
    name = "choroidal_neovascularization"
    scene.paint([outline], weights=MEMBRANE, soft=4 * soft, values=[0.9], name=name)
    count = int(rng.integers(1, 4))
    places = layout.pixels(centre + rng.normal(0, 0.14, (count, 2)))
    pools = drawing.blobs(rng, places, rng.uniform(0.05, 0.12, count) * layout.unit, roughness=0.35)
    scene.paint(pools, weights=BLOOD, soft=2 * soft, values=[0.7] * count, name=name)


def _myopic_crescent(rng: np.random.Generator, scene: Scene) -> None:
    """Paint bare sclera beside the temporal edge of the disc."""
    layout = scene.layout
    width = rng.uniform(0.3, 0.9)
    centre = layout.pixels(layout.disc - (layout.disc_radius * width * 0.75, 0))
    outline = drawing.blob(rng, centre, layout.disc_radius * (0.9 + 0.2 * width) * layout.unit, roughness=0.06)
    layer, mask, disc = scene.layer(), scene.layer(), scene.layer()
    drawing.fill(layer, outline)
    cv2.fillPoly(mask, [np.floor(outline).astype(np.int32)], (1,))
    disc_x, disc_y = (int(v) for v in np.floor(layout.disc_pixels))
    cv2.circle(disc, (disc_x, disc_y), int(layout.disc_radius * layout.unit), (1,), -1)
    coverage = drawing.soften(layer * (1 - disc), 0.8 + layout.unit / 200)
    scene.density.add(coverage * rng.uniform(0.7, 1.0), (-0.35, -0.6, -1.0))
    scene.mark("peripapillary_atrophy", mask * (1 - disc))


def _myelinated_fibres(rng: np.random.Generator, scene: Scene) -> None:
    """Paint white feathered nerve fibres that leave the disc upwards or downwards."""
    layout = scene.layout
    direction = rng.choice([-1, 1]) * rng.uniform(1.2, 2.0)
    layer = scene.layer()
    angles = direction + rng.normal(0, 0.35, 90)
    starts = layout.disc + 0.95 * layout.disc_radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    for path in drawing.wander(rng, starts, angles, rng.uniform(0.08, 0.4, 90), steps=8, bend=0.06):
        drawing.stroke(layer, layout.pixels(path), max(1, round(0.012 * layout.unit)), int(rng.uniform(60, 240)))
    coverage = drawing.soften(layer, 0.012 * layout.unit)
    scene.density.add(coverage, (-0.3, -0.7, -1.2))
    scene.mark("myelinated_fibres", coverage > 0.3)


def _chorioretinal_scars(rng: np.random.Generator, scene: Scene) -> None:
    """Paint scars with a pale centre and a dark clumped rim."""
    layout, soft = scene.layout, 0.6 + scene.layout.unit / 200
    radii = rng.uniform(0.06, 0.16, rng.integers(1, 4)) * layout.unit
    placed = scene.place(rng, radii, where=lambda points: (points**2).sum(1) > 0.1, gap=6)
    outlines = drawing.blobs(rng, placed[:, :2], placed[:, 2], roughness=0.25)
    scene.paint(outlines, weights=SCAR_RIM, soft=soft, values=[0.8] * len(placed), name="chorioretinal_scars")
    centres = placed[:, None, :2]
    inner = (outlines - centres) * 0.72 + centres
    scene.paint(inner, weights=np.array(ATROPHY) * 1.6 - SCAR_RIM, soft=soft, values=[0.85] * len(placed))


def _other(rng: np.random.Generator, scene: Scene) -> None:
    """Paint one of the findings that ODIR sums up as "other"."""
    _OTHER_FINDINGS[rng.integers(len(_OTHER_FINDINGS))](rng, scene)


_OTHER_FINDINGS = (drusen, _myelinated_fibres, _chorioretinal_scars)


@dataclasses.dataclass(frozen=True)
class AnatomyChanges:
    """How findings change an eye's anatomy.

    Attributes:
        cup: cup-to-disc ratio; None keeps the patient's own.
        tessellation: visibility of the choroidal vessels; None keeps the patient's own.
        narrowing: factor on the width of the arteries.
        nicking: how far veins are pinched where arteries cross them, 0 to 1.
        tilt: factor on the width of the optic disc.
        haze: share of scattered light from a cloudy lens, 0 to 1; applied to the finished retina.
    """

    cup: float | None = None
    tessellation: float | None = None
    narrowing: float = 1.0
    nicking: float = 0.0
    tilt: float = 1.0
    haze: float = 0.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """One finding of ODIR.

    Attributes:
        ranges: {field of `AnatomyChanges`: (low, high)}.
        paint: called once the vessels are painted.
    """

    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    paint: Callable[[np.random.Generator, Scene], None] = _paint_nothing


FINDINGS = {
    "G": Finding({"cup": (0.7, 0.88)}),
    "C": Finding({"haze": (0.3, 0.7)}),
    "A": Finding(paint=_macular_degeneration),
    "H": Finding({"narrowing": (0.5, 0.68), "nicking": (0.8, 0.9)}),
    "M": Finding({"tilt": (0.72, 0.88), "tessellation": (0.75, 1.2)}, _myopic_crescent),
    "O": Finding(paint=_other),
}


def draw_anatomy_changes(rng: np.random.Generator, letters: Iterable[str]) -> AnatomyChanges:
    """Draw the changes of several findings together. No two findings change the same field."""
    ranges = {name: span for letter in letters for name, span in FINDINGS[letter].ranges.items()}
    return AnatomyChanges(**{name: float(rng.uniform(*span)) for name, span in ranges.items()})
