"""Which lesions an eye of a given ICDR grade has (Wilkinson et al., Ophthalmology 2003)."""

import dataclasses

import numpy as np

# Severe NPDR begins above this many haemorrhages in each quadrant; below, no quadrant may come near it.
SEVERE_COUNT = 20
_MODERATE_MOST = 15


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to paint. Haemorrhages are counted per quadrant around the fovea; beading names quadrants."""

    microaneurysms: int = 0
    haemorrhages: tuple[int, int, int, int] = (0, 0, 0, 0)
    exudate_clusters: int = 0
    exudates_near: bool = False
    cotton_wool_spots: int = 0
    beading: tuple[int, ...] = ()
    irma: int = 0
    on_disc: bool = False
    elsewhere: int = 0
    boat: bool = False
    cloud: bool = False


def _background(rng, *, load, must=False):
    """Lesions that mild to proliferative disease share, more of them with `load`."""
    counts = np.minimum(rng.poisson(load * rng.gamma(2, 0.5, 4)), _MODERATE_MOST)
    clusters = int(rng.poisson(1.0 + 0.12 * load)) if rng.random() < 0.75 else 0
    wool = int(rng.integers(1, 5)) if rng.random() < 0.15 + 0.02 * load else 0
    if must and not (counts.any() or clusters or wool):
        counts[rng.integers(4)] = 2
    return {
        "microaneurysms": int(rng.integers(4, 12) + load),
        "haemorrhages": tuple(int(count) for count in counts),
        "exudate_clusters": clusters,
        "exudates_near": bool(clusters and rng.random() < 0.6),
        "cotton_wool_spots": wool,
    }


def _none(rng):
    return Plan()


def _mild(rng):
    return Plan(microaneurysms=int(rng.integers(2, 12)))


def _moderate(rng):
    return Plan(**_background(rng, load=rng.uniform(0.8, 6), must=True))


def _severe(rng):
    """The 4-2-1 rule: at least one of its three signs, often several."""
    signs = rng.random(3) < (0.7, 0.4, 0.4)
    signs[rng.integers(3)] |= not signs.any()
    lesions = _background(rng, load=rng.uniform(4, 11), must=True)
    if signs[0]:
        lesions["haemorrhages"] = tuple(int(n) for n in rng.integers(SEVERE_COUNT + 4, SEVERE_COUNT + 13, 4))
    quadrants = tuple(int(i) for i in rng.choice(4, rng.integers(3, 5), replace=False)) if signs[1] else ()
    return Plan(**lesions, beading=quadrants, irma=int(rng.integers(2, 6)) if signs[2] else 0)


def _proliferative(rng):
    vessels, blood = rng.random(2) < (0.85, 0.5)
    vessels |= not blood
    on_disc = vessels and rng.random() < 0.5
    elsewhere = int(rng.integers(0 if on_disc else 1, 4)) if vessels else 0
    boat = blood and rng.random() < 0.45
    return Plan(
        **_background(rng, load=rng.uniform(2, 11)),
        on_disc=bool(on_disc),
        elsewhere=elsewhere,
        boat=bool(boat),
        cloud=bool(blood and (not boat or rng.random() < 0.5)),
    )


PLANS = (_none, _mild, _moderate, _severe, _proliferative)
