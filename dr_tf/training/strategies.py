"""Where a run's weights live: one device, all GPUs of this machine, or several machines."""

import tensorflow as tf

from dr_tf.console import UserError

STRATEGIES = {
    "one_device": tf.distribute.get_strategy,
    "mirrored": tf.distribute.MirroredStrategy,
    "multi_worker": tf.distribute.MultiWorkerMirroredStrategy,
}


def strategy(name):
    if name not in STRATEGIES:
        raise UserError(f"unknown distribution {name!r}; known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]()
