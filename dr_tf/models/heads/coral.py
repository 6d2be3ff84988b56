"""CORAL: ordinal head with one score per image and a bias per grade threshold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from dr_tf.models.heads.ordinal import TASKS, Ordinal, checked_weights, exceedance_log_probabilities
from dr_tf.parameters import Fraction, Positive

if TYPE_CHECKING:
    import keras

    from dr_tf.models.heads.head import Projection

# The biases start at 1, 0.75, 0.5, 0.25, as in the authors' code. Equal biases are slow to separate.
_FIRST_BIAS, _GAP = 1.0, 1.0 / TASKS


@dataclasses.dataclass(frozen=True)
class Coral(Ordinal):
    """Consistent rank logits (Cao, Mirjalili and Raschka, Pattern Recognition Letters 2020).

    Logit k is that of P(grade > k). All tasks share one weight vector and differ by their bias. The biases are the
    first one minus a running sum of softplus values. They descend whatever the weights are, so P(grade > k) never
    rises with k.

    Attributes:
        importance_weights: Weight of each task grade > k in the loss, k = 0 to 3; None for 1 each.
        label_smoothing: Share of the target that is spread evenly over all grades.
    """

    importance_weights: Sequence[Positive] | None = None
    label_smoothing: Fraction = 0.0

    name: ClassVar[str] = "coral"
    link: ClassVar[str] = "coral"
    outputs: ClassVar[int] = TASKS

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "importance_weights", checked_weights(self.name, self.importance_weights))

    def logits(self, features: keras.KerasTensor, name: str, projection: Projection | None = None) -> keras.KerasTensor:
        """Add the score and the biases as one network, called `name`, of Keras' own layers.

        A saved model therefore opens without this project.
        """
        import keras

        del projection
        inputs = keras.Input(features.shape[1:], dtype=features.dtype)
        return keras.Model(inputs, _thresholds(_score(inputs)), name=name)(features)

    def loss(self) -> keras.losses.Loss:
        """Build the sum of the tasks' binary cross-entropies."""
        from dr_tf.models.losses import CoralLoss

        return CoralLoss(self.importance_weights, self.label_smoothing, name="loss")

    def log_probabilities(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the logarithms of the class probabilities, [n, classes]."""
        return exceedance_log_probabilities(logits)


def _score(features):
    """The shared weight vector, with the bias of the first task: [n, 1]."""
    import keras

    bias = keras.initializers.Constant(_FIRST_BIAS)
    return keras.layers.Dense(1, bias_initializer=bias, dtype="float32", name="score")(features)


def _thresholds(score):
    """[n, 1] -> [n, tasks].

    Normalized zeros are the trainable shift `beta` alone. Keras has no other layer of just a vector, and weight decay
    leaves `beta` alone.
    """
    import keras
    from keras import ops

    raw_gap = keras.initializers.Constant(math.log(math.expm1(_GAP)))  # the inverse of softplus
    vector = keras.layers.LayerNormalization(scale=False, beta_initializer=raw_gap, dtype="float32", name="gaps")
    gaps = ops.softplus(vector(ops.repeat(ops.zeros_like(score), TASKS - 1, axis=-1)))
    return ops.concatenate([score, score - ops.cumsum(gaps, axis=-1)], axis=-1)
