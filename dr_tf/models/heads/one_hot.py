"""Classes that exclude each other, one logit each: what the grades and the risk of macular edema share."""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT
from dr_tf.models.heads.head import Head, positives


@dataclasses.dataclass(frozen=True)
class OneHot(Head):
    """Base: a subclass names `field`, the column of the records whose value is the class.

    A row of zeros stands for a label that is not known: `train` gives it no weight (of itself its loss is 0 and its
    gradient is not), and no metric counts it.
    """

    label_smoothing: float = 0.0
    focal_gamma: float | None = None  # Lin et al. 2017; None is plain cross-entropy

    link = "softmax"

    def __post_init__(self):
        super().__post_init__()
        if ABSENT in self._says(self.positive):
            known = ", ".join(self.tells())
            raise UserError(
                f"{self.name} alone does not tell {self.positive!r}; it can tell {known}. A @binary() head tells any "
                "definition: let it decide (train.decides)"
            )

    @classmethod
    def tells(cls):
        """The definitions of positive that the class alone decides."""
        from dr_tf.grades import POSITIVE_DEFINITIONS

        return [name for name in POSITIVE_DEFINITIONS if ABSENT not in cls._says(name)]

    @classmethod
    def _says(cls, definition):
        """1, 0 or ABSENT for each class, where nothing but the class is known."""
        return positives(definition, {cls.field: np.arange(len(cls.classes))})

    @property
    def outputs(self):
        return len(self.classes)

    @property
    def _is_positive(self):
        return self._says(self.positive) == 1

    def strata(self, columns):
        absent = np.full(len(next(iter(columns.values()))), ABSENT)
        return np.asarray(columns.get(self.field, absent), np.int64)

    def targets(self, columns):
        return (self.strata(columns)[:, None] == np.arange(self.outputs)).astype(np.float32)

    def name_of(self, target):
        return self.classes[int(np.argmax(target))]

    def loss(self):
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

        is_positive = self._is_positive
        above = np.flatnonzero(is_positive)

        def true(targets):
            return ops.where(ops.sum(targets, axis=-1) > 0, ops.argmax(targets, axis=-1), ABSENT)

        counted = {"true": true, "predicted": lambda logits: ops.argmax(logits, axis=-1)}
        return [
            Accuracy(self.outputs, name="accuracy", **counted),
            BalancedAccuracy(self.outputs, name="balanced_accuracy", **counted),
            QuadraticKappa(self.outputs, name="quadratic_kappa", **counted),
            AUROC(
                positive=lambda targets: ops.sum(ops.take(targets, above, axis=-1), axis=-1),
                known=lambda targets: ops.sum(targets, axis=-1) > 0,
                log_odds=lambda logits: log_odds(logits, is_positive),
            ),
        ]

    def evidence(self, logits):
        ranks = np.arange(self.outputs)
        return (
            {name: logits[:, i] for i, name in enumerate(self.classes)}
            | {f"{self.field} >= {k}": log_odds(logits, ranks >= k) for k in ranks[1:]}
            | {"positive": log_odds(logits, self._is_positive)}
        )

    def scores(self, probabilities):
        return (np.asarray(probabilities) @ self._is_positive)[:, None]


def log_odds(logits, inside):
    """Of the classes that are True in `inside` against the others."""
    from keras import ops

    those, others = (ops.take(logits, np.flatnonzero(columns), axis=-1) for columns in (inside, ~inside))
    return ops.logsumexp(those, axis=-1) - ops.logsumexp(others, axis=-1)
