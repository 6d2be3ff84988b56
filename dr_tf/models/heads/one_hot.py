"""Base of heads with mutually exclusive classes and one logit per class: grades, and the risk of macular edema."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, POSITIVE_DEFINITIONS
from dr_tf.models.heads.head import Head, positive_labels
from dr_tf.parameters import Fraction, NotNegative

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class OneHot(Head):
    """Base of softmax heads. A subclass sets `field`, the record field that contains the class number.

    A target row of zeros stands for an unknown label. Training gives it a sample weight of 0 (by itself its loss is 0
    but its gradient is not), and no metric counts it.

    Attributes:
        label_smoothing: Share of the target that is spread evenly over all classes.
        focal_gamma: Gamma of the focal loss (Lin et al., ICCV 2017); None for plain cross-entropy.
    """

    label_smoothing: Fraction = 0.0
    focal_gamma: NotNegative | None = None

    link: ClassVar[str] = "softmax"
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
    def outputs(self) -> int:
        """Number of logits: one per class."""
        return len(self.classes)

    @property
    def _is_positive(self):
        return self._class_is_positive(self.positive) == 1

    def true_classes(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the class number of each example, int [n]; ABSENT if unknown."""
        absent = np.full(len(next(iter(columns.values()))), ABSENT)
        return np.asarray(columns.get(self.field, absent), np.int64)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return one-hot rows, float32 [n, classes]; zeros if unknown."""
        return (self.true_classes(columns)[:, None] == np.arange(self.outputs)).astype(np.float32)

    def target_name(self, target: np.ndarray) -> str:
        """Return the name of the class of a one-hot row."""
        return self.classes[int(np.argmax(target))]

    def loss(self) -> keras.losses.Loss:
        """Build the categorical cross-entropy or focal loss."""
        import keras

        if self.focal_gamma is None:
            return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=self.label_smoothing)
        return keras.losses.CategoricalFocalCrossentropy(
            alpha=1.0, gamma=self.focal_gamma, from_logits=True, label_smoothing=self.label_smoothing
        )

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build accuracy, balanced accuracy, quadratic kappa, and the AUROC of `positive`."""
        from keras import ops

        from dr_tf.metrics.auroc import AUROC
        from dr_tf.metrics.confusion import Accuracy, BalancedAccuracy, QuadraticKappa

        is_positive = self._is_positive
        positive_classes = np.flatnonzero(is_positive)

        def true_class(targets):
            return ops.where(ops.sum(targets, axis=-1) > 0, ops.argmax(targets, axis=-1), ABSENT)

        options = {"true": true_class, "predicted": lambda logits: ops.argmax(logits, axis=-1)}
        return [
            Accuracy(self.outputs, name="accuracy", **options),
            BalancedAccuracy(self.outputs, name="balanced_accuracy", **options),
            QuadraticKappa(self.outputs, name="quadratic_kappa", **options),
            AUROC(
                positive=lambda targets: ops.sum(ops.take(targets, positive_classes, axis=-1), axis=-1),
                known=lambda targets: ops.sum(targets, axis=-1) > 0,
                log_odds=lambda logits: log_odds(logits, is_positive),
            ),
        ]

    def evidence(self, logits: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Compute the logit of each class, and the log-odds of "grade >= k" and "positive"."""
        ranks = np.arange(self.outputs)
        return (
            {name: logits[:, i] for i, name in enumerate(self.classes)}
            | {f"{self.field} >= {k}": log_odds(logits, ranks >= k) for k in ranks[1:]}
            | {"positive": log_odds(logits, self._is_positive)}
        )

    def definition_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Sum the probabilities of the positive classes, [n, 1]."""
        return (np.asarray(probabilities) @ self._is_positive)[:, None]


def log_odds(logits: keras.KerasTensor, is_member: np.ndarray) -> keras.KerasTensor:
    """Compute the log-odds, [n], of the classes selected by `is_member`, bool [classes], against the other classes."""
    from keras import ops

    members, others = (ops.take(logits, np.flatnonzero(mask), axis=-1) for mask in (is_member, ~is_member))
    return ops.logsumexp(members, axis=-1) - ops.logsumexp(others, axis=-1)
