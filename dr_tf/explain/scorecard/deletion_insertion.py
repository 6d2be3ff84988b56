"""Deletion and insertion (Petsiuk et al., BMVC 2018): how the prediction changes with the pixels a map ranks highest.

Deletion blurs these pixels first, insertion restores them first in a blurred image. A strong blur is used instead of
black, as a black region would be an abnormality of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.explain.blurring import blur, retina_mask

_STEPS = 10

ByEye = Mapping[str | None, np.ndarray]


def deletion_and_insertion_images(
    images: ByEye, maps: ByEye, *, steps: int = _STEPS, seed: int = 0
) -> tuple[dict[str | None, np.ndarray], dict[str | None, np.ndarray]]:
    """Build the images of all steps of deletion and insertion, for one example.

    The pixels of both eyes are ranked together.

    Args:
        images: {eye: uint8 RGB [h, w, 3]}.
        maps: {eye: map [h, w]}.
        steps: Number of steps; each changes an equal share of the retina.
        seed: Seed for the order of pixels with equal values.

    Returns:
        (deletion, insertion), each {eye: [steps + 1, h, w, 3]}.
    """
    blurred = {eye: blur(image) for eye, image in images.items()}
    ranks = _ranks(maps, {eye: retina_mask(image) for eye, image in images.items()}, seed)
    shares = np.linspace(0, 1, steps + 1)
    return _replace_by_rank(images, blurred, ranks, shares), _replace_by_rank(blurred, images, ranks, shares)


def _replace_by_rank(before, after, ranks, shares):
    return {
        eye: np.stack([np.where((rank < share)[..., None], after[eye], before[eye]) for share in shares])
        for eye, rank in ranks.items()
    }


def _ranks(maps, retinas, seed):
    """{eye: ranks [h, w]}: from 0 for the highest map value to just below 1; 1 outside the retina. Ties are random."""
    values = np.concatenate([maps[eye][retina] for eye, retina in retinas.items()])
    order = np.lexsort((np.random.default_rng(seed).random(len(values)), -values))
    rank_of = np.empty(len(values))
    rank_of[order] = np.arange(len(values)) / max(len(values), 1)
    ends = np.cumsum([np.count_nonzero(retina) for retina in retinas.values()])
    ranks = {eye: np.ones(retina.shape) for eye, retina in retinas.items()}
    for (eye, retina), of_eye in zip(retinas.items(), np.split(rank_of, ends[:-1]), strict=True):
        ranks[eye][retina] = of_eye
    return ranks


def area_under_curve(probabilities: ArrayLike) -> float:
    """Compute the area under a curve of probabilities at evenly spaced shares from 0 to 1."""
    probabilities = np.asarray(probabilities)
    return float(np.trapezoid(probabilities, dx=1 / (len(probabilities) - 1)))
