"""CORN: ordinal head with one conditional task per grade threshold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from dr_tf.models.heads.array_ops import ops_for
from dr_tf.models.heads.ordinal import TASKS, Ordinal, checked_weights
from dr_tf.parameters import Positive

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Corn(Ordinal):
    """Conditional ordinal regression (Shi, Cao and Raschka, Pattern Analysis and Applications 2023).

    Logit k is that of P(grade > k | grade >= k), with a weight vector of its own. P(grade > k) is the product of the
    first k + 1 probabilities and therefore never rises with k. Only examples of grade k or more train task k.

    Attributes:
        importance_weights: Weight of each task in the loss, k = 0 to 3; None for 1 each.
    """

    importance_weights: Sequence[Positive] | None = None

    name: ClassVar[str] = "corn"
    link: ClassVar[str] = "corn"
    outputs: ClassVar[int] = TASKS

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "importance_weights", checked_weights(self.name, self.importance_weights))

    def loss(self) -> keras.losses.Loss:
        """Build the sum of the conditional tasks' binary cross-entropies."""
        from dr_tf.models.losses import CornLoss

        return CornLoss(self.importance_weights, name="loss")

    def log_probabilities(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the logarithms of the class probabilities, [n, classes]."""
        ops = ops_for(logits)
        above, not_above = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
        exceedance = ops.cumsum(above, axis=-1)
        return ops.concatenate([exceedance - above + not_above, exceedance[:, -1:]], axis=-1)
