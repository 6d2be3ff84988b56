"""One call gives a case's decision and its maps, of one pass over the same pixels."""

import collections
import dataclasses

import numpy as np

from dr_tf.explain.explainer import POSITIVE
from dr_tf.inference.case import SINGLE
from dr_tf.inference.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class CaseExplanation:
    """Of one case: the evidence of every target, and where in its photographs that of the one requested for lies.

    `maps`, {eye: map}, are those of an Explanation: `scale.coloured` makes colours of them.
    """

    evidence: dict[str, float]
    maps: dict[str, np.ndarray]


class ExplainingNetwork:
    """A network to a Predictor, as photographs -> ({output: logits}, features); keeps the reasons of what it scored, in order.

    A mode that averages looks `looks` times at a batch; the first look, at the photographs as they are, is explain_crops.
    """

    def __init__(self, network, explainer, target=POSITIVE, looks=1):
        self._network, self._explainer, self._target, self.reasons = network, explainer, target, collections.deque()
        self._looks, self._look = looks, 0

    def __getattr__(self, name):
        return getattr(self._network, name)

    def __call__(self, images):
        first, self._look = self._look == 0, (self._look + 1) % self._looks
        if not first:
            return self._network(images)
        found = self._explainer(images, self._target)
        maps = found.maps if isinstance(found.maps, dict) else {SINGLE: found.maps}
        for i in range(len(found.features)):
            evidence = {name: float(of[i]) for name, of in found.evidence.items()}
            self.reasons.append(CaseExplanation(evidence, {eye: of[i] for eye, of in maps.items()}))
        # A network in half precision, or with layers whose gradient is not safe, is explain_crops by a copy, whose answers differ
        # in their last digits.
        return (found.outputs, found.features) if self._explainer.exact else self._network(images)


def decide_and_explain(predictor, explainer, cases, target=POSITIVE):
    """Yields (case, Decision, CaseExplanation, or None where the case never reached the network), in order.

    Nothing of the predictor or the explainer changes, so others may be using them meanwhile.
    """
    network, answering = _answering(predictor, explainer, target)
    for case, found, decision in answering.decided(cases):
        yield case, decision, _reason(network, found)


def decide_and_explain_one(predictor, explainer, case, target=POSITIVE):
    """(Decision, CaseExplanation or None) of one case. May be called from any thread."""
    network, answering = _answering(predictor, explainer, target)
    _, found, decision = answering.decided_one(case)
    return decision, _reason(network, found)


def _answering(predictor, explainer, target):
    network = ExplainingNetwork(predictor.run.network, explainer, target, looks=predictor.requested.views)
    run = dataclasses.replace(predictor.run, network=network)
    return network, Predictor(run, mode=predictor.mode, neighbours=predictor.neighbours)


def _reason(network, found):
    return network.reasons.popleft() if any(one.pixels is not None for one in found.values()) else None
