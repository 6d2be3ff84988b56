"""The finished retina: background, vessels, distractors, findings and lesions, in the order of their depth."""

import dataclasses

import cv2
import numpy as np

from dr_tf.fundus.synthesis import background, distractors, lesions, vessels
from dr_tf.fundus.synthesis.findings import FINDINGS, draw_changes
from dr_tf.fundus.synthesis.scene import Scene, quadrant

ARTERY = (0.08, 0.42, 0.38)
VEIN = (0.2, 0.62, 0.48)
REFLEX = (-0.08, -0.3, -0.22)


def _bead(rng, scene, quadrants):
    """Makes the trunk veins of these quadrants swell and pinch like a string of sausages."""
    inside = [quadrant(index) for index in quadrants]
    mask = scene.layer()
    for place, branch in enumerate(scene.veins):
        if branch.level or branch.widths[0] < 0.02:
            continue
        here = np.any([test(branch.points) for test in inside], axis=0)
        here &= ((branch.points - scene.layout.disc) ** 2).sum(1) > (1.4 * scene.layout.disc_radius) ** 2
        travelled = np.r_[0, np.cumsum(np.linalg.norm(np.diff(branch.points, axis=0), axis=1))]
        swell = 1 + rng.uniform(0.4, 0.6) * np.sin(2 * np.pi * travelled / rng.uniform(0.1, 0.13))
        widths = np.where(here, np.maximum(branch.widths, 0.026) * swell, branch.widths)
        scene.veins[place] = dataclasses.replace(branch, widths=widths)
        for start, end in zip(*_pairs(scene.layout.pixels(branch.points), here), strict=True):
            thickness = max(1, round(0.03 * scene.layout.unit))
            cv2.line(mask, start.astype(int).tolist(), end.astype(int).tolist(), 1, thickness)
    scene.mark("venous_beading", mask)


def _pairs(points, here):
    both = here[:-1] & here[1:]
    return points[:-1][both], points[1:][both]


def _pinch(scene, arteries, veins, nicking):
    """Veins pinched where an artery crosses them, and the mask of those crossings."""
    layout = scene.layout
    near = cv2.dilate(arteries, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(layout.unit / 60) + 1,) * 2))
    x, y = layout.axes(layout.disc)
    off_disc = x * x + y * y > (1.5 * layout.disc_radius) ** 2
    scene.mark("arteriovenous_nicking", (near > 0.55) & (veins > 0.6) & off_disc)
    return veins * (1 - nicking * near * off_disc)


def _paint_vessels(rng, scene, *, nicking):
    """Veins under arteries, each large artery with its central reflex."""
    layout = scene.layout
    veins, arteries = vessels.draw(layout, scene.veins), vessels.draw(layout, scene.arteries)
    reflex = vessels.draw(layout, scene.arteries, scale=0.3, least=layout.unit * 0.011)
    if nicking:
        veins = _pinch(scene, arteries, veins, nicking)
    scene.density.add(veins * (1 - 0.8 * arteries), VEIN)
    scene.density.add(arteries, ARTERY)
    scene.density.add(reflex, np.array(REFLEX) * rng.uniform(0.6, 1.3) * (1 + nicking))


def _paint_lesions(rng, scene, plan):
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
    if plan.boat or plan.cloud:
        lesions.vitreous_haemorrhage(rng, scene, boat=plan.boat, cloud=plan.cloud)


def _veil(rng, scene, light, haze):
    """A cloudy lens: scattered light over a blurred fundus."""
    if haze == 0:
        return light
    scene.mark("media_haze", scene.layout.visible)
    sigma, level = scene.layout.side * (0.002 + 0.006 * haze), rng.uniform(0.75, 1.0)
    blurred = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in light]
    return [plane * (1 - haze) + haze * level * tint for plane, tint in zip(blurred, (1.0, 1.15, 1.3), strict=True)]


def draw(rngs, layout, traits, plan, letters):
    """The retina of a right eye as light (planes, relative to the fundus' own colour), and its scene.

    The generators for anatomy, lesions and findings are apart, so that a grade changes nothing but lesions.
    """
    anatomy_rng, lesion_rng, finding_rng = rngs
    changes = draw_changes(finding_rng, letters)
    if changes.tessellation is not None:
        traits = dataclasses.replace(traits, tessellation=changes.tessellation)
    density = background.paint(anatomy_rng, layout, traits)
    arteries, veins = vessels.grow_pair(anatomy_rng, traits, layout.disc, narrowing=changes.narrowing)
    cup = traits.cup * anatomy_rng.normal(1, 0.05) if changes.cup is None else changes.cup
    hollow = background.paint_disc(anatomy_rng, layout, density, cup=cup, tilt=changes.tilt)
    scene = Scene(layout, traits, density, arteries, veins)
    if changes.cup is not None:
        scene.mark("cupping", hollow > 0.5)
    if plan.beading:
        _bead(lesion_rng, scene, plan.beading)
    _paint_vessels(anatomy_rng, scene, nicking=changes.nicking)
    distractors.paint(anatomy_rng, scene)
    for letter in letters:
        FINDINGS[letter].paint(finding_rng, scene)
    _paint_lesions(lesion_rng, scene, plan)
    return _veil(finding_rng, scene, density.light(), changes.haze), scene
