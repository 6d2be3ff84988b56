"""One positive definition, yes or no, by a single logit."""

import dataclasses
from typing import ClassVar

import numpy as np

from dr_tf.grades import ABSENT
from dr_tf.models.heads.head import Head, positives


@dataclasses.dataclass(frozen=True)
class Binary(Head):
    """A target of ABSENT is a label that is not known: `train` gives it no weight, and no metric counts it."""

    label_smoothing: float = 0.0
    focal_gamma: float | None = None  # Lin et al. 2017; None is plain cross-entropy

    name: ClassVar[str] = "binary"
    link: ClassVar[str] = "binary"
    monitor: ClassVar[tuple[str, str]] = ("val_auroc", "max")
    outputs: ClassVar[int] = 1

    @property
    def classes(self):
        return (f"not {self.positive}", self.positive)

    def strata(self, columns):
        return positives(self.positive, columns)

    def targets(self, columns):
        return self.strata(columns)[:, None].astype(np.float32)

    def name_of(self, target):
        return self.classes[int(target[0] > 0.5)]

    def loss(self):
        import keras

        class Focal(keras.losses.BinaryFocalCrossentropy):
            """ABSENT weighs nothing, but its loss has to be a number: a power of a negative one is none."""

            def call(self, y_true, y_pred):
                return super().call(keras.ops.maximum(y_true, 0), y_pred)

        options = {"from_logits": True, "label_smoothing": self.label_smoothing}
        if self.focal_gamma is None:
            return keras.losses.BinaryCrossentropy(**options)
        return Focal(gamma=self.focal_gamma, **options)

    def metrics(self):
        from keras import ops

        from dr_tf.metrics.auroc import AUROC
        from dr_tf.metrics.confusion import Accuracy, BalancedAccuracy, Recall

        def only(values):
            return ops.reshape(values, (-1,))

        counted = {"true": only, "predicted": lambda logits: only(logits) > 0}
        return [
            Accuracy(2, name="accuracy", **counted),
            BalancedAccuracy(2, name="balanced_accuracy", **counted),
            Recall(2, of=1, name="sensitivity", **counted),
            Recall(2, of=0, name="specificity", **counted),
            AUROC(positive=only, known=lambda targets: only(targets) != ABSENT, log_odds=only),
        ]

    def evidence(self, logits):
        for_positive = logits[:, 0]
        return dict(zip(self.classes, (-for_positive, for_positive), strict=True)) | {"positive": for_positive}

    def scores(self, probabilities):
        return np.asarray(probabilities)[:, 1:]
