"""What the network says as the map's strongest places are taken away, or come back first (Petsiuk et al., BMVC 2018).

What is taken away becomes a heavy blur of itself: a black hole would be a sign of its own.
"""

import numpy as np

from dr_tf.explain.scorecard.baselines import inside_blur, retina

_STEPS = 10
_BLUR = 1 / 12  # of the side: no lesion is left


def blurred(photograph):
    side = photograph.shape[0]
    smooth = inside_blur(photograph.astype(np.float32), retina(photograph), side * _BLUR)
    return np.where(retina(photograph)[..., None], smooth + 0.5, photograph).astype(np.uint8)


def mixtures(photographs, maps, *, steps=_STEPS, seed=0):
    """(deletion, insertion), each {eye: [steps + 1, h, w, 3]}: as every step changes one share more of the retina.

    `photographs` and `maps` are {eye: its own} of one example. The strongest places of both eyes are changed first,
    whichever eye they lie in.
    """
    away = {eye: blurred(photograph) for eye, photograph in photographs.items()}
    ranks = _ranks(maps, {eye: retina(photograph) for eye, photograph in photographs.items()}, seed)
    shares = np.linspace(0, 1, steps + 1)
    return _mixed(photographs, away, ranks, shares), _mixed(away, photographs, ranks, shares)


def _mixed(first, last, ranks, shares):
    return {
        eye: np.stack([np.where((rank < share)[..., None], last[eye], first[eye]) for share in shares])
        for eye, rank in ranks.items()
    }


def _ranks(maps, fields, seed):
    """Of each place in the retinas 0 for the strongest up to just below 1; 1 elsewhere. Equal ones come in any order."""
    values = np.concatenate([maps[eye][field] for eye, field in fields.items()])
    order = np.lexsort((np.random.default_rng(seed).random(len(values)), -values))
    inside = np.empty(len(values))
    inside[order] = np.arange(len(values)) / max(len(values), 1)
    ends = np.cumsum([np.count_nonzero(field) for field in fields.values()])
    ranks = {eye: np.ones(field.shape) for eye, field in fields.items()}
    for (eye, field), own in zip(fields.items(), np.split(inside, ends[:-1]), strict=True):
        ranks[eye][field] = own
    return ranks


def area(probabilities):
    """Below a curve over evenly spaced shares, 0 to 1."""
    return float(np.trapezoid(probabilities, dx=1 / (len(probabilities) - 1)))
