"""A second output beside a head's own: the risk of macular edema (`grades.DME_RISKS`), learned where it is known.

Targets and logits of both stand in one row: the head's own columns first, then one for each risk. Where a risk is not
known its targets are all zero.
"""

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, DME_RISKS

LAYER = "dme"
RISKS = len(DME_RISKS)


def targets(columns):
    """One-hot [n, risks], zeros where the risk is not known."""
    known = np.asarray(columns.get("dme", ABSENT)).reshape(-1, 1)
    if (known == ABSENT).all():
        raise UserError(
            "these records know no risk of macular edema (dme): softmax.dme_weight has nothing to learn from"
        )
    return (known == np.arange(RISKS)).astype(np.float32)


def beside(logits, features):
    """The logits with those of the risks behind them."""
    import keras

    risks = keras.layers.Dense(RISKS, dtype="float32", name=LAYER)(features)
    return keras.layers.Concatenate(dtype="float32", name="logits_and_dme")([logits, risks])


def loss_of_both(own, weight):
    """own - weight * sum(target * log p) of the risk.

    Written out, as TensorFlow's cross-entropy has the gradient p - target whatever the target: where all of it is zero its
    value would be 0 and its gradient p.
    """
    import keras
    from keras import ops

    class WithEdema(keras.losses.Loss):
        def call(self, targets, logits):
            of_risks = ops.sum(targets[:, -RISKS:] * ops.log_softmax(logits[:, -RISKS:]), axis=-1)
            return own.call(targets[:, :-RISKS], logits[:, :-RISKS]) - weight * of_risks

    return WithEdema(name="loss")


def joint_accuracy(grades):
    """The share with both grade and risk right, which IDRiD's challenge ranks by, of those whose risk is known."""
    from keras import ops

    from dr_tf.metrics.confusion import Accuracy

    def both(values):
        return RISKS * ops.argmax(values[:, :grades], axis=-1) + ops.argmax(values[:, grades:], axis=-1)

    def true(targets):
        known = ops.sum(targets[:, grades:], axis=-1) > 0
        return ops.where(known, both(targets), ABSENT)  # one-hot of which is a row of zeros: it does not count

    return Accuracy(RISKS * grades, true=true, predicted=both, name="joint_accuracy")
