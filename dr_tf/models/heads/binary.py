"""Head that predicts one positive definition with a single logit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tf.grades import ABSENT
from dr_tf.models.heads.head import Head, positive_labels
from dr_tf.parameters import Fraction, NotNegative

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Binary(Head):
    """Sigmoid head for one positive definition.

    A target of ABSENT is an unknown label: training gives it a sample weight of 0, and no metric counts it.

    Attributes:
        label_smoothing: Share of the target that is moved towards one half.
        focal_gamma: Gamma of the focal loss (Lin et al., ICCV 2017); None for plain cross-entropy.
    """

    label_smoothing: Fraction = 0.0
    focal_gamma: NotNegative | None = None

    name: ClassVar[str] = "binary"
    link: ClassVar[str] = "binary"
    monitor: ClassVar[tuple[str, str]] = ("val_auroc", "max")
    outputs: ClassVar[int] = 1

    @property
    def classes(self) -> tuple[str, ...]:
        """The negative and the positive class."""
        return (f"not {self.positive}", self.positive)

    def true_classes(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return 1, 0 or ABSENT for each example, int [n]."""
        return positive_labels(self.positive, columns)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the labels as float32 [n, 1]; ABSENT if unknown."""
        return self.true_classes(columns)[:, None].astype(np.float32)

    def target_name(self, target: np.ndarray) -> str:
        """Return the name of the class of a target."""
        return self.classes[int(target[0] > 0.5)]

    def loss(self) -> keras.losses.Loss:
        """Build the binary cross-entropy or focal loss."""
        import keras

        class Focal(keras.losses.BinaryFocalCrossentropy):
            """Focal loss that is finite for ABSENT targets: a fractional power of a negative number is NaN."""

            def call(self, y_true, y_pred):
                return super().call(keras.ops.maximum(y_true, 0), y_pred)

        options = {"from_logits": True, "label_smoothing": self.label_smoothing}
        if self.focal_gamma is None:
            return keras.losses.BinaryCrossentropy(**options)
        return Focal(gamma=self.focal_gamma, **options)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build accuracy, balanced accuracy, sensitivity, specificity and AUROC."""
        from keras import ops

        from dr_tf.metrics.auroc import AUROC
        from dr_tf.metrics.confusion import Accuracy, BalancedAccuracy, Recall

        def flat(values):
            return ops.reshape(values, (-1,))

        options = {"true": flat, "predicted": lambda logits: flat(logits) > 0}
        return [
            Accuracy(2, name="accuracy", **options),
            BalancedAccuracy(2, name="balanced_accuracy", **options),
            Recall(2, class_number=1, name="sensitivity", **options),
            Recall(2, class_number=0, name="specificity", **options),
            AUROC(positive=flat, known=lambda targets: flat(targets) != ABSENT, log_odds=flat),
        ]

    def evidence(self, logits: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Return the log-odds of both classes, and of "positive"."""
        positive = logits[:, 0]
        return dict(zip(self.classes, (-positive, positive), strict=True)) | {"positive": positive}

    def definition_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the probability of the positive class, [n, 1]."""
        return np.asarray(probabilities)[:, 1:]
