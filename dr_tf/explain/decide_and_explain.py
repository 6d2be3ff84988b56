"""Decide on cases and explain them in one pass over the same pixels."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf.explain.explanation import POSITIVE
from dr_tf.inference.case import SINGLE, Case, ImageSource
from dr_tf.inference.decision import Decision
from dr_tf.inference.network import ImageBatch, Network
from dr_tf.inference.predictor import Predictor

if TYPE_CHECKING:
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.export_explainer import ExportExplainer


@dataclasses.dataclass(frozen=True)
class CaseExplanation:
    """The explanation of one case.

    Attributes:
        evidence: {target: log-odds or logit}.
        maps: {eye: class-activation map [h, w] of the requested target}, as in `Explanation`. `colour_scale.scale_maps`
            converts maps to colours.
        features: The features [width] that the heads take.
    """

    evidence: dict[str, float]
    maps: dict[str, np.ndarray]
    features: np.ndarray


class ExplainingNetwork:
    """Wraps the network of a Predictor and collects the explanation of each case that it predicts.

    Args:
        network: The network.
        explainer: An explainer of the same network.
        target: The target to explain.
        passes: How many times the Predictor runs the network for each batch, for augmented views and single eyes. Only the
            first time, on the original images, is explained.

    Attributes:
        explanations: The CaseExplanation of each case, in order.
    """

    def __init__(
        self, network: Network, explainer: Explainer | ExportExplainer, target: str | int = POSITIVE, passes: int = 1
    ):
        self._network, self._explainer, self._target = network, explainer, target
        self._passes, self._pass = passes, 0
        self.explanations: collections.deque[CaseExplanation] = collections.deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, images: ImageBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Predict a batch, as the network does: ({output: logits}, features)."""
        is_original, self._pass = self._pass == 0, (self._pass + 1) % self._passes
        if not is_original:
            return self._network(images)
        batch = self._explainer(images, self._target)
        maps = batch.maps if isinstance(batch.maps, dict) else {SINGLE: batch.maps}
        for i in range(len(batch.features)):
            evidence = {name: float(values[i]) for name, values in batch.evidence.items()}
            self.explanations.append(
                CaseExplanation(evidence, {eye: values[i] for eye, values in maps.items()}, batch.features[i])
            )
        # For a network in half precision, or with unsafe gradients, the explainer runs a copy, whose outputs differ in
        # the last digits.
        return (batch.outputs, batch.features) if self._explainer.outputs_are_exact else self._network(images)


def decide_and_explain(
    predictor: Predictor,
    explainer: Explainer | ExportExplainer,
    cases: Iterable[Case | ImageSource],
    target: str | int = POSITIVE,
) -> Iterator[tuple[Case, Decision, CaseExplanation | None]]:
    """Decide on cases and explain a target.

    Neither the predictor nor the explainer changes, so other threads can use them meanwhile.

    Args:
        predictor: The predictor.
        explainer: An explainer of the predictor's network.
        cases: The cases.
        target: The target to explain.

    Yields:
        (case, its decision, its explanation or None if the case had no usable image), in order.
    """
    network, explaining = _explaining_predictor(predictor, explainer, target)
    for decided in explaining.decisions_with_images(cases):
        yield decided.case, decided.decision, _next_explanation(network, decided)


def decide_and_explain_one(
    predictor: Predictor, explainer: Explainer | ExportExplainer, case: Case | ImageSource, target: str | int = POSITIVE
) -> tuple[Decision, CaseExplanation | None]:
    """Decide on one case and explain a target. May be called from any thread.

    Returns:
        (decision, explanation or None if the case had no usable image).
    """
    network, explaining = _explaining_predictor(predictor, explainer, target)
    decided = explaining.decide_with_images(case)
    return decided.decision, _next_explanation(network, decided)


def _explaining_predictor(predictor, explainer, target):
    network = ExplainingNetwork(predictor.run.network, explainer, target, passes=predictor.requested_modes.passes)
    run = dataclasses.replace(predictor.run, network=network)
    return network, Predictor(run, mode=predictor.mode, neighbours=predictor.neighbours)


def _next_explanation(network, decided):
    return None if decided.features is None else network.explanations.popleft()
