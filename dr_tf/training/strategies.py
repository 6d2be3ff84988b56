"""Distribution strategies: training on one device, on all GPUs of a machine, or on several machines.

Every strategy computes the same training step as one device: the batch of the config is shared by all devices, gradients
are summed before they are clipped or checked for overflow, batch norm uses the statistics of the whole batch, and metrics
count every example once. Only the dropout masks differ.

Functions that take no strategy use the one whose scope they are called in, and change nothing on one device.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.models import keras_private

if TYPE_CHECKING:
    from dr_tf.training.experiment import Experiment
    from dr_tf.training.feature_bank import StoredFeatureData
    from dr_tf.training.training_data import TrainingData


def _multi_worker():
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster")
        if not cluster:
            raise ValueError("it names no cluster")
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        example = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'
        raise UserError(
            f"train.distribution = 'multi_worker' needs the environment variable TF_CONFIG, such as {example}: {error}"
        ) from None


STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "one_device": tf.distribute.get_strategy,
    "mirrored": tf.distribute.MirroredStrategy,
    "multi_worker": _multi_worker,
}


@functools.cache  # machines can connect only once in a process
def make_strategy(name: str) -> tf.distribute.Strategy:
    """Return the strategy of a name in STRATEGIES, the same one in every call.

    Raises:
        UserError: the name is unknown, or TF_CONFIG names no machines for "multi_worker".
    """
    if name not in STRATEGIES:
        raise UserError(f"unknown train.distribution {name!r}; known: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process writes the run directory; those of other machines only compute."""
    return strategy.extended.should_checkpoint


def check_supported(experiment: Experiment, batch_size: int) -> None:
    """Raise UserError for settings that differ from one device in their effect, or that Keras lacks on several."""
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    if batch_size % devices:
        raise UserError(
            f"a batch of {batch_size} examples cannot be shared evenly by {devices} devices: set train.batch_size to a "
            f"multiple of {devices}"
        )
    if _has_several_devices() and experiment.jit:
        raise UserError("train.jit needs train.distribution = 'one_device': XLA cannot compile sums over devices here")
    if _has_several_devices() and (experiment.optimization.accumulation_steps or 1) > 1:
        raise UserError(
            "optimization.accumulation_steps needs train.distribution = 'one_device': raise train.batch_size instead"
        )
    if _has_several_devices() and any(getattr(head, "ranking", 0) for head in experiment.heads.values()):
        raise UserError(
            "a head with a ranking loss needs train.distribution = 'one_device': pairs are formed in a batch"
        )
    if _has_several_machines() and experiment.steps_per_execution > 1:
        raise UserError("train.steps_per_execution above 1 needs a single machine")


def synchronize_batch_norm(model: keras.Model) -> None:
    """Compute batch norm over the batch of all devices. Call it before `compile`.

    Otherwise the moving statistics of the devices drift apart.
    """
    for layer in keras_private.layers_within(model) if _has_several_devices() else ():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def adapt_training_step(model: keras.Model, element_spec: Any) -> None:
    """Make a step over several devices equal to one device's. Call it after `compile`.

    Args:
        model: the compiled model.
        element_spec: nested structure of tf.TensorSpec of a training batch.
    """
    if not _has_several_devices():
        return
    _sum_gradients_first(model.optimizer)
    keras_private.build_for(model, element_spec)
    # In every fit and evaluate Keras 3.15 would build the model on the mean, over devices, of a first batch. That needs
    # equal parts; and with several machines it makes a tensor of a PerReplica, which fails.
    keras_private.never_build_again(model)
    if _has_several_machines():
        model.train_function = _multi_machine_step(model.train_step)
        model.test_function = _multi_machine_step(model.test_step)


def _sum_gradients_first(optimizer):
    """Keras sums last: it clips each device's gradients separately, and checks for overflow on the first device only."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    apply = optimizer.apply

    def apply_sum(gradients, trainable_variables=None):
        summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return apply(summed, trainable_variables)

    optimizer.apply = apply_sum
    keras_private.never_sum_gradients(inner)


def _multi_machine_step(step):
    """Replaces that of Keras 3.15, which takes the mean of scalar logs along an axis that they do not have."""
    strategy = tf.distribute.get_strategy()

    @tf.function
    def run(iterator):
        logs = strategy.run(step, args=(next(iterator),))
        return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in logs.items()}

    return run


def distributed_training_batches(
    data: TrainingData | StoredFeatureData, first_epoch: int
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Return the training batches, each in equal parts for the devices. A machine reads only its own parts."""
    if not _has_several_devices():
        return data.training_batches(first_epoch)

    def dataset_of_machine(context):
        shard = context.input_pipeline_id, context.num_input_pipelines
        size = context.get_per_replica_batch_size(data.order.batch_size)
        return data.training_batches(first_epoch, shard=shard).rebatch(size, drop_remainder=True)

    return tf.distribute.get_strategy().distribute_datasets_from_function(dataset_of_machine)


def distributed_ordered_batches(
    data: TrainingData | StoredFeatureData, rows: np.ndarray, batch_size: int
) -> tuple[tf.data.Dataset | tf.distribute.DistributedDataset, int | None]:
    """Return batches of every row once, and the number of steps (None on one device).

    Every device gets an example in every step: TensorFlow's convolutions on a CPU fail on an empty batch.

    Args:
        data: the run's data.
        rows: row numbers in the record set.
        batch_size: largest number of examples in a step, on all devices together.

    Raises:
        UserError: there are fewer rows than devices.
    """
    if not _has_several_devices():
        return data.ordered_batches(rows), None
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    if len(rows) < devices:
        raise UserError(f"{len(rows)} validation examples cannot be shared by {devices} devices")
    steps = min(-(-len(rows) // batch_size), len(rows) // devices)

    def dataset_of_machine(context):
        devices_here = devices // context.num_input_pipelines
        first = devices_here * context.input_pipeline_id
        by_step = [np.array_split(step, devices)[first : first + devices_here] for step in np.array_split(rows, steps)]
        parts = [part for step in by_step for part in step]
        return data.ordered_batches(np.concatenate(parts)).rebatch([len(part) for part in parts])

    return tf.distribute.get_strategy().distribute_datasets_from_function(dataset_of_machine), steps


def wait_for_all_machines(strategy: tf.distribute.Strategy) -> None:
    """Wait for the other machines at the end: one that exits early looks dead to the others."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.ones(())), axis=None)


def _has_several_devices():
    return tf.distribute.has_strategy()


def _has_several_machines():
    return isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)
