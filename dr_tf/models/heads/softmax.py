"""The five ICDR grades as classes."""

import dataclasses
from typing import ClassVar

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, GRADES, POSITIVE_DEFINITIONS
from dr_tf.models.heads import edema
from dr_tf.models.heads.head import Head, labels_of, positives


@dataclasses.dataclass(frozen=True)
class Softmax(Head):
    label_smoothing: float = 0.0
    focal_gamma: float | None = None  # Lin et al. 2017; None is plain cross-entropy
    dme_weight: float = 0.0  # of the loss of a second output in training, for the risk of macular edema; 0: none

    name: ClassVar[str] = "softmax"
    calibration: ClassVar[str] = "softmax"
    monitor: ClassVar[tuple[str, str]] = ("val_quadratic_kappa", "max")
    classes: ClassVar[tuple[str, ...]] = GRADES
    outputs: ClassVar[int] = len(GRADES)

    def __post_init__(self):
        super().__post_init__()
        if ABSENT in _of_grades(self.positive):
            told = ", ".join(name for name in POSITIVE_DEFINITIONS if ABSENT not in _of_grades(name))
            raise UserError(f"a grade alone does not tell {self.positive!r}; the softmax head can tell {told}")
        if not 0 <= self.dme_weight < np.inf:
            raise UserError(f"softmax.dme_weight is 0 or a positive number, not {self.dme_weight}")

    def logits(self, features):
        grades = super().logits(features)
        return edema.beside(grades, features) if self.dme_weight else grades

    def usable(self, columns):
        return self.strata(columns) != ABSENT

    def strata(self, columns):
        return labels_of(columns)[:, 0]

    def targets(self, columns):
        grades = (self.strata(columns)[:, None] == np.arange(self.outputs)).astype(np.float32)
        return np.concatenate([grades, edema.targets(columns)], axis=1) if self.dme_weight else grades

    def name_of(self, target):
        return self.classes[int(np.argmax(target[: self.outputs]))]

    def loss(self):
        of_grades = self._loss_of_grades()
        return edema.loss_of_both(of_grades, self.dme_weight) if self.dme_weight else of_grades

    def _loss_of_grades(self):
        import keras

        if self.focal_gamma is None:
            return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=self.label_smoothing)
        return keras.losses.CategoricalFocalCrossentropy(
            alpha=1.0, gamma=self.focal_gamma, from_logits=True, label_smoothing=self.label_smoothing
        )

    def metrics(self):
        from keras import ops

        from dr_tf.metrics.auroc import AUROC
        from dr_tf.metrics.confusion import Accuracy, BalancedAccuracy, QuadraticKappa

        is_positive = _of_grades(self.positive) == 1
        above = np.flatnonzero(is_positive)

        def log_odds(logits):
            return _log_odds(logits, is_positive)

        def largest(values):
            return ops.argmax(values[:, : self.outputs], axis=-1)

        counted = {"true": largest, "predicted": largest}
        return [
            Accuracy(self.outputs, name="accuracy", **counted),
            BalancedAccuracy(self.outputs, name="balanced_accuracy", **counted),
            QuadraticKappa(self.outputs, name="quadratic_kappa", **counted),
            AUROC(positive=lambda targets: ops.sum(ops.take(targets, above, axis=-1), axis=-1), log_odds=log_odds),
            *([edema.joint_accuracy(self.outputs)] if self.dme_weight else []),
        ]

    def evidence(self, logits):
        grades = np.arange(self.outputs)
        return (
            {name: logits[:, i] for i, name in enumerate(self.classes)}
            | {f"grade >= {k}": _log_odds(logits, grades >= k) for k in grades[1:]}
            | {"positive": _log_odds(logits, _of_grades(self.positive) == 1)}
        )

    def probabilities(self, logits):
        logits = np.asarray(logits, np.float64)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)

    def p_positive(self, probabilities):
        return probabilities @ (_of_grades(self.positive) == 1)

    def grade(self, probabilities):
        return np.argmax(probabilities, axis=-1)


def _log_odds(logits, inside):
    """Of the classes that are True in `inside` against the others."""
    from keras import ops

    those, others = (ops.take(logits, np.flatnonzero(columns), axis=-1) for columns in (inside, ~inside))
    return ops.logsumexp(those, axis=-1) - ops.logsumexp(others, axis=-1)


def _of_grades(definition):
    """1, 0 or ABSENT for each grade where nothing but the grade is known."""
    return positives(definition, {"grade": np.arange(len(GRADES))})
