"""The risk of macular edema, by what a run's second output learned: from the features that its grades are read from.

Kept apart from `model.keras`, whose one output decides; the risk decides nothing, and its probabilities are uncalibrated.
"""

import dataclasses

import numpy as np

from dr_tf.grades import DME_RISKS
from dr_tf.models.heads import edema


@dataclasses.dataclass(frozen=True)
class Edema:
    kernel: np.ndarray  # [features, risks]
    bias: np.ndarray  # [risks]

    def __post_init__(self):
        shapes = self.kernel.shape[1:], self.bias.shape
        if shapes != ((edema.RISKS,), (edema.RISKS,)) or {self.kernel.dtype.kind, self.bias.dtype.kind} != {"f"}:
            raise ValueError("its arrays are not those of a layer that tells the risk of macular edema")
        if not (np.isfinite(self.kernel).all() and np.isfinite(self.bias).all()):
            raise ValueError("it holds what is no number")

    @classmethod
    def of_model(cls, model):
        """What was trained beside the grades; None where nothing was."""
        layer = next((layer for layer in model.layers if layer.name == edema.LAYER), None)
        return layer and cls(*layer.get_weights())

    def logits(self, features):
        return np.asarray(features, np.float32) @ self.kernel + self.bias

    def risks(self, features):
        """The likeliest: a number in `grades.DME_RISKS` for each."""
        return self.logits(features).argmax(axis=-1)

    def beside(self, decisions, features):
        """The decisions, telling the risk where they tell a photograph gradable."""
        logits = self.logits(features).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        each = zip(decisions, odds / odds.sum(axis=-1, keepdims=True), strict=True)
        return [_telling(decision, probabilities) for decision, probabilities in each]


def _telling(decision, probabilities):
    if not decision.gradable:
        return not_told(decision)
    shares = dict(zip(DME_RISKS, probabilities.tolist(), strict=True))
    return dataclasses.replace(decision, dme=int(probabilities.argmax()), dme_probabilities=shares)


def not_told(decision):
    """By a run that does tell the risk of other photographs."""
    return dataclasses.replace(decision, dme_probabilities={})
