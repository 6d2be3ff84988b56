"""Binary cross-entropy and focal loss of several labels, of which some may be unknown: Keras has none that masks."""

import keras
from keras import ops


class Masked(keras.losses.Loss):
    """Binary cross-entropy of labels of which some are not known.

    mean over labels of known * (1 - p_t)^gamma * -log p_t, with p_t the probability of the right answer; a target below 0
    is not known. Without `gamma` it is plain cross-entropy.
    """

    def __init__(self, gamma=None, **options):
        super().__init__(**options)
        self._gamma = gamma

    def call(self, y_true, y_pred):
        known = ops.cast(y_true >= 0, y_pred.dtype)
        target = ops.cast(y_true > 0, y_pred.dtype)
        log_right = ops.log_sigmoid(ops.where(target > 0, y_pred, -y_pred))
        losses = -log_right
        if self._gamma is not None:
            losses *= ops.power(1 - ops.exp(log_right), self._gamma)
        return ops.mean(known * losses, axis=-1)
