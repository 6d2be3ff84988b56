"""One positive definition, yes or no, by a single logit."""

import dataclasses
from typing import ClassVar

import numpy as np

from dr_tf.grades import ABSENT
from dr_tf.models.heads.head import Head, positives, sigmoid


@dataclasses.dataclass(frozen=True)
class Binary(Head):
    label_smoothing: float = 0.0
    focal_gamma: float | None = None  # Lin et al. 2017; None is plain cross-entropy

    name: ClassVar[str] = "binary"
    calibration: ClassVar[str] = "sigmoid"
    monitor: ClassVar[tuple[str, str]] = ("val_auroc", "max")
    outputs: ClassVar[int] = 1

    @property
    def classes(self):
        return (f"not {self.positive}", self.positive)

    def usable(self, columns):
        return self.strata(columns) != ABSENT

    def strata(self, columns):
        return positives(self.positive, columns)

    def targets(self, columns):
        return self.strata(columns)[:, None].astype(np.float32)

    def name_of(self, target):
        return self.classes[int(target[0] > 0.5)]

    def loss(self):
        import keras

        if self.focal_gamma is None:
            return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=self.label_smoothing)
        return keras.losses.BinaryFocalCrossentropy(
            gamma=self.focal_gamma, from_logits=True, label_smoothing=self.label_smoothing
        )

    def metrics(self):
        from keras import ops

        from dr_tf.metrics.auroc import AUROC
        from dr_tf.metrics.confusion import Accuracy, BalancedAccuracy, Recall

        def only(values):
            return ops.reshape(values, (-1,))

        counted = {"true": lambda targets: only(targets) > 0.5, "predicted": lambda logits: only(logits) > 0}
        return [
            Accuracy(2, name="accuracy", **counted),
            BalancedAccuracy(2, name="balanced_accuracy", **counted),
            Recall(2, of=1, name="sensitivity", **counted),
            Recall(2, of=0, name="specificity", **counted),
            AUROC(positive=only, log_odds=only),
        ]

    def evidence(self, logits):
        for_positive = logits[:, 0]
        return dict(zip(self.classes, (-for_positive, for_positive), strict=True)) | {"positive": for_positive}

    def probabilities(self, logits):
        logits = np.asarray(logits).reshape(-1)
        return np.stack([sigmoid(-logits.astype(np.float64)), sigmoid(logits)], axis=-1)

    def p_positive(self, probabilities):
        return probabilities[..., 1]

    def grade(self, probabilities):
        return None
