"""Paint a whole retina in the order of depth: background, vessels, normal variants, findings and lesions."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from dr_tf.fundus.synthesis import background, lesions, normal_variants, vessels
from dr_tf.fundus.synthesis.anatomy import Layout, Traits
from dr_tf.fundus.synthesis.findings import FINDINGS, draw_anatomy_changes
from dr_tf.fundus.synthesis.grading import LesionPlan
from dr_tf.fundus.synthesis.scene import Scene, quadrant

# Optical density in red, green, blue.
ARTERY = (0.08, 0.42, 0.38)
VEIN = (0.2, 0.62, 0.48)
ARTERIAL_REFLEX = (-0.08, -0.3, -0.22)


def _add_venous_beading(rng: np.random.Generator, scene: Scene, quadrants: Sequence[int]) -> None:
    """Make the trunk veins of these quadrants swell and narrow like a string of beads."""
    is_in_quadrant = [quadrant(index) for index in quadrants]
    mask = scene.layer()
    for index, branch in enumerate(scene.veins):
        if branch.level or branch.widths[0] < 0.02:
            continue
        is_beaded = np.any([test(branch.points) for test in is_in_quadrant], axis=0)
        is_beaded &= ((branch.points - scene.layout.disc) ** 2).sum(1) > (1.4 * scene.layout.disc_radius) ** 2
        distance = np.r_[0, np.cumsum(np.linalg.norm(np.diff(branch.points, axis=0), axis=1))]
        swelling = 1 + rng.uniform(0.4, 0.6) * np.sin(2 * np.pi * distance / rng.uniform(0.1, 0.13))
        widths = np.where(is_beaded, np.maximum(branch.widths, 0.026) * swelling, branch.widths)
        scene.veins[index] = dataclasses.replace(branch, widths=widths)
        for start, end in zip(*_segments(scene.layout.pixels(branch.points), is_beaded), strict=True):
            thickness = max(1, round(0.03 * scene.layout.unit))
            cv2.line(mask, start.astype(int).tolist(), end.astype(int).tolist(), (1,), thickness)
    scene.mark("venous_beading", mask)


def _segments(points: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of the segments between two chosen points that follow each other."""
    both = chosen[:-1] & chosen[1:]
    return points[:-1][both], points[1:][both]


def _nick_veins(scene: Scene, arteries: np.ndarray, veins: np.ndarray, nicking: float) -> np.ndarray:
    """Return the veins' coverage, pinched where an artery crosses, and mark the crossings."""
    layout = scene.layout
    near_artery = cv2.dilate(
        arteries, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(layout.unit / 60) + 1,) * 2)
    )
    x, y = layout.axes(layout.disc)
    off_disc = x * x + y * y > (1.5 * layout.disc_radius) ** 2
    scene.mark("arteriovenous_nicking", (near_artery > 0.55) & (veins > 0.6) & off_disc)
    return veins * (1 - nicking * near_artery * off_disc)


def _paint_vessels(rng: np.random.Generator, scene: Scene, *, nicking: float) -> None:
    """Paint veins below arteries, and the light reflex along each large artery."""
    layout = scene.layout
    veins, arteries = vessels.draw(layout, scene.veins), vessels.draw(layout, scene.arteries)
    reflex = vessels.draw(layout, scene.arteries, scale=0.3, least=layout.unit * 0.011)
    if nicking:
        veins = _nick_veins(scene, arteries, veins, nicking)
    scene.density.add(veins * (1 - 0.8 * arteries), VEIN)
    scene.density.add(arteries, ARTERY)
    scene.density.add(reflex, np.array(ARTERIAL_REFLEX) * rng.uniform(0.6, 1.3) * (1 + nicking))


def _paint_lesions(rng: np.random.Generator, scene: Scene, plan: LesionPlan) -> None:
    if plan.microaneurysms:
        lesions.microaneurysms(rng, scene, plan.microaneurysms)
    if any(plan.haemorrhages):
        lesions.haemorrhages(rng, scene, plan.haemorrhages)
    if plan.cotton_wool_spots:
        lesions.cotton_wool_spots(rng, scene, plan.cotton_wool_spots)
    if plan.exudate_clusters:
        lesions.hard_exudates(rng, scene, near=plan.exudates_near, clusters=plan.exudate_clusters)
    if plan.irma:
        lesions.irma(rng, scene, plan.irma)
    if plan.on_disc or plan.elsewhere:
        lesions.new_vessels(rng, scene, on_disc=plan.on_disc, elsewhere=plan.elsewhere)
    if plan.preretinal or plan.cloud:
        lesions.vitreous_haemorrhage(rng, scene, preretinal=plan.preretinal, cloud=plan.cloud)


def _apply_haze(rng: np.random.Generator, scene: Scene, light: list[np.ndarray], haze: float) -> list[np.ndarray]:
    """Return the light through a cloudy lens: scattered light over a blurred fundus."""
    if haze == 0:
        return light
    scene.mark("media_haze", scene.layout.visible)
    sigma, level = scene.layout.side * (0.002 + 0.006 * haze), rng.uniform(0.75, 1.0)
    blurred = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in light]
    return [plane * (1 - haze) + haze * level * tint for plane, tint in zip(blurred, (1.0, 1.15, 1.3), strict=True)]


def paint(
    rngs: tuple[np.random.Generator, np.random.Generator, np.random.Generator],
    layout: Layout,
    traits: Traits,
    plan: LesionPlan,
    letters: Sequence[str],
) -> tuple[list[np.ndarray], Scene]:
    """Paint the retina of a right eye.

    Args:
        rngs: generators for anatomy, lesions and findings: separate, so that another grade changes nothing but lesions.
        layout: geometry of the eye.
        traits: of the patient.
        plan: the lesions of diabetic retinopathy.
        letters: the findings, as in `FINDINGS`.

    Returns:
        (red, green and blue planes of the reflected light relative to the fundus' own colour, the scene).
    """
    anatomy_rng, lesion_rng, finding_rng = rngs
    changes = draw_anatomy_changes(finding_rng, letters)
    if changes.tessellation is not None:
        traits = dataclasses.replace(traits, tessellation=changes.tessellation)
    density = background.paint(anatomy_rng, layout, traits)
    arteries, veins = vessels.grow_pair(anatomy_rng, traits, layout.disc, narrowing=changes.narrowing)
    cup = traits.cup * anatomy_rng.normal(1, 0.05) if changes.cup is None else changes.cup
    cup_coverage = background.paint_disc(anatomy_rng, layout, density, cup=cup, tilt=changes.tilt)
    scene = Scene(layout, traits, density, arteries, veins)
    if changes.cup is not None:
        scene.mark("cupping", cup_coverage > 0.5)
    if plan.beading:
        _add_venous_beading(lesion_rng, scene, plan.beading)
    _paint_vessels(anatomy_rng, scene, nicking=changes.nicking)
    normal_variants.paint(anatomy_rng, scene)
    for letter in letters:
        FINDINGS[letter].paint(finding_rng, scene)
    _paint_lesions(lesion_rng, scene, plan)
    return _apply_haze(finding_rng, scene, density.light(), changes.haze), scene
