"""One call gives a case's decision and its maps, of one pass over the same pixels."""

import collections
import dataclasses

import numpy as np

from dr_tf.explain.explainer import POSITIVE
from dr_tf.inference.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Reason:
    """Of one photograph: the evidence of every target, and where in it that of the one asked for lies.

    `map` is one of an Explanation's: `scale.coloured` makes colours of it.
    """

    evidence: dict[str, float]
    map: np.ndarray


class Explaining:
    """A network to a Predictor, as photographs -> (logits, features); keeps the reasons of what it answered, in order."""

    def __init__(self, explainer, target=POSITIVE):
        self._explainer, self._target, self.reasons = explainer, target, collections.deque()

    @property
    def image_size(self):
        return self._explainer.image_size

    @property
    def width(self):
        return self._explainer.width

    @property
    def paired(self):
        return self._explainer.paired

    def __call__(self, x):
        found = self._explainer(x, self._target)
        for i, map in enumerate(found.maps):
            self.reasons.append(Reason({name: float(of[i]) for name, of in found.evidence.items()}, map))
        return found.logits, found.features


def decide_and_explain(predictor, explainer, photographs, target=POSITIVE):
    """Yields (Decision, Reason, or None where the photograph never reached the network), in order.

    Nothing of the predictor or the explainer changes, so others may be using them meanwhile.
    """
    network = Explaining(explainer, target)
    for decision in _answering(predictor, network).decisions(photographs):
        yield decision, _reason(network, decision)


def decide_and_explain_one(predictor, explainer, photograph, target=POSITIVE):
    """(Decision, Reason or None) of one photograph, read in this process."""
    network = Explaining(explainer, target)
    decision = _answering(predictor, network).decide(photograph)
    return decision, _reason(network, decision)


def _answering(predictor, network):
    return Predictor(network, predictor.rule, predictor.preparation, predictor.cloud, edema=predictor.edema)


def _reason(network, decision):
    return None if decision.geometry is None else network.reasons.popleft()
