"""Binary cross-entropy and focal loss of several labels that masks unknown labels, which Keras' own losses do not."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class MaskedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy or focal loss from logits, with a mask for unknown labels.

    loss = mean over labels of known * (1 - p_t)^gamma * -log p_t

    p_t is the predicted probability of the true value of the label. A target below 0 is unknown.

    Args:
        gamma: Gamma of the focal loss (Lin et al., ICCV 2017); None for plain cross-entropy.
        **options: Options of `keras.losses.Loss`.
    """

    def __init__(self, gamma: float | None = None, **options: Any):
        super().__init__(**options)
        self._gamma = gamma

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the loss of each example, [n].

        Args:
            y_true: Targets [n, labels]: 1, 0, or negative if unknown.
            y_pred: Logits [n, labels].
        """
        known = ops.cast(y_true >= 0, y_pred.dtype)
        target = ops.cast(y_true > 0, y_pred.dtype)
        log_p_t = ops.log_sigmoid(ops.where(target > 0, y_pred, -y_pred))
        losses = -log_p_t
        if self._gamma is not None:
            losses *= ops.power(1 - ops.exp(log_p_t), self._gamma)
        return ops.mean(known * losses, axis=-1)
