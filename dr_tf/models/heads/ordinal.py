"""Base of ordinal heads, which use the order of the five ICDR grades."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, GRADES
from dr_tf.models.heads.array_ops import ops_for
from dr_tf.models.heads.exclusive import ExclusiveClasses

if TYPE_CHECKING:
    import keras

TASKS = len(GRADES) - 1  # task k: is the grade greater than k?


@dataclasses.dataclass(frozen=True)
class Ordinal(ExclusiveClasses):
    """Base of ordinal heads. A subclass defines `loss` and `log_probabilities`.

    The predicted grade is the median of the class probabilities: the number of k with P(grade > k) above one half, as
    in the papers on CORAL and CORN.

    A target of ABSENT is an unknown grade: its loss and its gradient are 0, and no metric counts it.
    """

    field: ClassVar[str] = "grade"
    monitor: ClassVar[tuple[str, str]] = ("val_quadratic_kappa", "max")
    classes: ClassVar[tuple[str, ...]] = GRADES

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the grades as float32 [n, 1]; ABSENT if unknown."""
        return self.true_classes(columns)[:, None].astype(np.float32)

    def target_name(self, target: np.ndarray) -> str:
        """Return the name of the grade of a target."""
        return "unknown" if target[0] == ABSENT else self.classes[int(target[0])]

    def log_probabilities(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the logarithms of the class probabilities, [n, classes], with full precision near 0 and 1."""
        raise NotImplementedError

    def class_logits(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Center the logarithms of the class probabilities.

        The logarithm of a probability near 1 is flat. Relative to the mean of all logarithms it is not, so an
        explanation of a confident prediction has a gradient.
        """
        ops, logarithms = ops_for(logits), self.log_probabilities(logits)
        return logarithms - ops.mean(logarithms, axis=-1, keepdims=True)

    def class_of_targets(self, targets: keras.KerasTensor) -> keras.KerasTensor:
        """Return the grade of each target, [n]; ABSENT if unknown."""
        from keras import ops

        return ops.cast(ops.reshape(targets, (-1,)), "int32")

    def class_of_logits(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Return the median grade of each example, [n]."""
        from keras import ops

        at_most = ops.cumsum(ops.exp(self.log_probabilities(logits)), axis=-1)[:, :-1]
        return ops.sum(ops.cast(at_most < 0.5, "int32"), axis=-1)

    def grade(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the median grade, int [n]."""
        return np.sum(np.cumsum(probabilities, axis=-1)[..., :-1] < 0.5, axis=-1)


def checked_weights(head: str, weights: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return one importance weight per task as a tuple.

    Raises:
        UserError: Their number is wrong.
    """
    if weights is None:
        return None
    if len(weights) != TASKS:
        raise UserError(f"{head}.importance_weights needs {TASKS} weights, one per task grade > k; got {len(weights)}")
    return tuple(float(weight) for weight in weights)


def exceedance_log_probabilities(exceedance: keras.KerasTensor) -> keras.KerasTensor:
    """Compute log P(class = k), [n, classes], from the logits of P(class > k), [n, classes - 1], which never rise.

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)) has a logarithm without cancellation.
    """
    ops = ops_for(exceedance)
    above, not_above = ops.log_sigmoid(exceedance), ops.log_sigmoid(-exceedance)
    gaps = ops.maximum(exceedance[:, :-1] - exceedance[:, 1:], 1e-6)  # the logarithm of 0 is not finite
    between = above[:, :-1] + not_above[:, 1:] + ops.log(-ops.expm1(-gaps))
    return ops.concatenate([not_above[:, :1], between, above[:, -1:]], axis=-1)
