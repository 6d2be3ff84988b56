"""Regression head: the grade as one continuous number."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tf.models.heads.ordinal import TASKS, Ordinal, exceedance_log_probabilities
from dr_tf.models.links import REGRESSION_SLOPE
from dr_tf.parameters import Positive

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Regression(Ordinal):
    """One output, trained to be the grade.

    The link turns the number into P(grade > k) by a logistic function around k + 1/2.

    Attributes:
        huber_delta: Error, in grades, from which the loss grows linearly (Huber 1964); None for the squared error.
    """

    huber_delta: Positive | None = None

    name: ClassVar[str] = "regression"
    link: ClassVar[str] = "regression"
    outputs: ClassVar[int] = 1

    def loss(self) -> keras.losses.Loss:
        """Build the squared error or the Huber loss."""
        from dr_tf.models.losses import GradeError

        return GradeError(self.huber_delta, name="loss")

    def log_probabilities(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the logarithms of the class probabilities, [n, classes]."""
        thresholds = np.arange(TASKS, dtype=np.float32) + 0.5
        return exceedance_log_probabilities(REGRESSION_SLOPE * (logits - thresholds))
