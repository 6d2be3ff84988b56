"""`Explanation`: predictions and maps of a batch, whichever explainer and runtime computed them. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.models.heads.head import Head

POSITIVE = "positive"

Images = np.ndarray | Mapping[str, Any]  # [n, side, side, 3], or a dict for paired eyes


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Predictions and class-activation maps of n examples.

    A map distributes the predicted probability of the target over the image: its mean is that probability. Maps are
    therefore comparable between images, methods and layers: a value of 10 is ten times the uniform map of a prediction
    with a probability of 1. Only positive evidence is shown; if there is none at the layer, the map is 0 everywhere. Of
    paired eyes, the means of both maps add up to the probability. The map of an ensemble is the mean of its members'
    maps.

    Attributes:
        outputs: {output: logits [n, ...]}.
        features: The features [n, width] that the heads take.
        evidence: {target: log-odds or logit [n]}.
        probabilities: {target: predicted probability [n]}, without calibration.
        maps: [n, h, w], not negative; for paired eyes {eye: [n, h, w]}.
    """

    outputs: dict[str, np.ndarray]
    features: np.ndarray
    evidence: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]
    maps: np.ndarray | dict[str, np.ndarray]


def target_index(head: Head, targets: Sequence[str], target: str | int) -> int:
    """Return the index of a target, given by name or class number, in `targets`. The classes come first.

    Args:
        head: The head to explain.
        targets: Names of all targets, as in `head.evidence`.
        target: The target.

    Raises:
        UserError: There is no such target.
    """
    known = {str(i): i for i in range(len(head.classes))}
    known |= {name.replace(" ", ""): i for i, name in enumerate(targets)}
    plain = str(target).replace(" ", "")
    if plain not in known:
        numbers = f"0 to {len(head.classes) - 1}"
        raise UserError(f"unknown target {target!r}; there are {', '.join(targets)}, or a class's number {numbers}")
    return known[plain]
