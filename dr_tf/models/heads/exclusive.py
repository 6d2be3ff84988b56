"""Base of heads with mutually exclusive classes in rising order: grades, and the risk of macular edema."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, POSITIVE_DEFINITIONS
from dr_tf.models.heads.array_ops import ops_for
from dr_tf.models.heads.head import Head, positive_labels
from dr_tf.parameters import NotNegative

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class ExclusiveClasses(Head):
    """Base of heads whose classes are the values of one record field.

    A subclass sets `field` and defines the methods that raise `NotImplementedError` here. Metrics, evidence and the
    positive definition follow from them.

    Attributes:
        ranking: Weight of a pairwise ranking loss beside the head's own: in each batch, images of a higher class have to
            get a higher score than those of a lower one. Pairs are weighted by the distance of their classes.
        field: The record field that contains the class number.
    """

    ranking: NotNegative = dataclasses.field(default=0.0, kw_only=True)

    field: ClassVar[str]

    def __post_init__(self):
        super().__post_init__()
        if ABSENT in self._class_is_positive(self.positive):
            known = ", ".join(self.decidable_definitions())
            raise UserError(
                f"the {self.name} head cannot decide {self.positive!r}; it can decide {known}. "
                "A @binary() head can decide any definition: name its output as train.decides"
            )

    @classmethod
    def decidable_definitions(cls) -> list[str]:
        """Return the positive definitions that follow from the class alone."""
        return [name for name in POSITIVE_DEFINITIONS if ABSENT not in cls._class_is_positive(name)]

    @classmethod
    def _class_is_positive(cls, definition):
        """1, 0 or ABSENT for each class, if no other label is known."""
        return positive_labels(definition, {cls.field: np.arange(len(cls.classes))})

    @property
    def _is_positive(self):
        return self._class_is_positive(self.positive) == 1

    def true_classes(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the class number of each example, int [n]; ABSENT if unknown."""
        absent = np.full(len(next(iter(columns.values()))), ABSENT)
        return np.asarray(columns.get(self.field, absent), np.int64)

    def class_logits(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Return the logits of the softmax over the classes [n, classes] that has the probabilities of `logits`."""
        raise NotImplementedError

    def class_of_targets(self, targets: keras.KerasTensor) -> keras.KerasTensor:
        """Return the class number of each target, [n]; ABSENT if unknown."""
        raise NotImplementedError

    def class_of_logits(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Return the predicted class number of each example, [n]."""
        raise NotImplementedError

    def training_loss(self, true_classes: np.ndarray | None = None) -> keras.losses.Loss:
        """Build the head's own loss, plus the ranking loss if it has a weight."""
        from dr_tf.models.losses import WithRanking

        del true_classes
        if not self.ranking:
            return self.loss()
        options = {"class_of_targets": self.class_of_targets, "class_logits": self.class_logits}
        return WithRanking(self.loss(), self.ranking, name="loss", **options)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build accuracy, balanced accuracy, quadratic kappa, and the AUROC of `positive`."""
        from keras import ops

        from dr_tf.metrics.auroc import AUROC
        from dr_tf.metrics.confusion import Accuracy, BalancedAccuracy, QuadraticKappa

        classes, is_positive = len(self.classes), self._is_positive
        options = {"true": self.class_of_targets, "predicted": self.class_of_logits}

        def positive(targets):
            true_classes = ops.cast(ops.maximum(self.class_of_targets(targets), 0), "int32")
            return ops.take(is_positive.astype(np.float32), true_classes)

        return [
            Accuracy(classes, name="accuracy", **options),
            BalancedAccuracy(classes, name="balanced_accuracy", **options),
            QuadraticKappa(classes, name="quadratic_kappa", **options),
            AUROC(
                positive=positive,
                known=lambda targets: self.class_of_targets(targets) != ABSENT,
                log_odds=lambda logits: log_odds(self.class_logits(logits), is_positive),
            ),
        ]

    def evidence(self, logits: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Compute the softmax logit of each class, and the log-odds of "grade >= k" and "positive"."""
        class_logits, ranks = self.class_logits(logits), np.arange(len(self.classes))
        return (
            {name: class_logits[:, i] for i, name in enumerate(self.classes)}
            | {f"{self.field} >= {k}": log_odds(class_logits, ranks >= k) for k in ranks[1:]}
            | {"positive": log_odds(class_logits, self._is_positive)}
        )

    def definition_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Sum the probabilities of the positive classes, [n, 1]."""
        return (np.asarray(probabilities) @ self._is_positive)[:, None]


def log_odds(logits: keras.KerasTensor, is_member: np.ndarray) -> keras.KerasTensor:
    """Compute the log-odds, [n], of the classes selected by `is_member`, bool [classes], against the other classes."""
    ops = ops_for(logits)
    members, others = (ops.take(logits, np.flatnonzero(mask), axis=-1) for mask in (is_member, ~is_member))
    return ops.logsumexp(members, axis=-1) - ops.logsumexp(others, axis=-1)
