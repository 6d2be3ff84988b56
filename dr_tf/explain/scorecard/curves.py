"""What the network says as the map's strongest places are taken away, or come back first (Petsiuk et al., BMVC 2018).

What is taken away becomes a heavy blur of itself: a black hole would be a sign of its own.
"""

import numpy as np

from dr_tf.explain.scorecard.floors import inside_blur, retina

_STEPS = 10
_BLUR = 1 / 12  # of the side: no lesion is left


def blurred(photograph):
    side = photograph.shape[0]
    smooth = inside_blur(photograph.astype(np.float32), retina(photograph), side * _BLUR)
    return np.where(retina(photograph)[..., None], smooth + 0.5, photograph).astype(np.uint8)


def mixtures(photograph, map, *, steps=_STEPS, seed=0):
    """(deletion, insertion), each [steps + 1, h, w, 3]: as every step changes one share more of the retina."""
    away = blurred(photograph)
    rank = _ranks(map, retina(photograph), seed)
    taken = [(rank < share)[..., None] for share in np.linspace(0, 1, steps + 1)]
    return (
        np.stack([np.where(these, away, photograph) for these in taken]),
        np.stack([np.where(these, photograph, away) for these in taken]),
    )


def _ranks(map, field, seed):
    """Of each place in the retina 0 for the strongest up to just below 1; 1 elsewhere. Equal ones come in any order."""
    values = map[field]
    order = np.lexsort((np.random.default_rng(seed).random(len(values)), -values))
    ranks = np.ones(map.shape)
    inside = np.empty(len(values))
    inside[order] = np.arange(len(values)) / max(len(values), 1)
    ranks[field] = inside
    return ranks


def area(probabilities):
    """Below a curve over evenly spaced shares, 0 to 1."""
    return float(np.trapezoid(probabilities, dx=1 / (len(probabilities) - 1)))
