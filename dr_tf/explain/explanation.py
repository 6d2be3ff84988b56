"""`Explanation`: predictions and maps of a batch, whichever explainer and runtime computed them. No TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.models.heads.head import Head

POSITIVE = "positive"

_MIN_PROBABILITY = 1e-12  # so that a map keeps its shape even if the predicted probability is 0

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


class BaseExplainer:
    """Base of explainers: the targets of a head, and the `Explanation` of what a method computed.

    Attributes:
        head: The head to explain.
        targets: Names of the targets, as in `head.evidence`: classes, "grade >= k", and "positive".
    """

    head: Head
    targets: tuple[str, ...]

    def target_index(self, target: str | int) -> int:
        """Return the index of a target, given by name or class number, in `targets`. The classes come first.

        Raises:
            UserError: There is no such target.
        """
        known = {str(i): i for i in range(len(self.head.classes))}
        known |= {name.replace(" ", ""): i for i, name in enumerate(self.targets)}
        plain = str(target).replace(" ", "")
        if plain not in known:
            numbers = f"0 to {len(self.head.classes) - 1}"
            raise UserError(
                f"unknown target {target!r}; there are {', '.join(self.targets)}, or a class's number {numbers}"
            )
        return known[plain]

    def target_indices(self, target: str | int | Sequence[str | int], n: int) -> np.ndarray:
        """Return the index of each of n examples' target, int32 [n]; `target` is one for all, or one per example."""
        targets = [target] * n if isinstance(target, (str, int)) else target
        return np.array([self.target_index(one) for one in targets], np.int32)

    def explanation(
        self,
        outputs: dict[str, np.ndarray],
        features: np.ndarray,
        evidence: np.ndarray,
        maps: Mapping[str | None, np.ndarray],
        indices: np.ndarray,
    ) -> Explanation:
        """Build the Explanation of a batch.

        Args:
            outputs: {output: logits [n, ...]}.
            features: [n, width].
            evidence: [n, targets].
            maps: {eye: maps [n, h, w]}, on any scale; the eye of single images is None.
            indices: The target of each example, [n].
        """
        p = self._probabilities(np.asarray(evidence, np.float64))
        amounts = np.maximum(p[np.arange(len(p)), indices], _MIN_PROBABILITY)
        scaled: Any = _scaled_to(maps, amounts)
        return Explanation(outputs, features, self._by_target(evidence), self._by_target(p), scaled.get(None, scaled))

    def _probabilities(self, evidence):
        """Evidence is log-odds, except for more than two exclusive classes, where it is the logits of a softmax."""
        n, p = len(self.head.classes), 0.5 * (1 + np.tanh(0.5 * evidence))
        if not self.head.exclusive or n == 2:
            return p
        odds = np.exp(evidence[:, :n] - evidence[:, :n].max(axis=1, keepdims=True))
        return np.concatenate([odds / odds.sum(axis=1, keepdims=True), p[:, n:]], axis=1)

    def _by_target(self, values):
        return dict(zip(self.targets, values.T, strict=True))


def _scaled_to(maps, amounts):
    """Set negative values to 0, and scale {eye: maps} so that the means of an example's maps add up to its amount."""
    positive = {eye: np.maximum(values, 0) for eye, values in maps.items()}
    means = np.sum([values.mean(axis=(1, 2)) for values in positive.values()], axis=0, dtype=np.float64)
    factors = np.divide(amounts, means, out=np.zeros_like(amounts), where=means > 0)
    return {eye: (values * factors[:, None, None]).astype(np.float32) for eye, values in positive.items()}
