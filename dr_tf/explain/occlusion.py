"""Occlusion: how much evidence a network loses where a patch of the photograph is blurred. No TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

_CELLS, _PATCH = 16, 2  # cells along a side of the image, and along a side of the patch


def occlusion(
    images: np.ndarray,
    blurred: np.ndarray,
    score: Callable[[np.ndarray], Any],
    *,
    cells: int = _CELLS,
    patch: int = _PATCH,
) -> np.ndarray:
    """Compute how much evidence is lost where a square patch is blurred (Zeiler and Fergus, ECCV 2014).

    The patch moves by one cell at a time. A cell has the mean loss of all patches that cover it.

    Args:
        images: The images.
        blurred: The images without evidence.
        score: Computes the evidence of images.
        cells: Cells along a side of the image: the size of the map.
        patch: Cells along a side of the patch.
    """
    images, blurred = np.asarray(images), np.asarray(blurred)
    cells = min(cells, images.shape[1])
    edges = np.linspace(0, images.shape[1], cells + 1).round().astype(int)
    losses, covers, before = np.zeros((len(images), cells, cells)), np.zeros((cells, cells)), score(images)
    for place in itertools.product(range(cells - patch + 1), repeat=2):
        pixels = (slice(None), *(slice(edges[i], edges[i + patch]) for i in place))
        covered = tuple(slice(i, i + patch) for i in place)
        covers[covered] += 1
        if np.array_equal(images[pixels], blurred[pixels]):  # outside the retina
            continue
        occluded = images.copy()
        occluded[pixels] = blurred[pixels]
        losses[:, *covered] += np.reshape(before - score(occluded), (-1, 1, 1))
    return (losses / covers).astype(np.float32)
