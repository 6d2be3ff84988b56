"""Draw which lesions an eye of a given ICDR grade has (Wilkinson et al., Ophthalmology 2003)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

# Severe NPDR has more than this many haemorrhages in each quadrant. Below severe, no quadrant may come near it.
SEVERE_COUNT = 20
_MODERATE_MAX_COUNT = 15


@dataclasses.dataclass(frozen=True)
class LesionPlan:
    """The lesions to paint.

    Attributes:
        microaneurysms: their number.
        haemorrhages: their number in each quadrant around the fovea, in the order of `scene.quadrant`.
        exudate_clusters: number of clusters of hard exudates.
        exudates_near: whether some lie within a disc diameter of the fovea.
        cotton_wool_spots: their number.
        beading: the quadrants with venous beading.
        irma: number of intraretinal microvascular abnormalities.
        on_disc: whether there are new vessels on the disc (NVD).
        elsewhere: number of new vessels elsewhere (NVE).
        preretinal: whether there is preretinal blood.
        cloud: whether there is blood in the vitreous.
    """

    microaneurysms: int = 0
    haemorrhages: tuple[int, ...] = (0, 0, 0, 0)
    exudate_clusters: int = 0
    exudates_near: bool = False
    cotton_wool_spots: int = 0
    beading: tuple[int, ...] = ()
    irma: int = 0
    on_disc: bool = False
    elsewhere: int = 0
    preretinal: bool = False
    cloud: bool = False


def _common_lesions(rng: np.random.Generator, *, load: float, at_least_one: bool = False) -> dict[str, Any]:
    """Return the lesions that moderate to proliferative disease share, as fields of `LesionPlan`.

    Args:
        rng: the random generator.
        load: how many there are.
        at_least_one: whether there must be a lesion besides microaneurysms.
    """
    counts = np.minimum(rng.poisson(load * rng.gamma(2, 0.5, 4)), _MODERATE_MAX_COUNT)
    clusters = int(rng.poisson(1.0 + 0.12 * load)) if rng.random() < 0.75 else 0
    cotton_wool_spots = int(rng.integers(1, 5)) if rng.random() < 0.15 + 0.02 * load else 0
    if at_least_one and not (counts.any() or clusters or cotton_wool_spots):
        counts[rng.integers(4)] = 2
    return {
        "microaneurysms": int(rng.integers(4, 12) + load),
        "haemorrhages": tuple(int(count) for count in counts),
        "exudate_clusters": clusters,
        "exudates_near": bool(clusters and rng.random() < 0.6),
        "cotton_wool_spots": cotton_wool_spots,
    }


def _no_dr(rng: np.random.Generator) -> LesionPlan:
    return LesionPlan()


def _mild(rng: np.random.Generator) -> LesionPlan:
    return LesionPlan(microaneurysms=int(rng.integers(2, 12)))


def _moderate(rng: np.random.Generator) -> LesionPlan:
    return LesionPlan(**_common_lesions(rng, load=rng.uniform(0.8, 6), at_least_one=True))


def _severe(rng: np.random.Generator) -> LesionPlan:
    """Draw by the 4-2-1 rule: at least one of its three signs, often several.

    The signs are haemorrhages in four quadrants, venous beading in at least two, and IRMA.
    """
    signs = rng.random(3) < (0.7, 0.4, 0.4)
    signs[rng.integers(3)] |= not signs.any()
    lesions = _common_lesions(rng, load=rng.uniform(4, 11), at_least_one=True)
    if signs[0]:
        lesions["haemorrhages"] = tuple(int(n) for n in rng.integers(SEVERE_COUNT + 4, SEVERE_COUNT + 13, 4))
    quadrants = tuple(int(i) for i in rng.choice(4, rng.integers(3, 5), replace=False)) if signs[1] else ()
    return LesionPlan(**lesions, beading=quadrants, irma=int(rng.integers(2, 6)) if signs[2] else 0)


def _proliferative(rng: np.random.Generator) -> LesionPlan:
    has_vessels, has_blood = rng.random(2) < (0.85, 0.5)
    has_vessels |= not has_blood
    on_disc = has_vessels and rng.random() < 0.5
    elsewhere = int(rng.integers(0 if on_disc else 1, 4)) if has_vessels else 0
    preretinal = has_blood and rng.random() < 0.45
    return LesionPlan(
        **_common_lesions(rng, load=rng.uniform(2, 11)),
        on_disc=bool(on_disc),
        elsewhere=elsewhere,
        preretinal=bool(preretinal),
        cloud=bool(has_blood and (not preretinal or rng.random() < 0.5)),
    )


# By grade: a function that draws the lesions.
LESION_PLANS: tuple[Callable[[np.random.Generator], LesionPlan], ...] = (
    _no_dr,
    _mild,
    _moderate,
    _severe,
    _proliferative,
)
