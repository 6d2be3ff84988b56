"""Where a run's weights live: one device, all GPUs of this machine, or several machines.

Whatever is chosen, a step does what it does on one device. The batch of the config is that of all devices together,
gradients are summed before they are clipped or looked at for overflow, batch norm takes its statistics over the whole
batch, and metrics count every photograph once. Only the masks of dropout are others than on one device.

What takes no strategy is called in the scope of the one chosen, and leaves one device as it is.
"""

import functools
import json
import os

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models import keras_private


def _several_machines():
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster")
        if not cluster:
            raise ValueError("it names no cluster")
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        wanted = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'
        raise UserError(f"multi_worker wants the environment variable TF_CONFIG like {wanted}: {error}") from None


STRATEGIES = {
    "one_device": tf.distribute.get_strategy,
    "mirrored": tf.distribute.MirroredStrategy,
    "multi_worker": _several_machines,
}


@functools.cache  # machines meet once in a process
def strategy(name):
    if name not in STRATEGIES:
        raise UserError(f"unknown distribution {name!r}; known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]()


def is_chief(strategy):
    """Whether this process writes the run; those of other machines only take part."""
    return strategy.extended.should_checkpoint


def check(experiment, batch_size):
    """Refuses what would train otherwise than one device does, or what Keras cannot do on several."""
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    if batch_size % devices:
        raise UserError(f"a batch of {batch_size} cannot be shared evenly by {devices} devices")
    if _several() and experiment.jit:
        raise UserError("train.jit is for train.distribution = 'one_device': XLA compiles no sums over devices here")
    if _several() and (experiment.optimization.accumulation_steps or 1) > 1:
        raise UserError("optimization.accumulation_steps is for one device; on several raise the batch size instead")
    if _over_machines() and experiment.steps_per_execution > 1:
        raise UserError("train.steps_per_execution is for one machine")


def synchronize(model):
    """Before `compile`: batch norm over the batch of all devices. Else each device's moving statistics drift apart."""
    for layer in keras_private.layers_within(model) if _several() else ():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def adapt(model, element_spec):
    """After `compile`: a step over several devices that equals one device's; `element_spec` is that of a batch."""
    if not _several():
        return
    _sum_gradients_first(model.optimizer)
    keras_private.build_for(model, element_spec)
    # Keras 3.15 would build on the mean, over devices, of a first batch at every fit and evaluate: the parts must be equal
    # for that, and over machines it makes a tensor of a PerReplica, which fails.
    keras_private.never_build_again(model)
    if _over_machines():
        model.train_function = _step_over_machines(model.train_step)
        model.test_function = _step_over_machines(model.test_step)


def _sum_gradients_first(optimizer):
    """Keras sums last: it clips each device's share by itself, and looks for overflow on the first device only."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    apply = optimizer.apply

    def apply_sum(gradients, trainable_variables=None):
        whole = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return apply(whole, trainable_variables)

    optimizer.apply = apply_sum
    keras_private.never_sum_gradients(inner)


def _step_over_machines(step):
    """Keras 3.15's own takes the mean of scalar logs along an axis, which they do not have."""
    strategy = tf.distribute.get_strategy()

    @tf.function
    def run(iterator):
        logs = strategy.run(step, args=(next(iterator),))
        return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in logs.items()}

    return run


def training_batches(data, first_epoch):
    """The data's batches, each in equal parts for the devices; a machine reads only its own."""
    if not _several():
        return data.training(first_epoch)

    def of_machine(context):
        shard = context.input_pipeline_id, context.num_input_pipelines
        size = context.get_per_replica_batch_size(data.order.batch_size)
        return data.training(first_epoch, shard=shard).rebatch(size, drop_remainder=True)

    return tf.distribute.get_strategy().distribute_datasets_from_function(of_machine)


def ordered_batches(data, rows):
    """Every row once, and the number of steps, which is None on one device.

    No device is ever left without a photograph: TensorFlow's convolutions on a CPU fail on an empty batch.
    """
    if not _several():
        return data.ordered(rows), None
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    if len(rows) < devices:
        raise UserError(f"{len(rows)} photographs to select by cannot be shared by {devices} devices")
    batch = data.experiment.validation_batch_size
    steps = min(-(-len(rows) // batch), len(rows) // devices)

    def of_machine(context):
        here = devices // context.num_input_pipelines
        first = here * context.input_pipeline_id
        shared = [np.array_split(step, devices)[first : first + here] for step in np.array_split(rows, steps)]
        parts = [part for step in shared for part in step]
        return data.ordered(np.concatenate(parts)).rebatch([len(part) for part in parts])

    return tf.distribute.get_strategy().distribute_datasets_from_function(of_machine), steps


def meet(strategy):
    """Waits for the other machines: one that leaves early looks dead to the rest."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.ones(())), axis=None)


def _several():
    return tf.distribute.has_strategy()


def _over_machines():
    return isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)
