"""Base of softmax heads, with one logit per class: grades, and the risk of macular edema."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tf.grades import ABSENT
from dr_tf.models.heads.exclusive import ExclusiveClasses
from dr_tf.parameters import Fraction, NotNegative

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class OneHot(ExclusiveClasses):
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

    @property
    def outputs(self) -> int:
        """Number of logits: one per class."""
        return len(self.classes)

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

    def class_logits(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Return the logits themselves."""
        return logits

    def class_of_targets(self, targets: keras.KerasTensor) -> keras.KerasTensor:
        """Return the class of each one-hot row, [n]; ABSENT for a row of zeros."""
        from keras import ops

        return ops.where(ops.sum(targets, axis=-1) > 0, ops.argmax(targets, axis=-1), ABSENT)

    def class_of_logits(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Return the class of the largest logit, [n]."""
        from keras import ops

        return ops.argmax(logits, axis=-1)
