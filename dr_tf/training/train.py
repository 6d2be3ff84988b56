"""Training of one run: an experiment and records in, a run directory out. A run that was killed resumes when called again."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from dr_tf.console import UserError
from dr_tf.data.records import Records
from dr_tf.inference.modes import MODES, PLAIN
from dr_tf.inference.run import MODEL, ScoredRows
from dr_tf.models.network import features_tensor, image_size_of, is_paired, output_names
from dr_tf.models.stages import stage_by_variable
from dr_tf.training import strategies
from dr_tf.training.callbacks import (
    CheckpointAndEarlyStopping,
    LogExpectedDuration,
    StopAtNaN,
    ValidateAveragedWeights,
)
from dr_tf.training.checkpoints import Checkpoints, set_weights
from dr_tf.training.data_roles import Roles, split_roles, with_share_of_patients
from dr_tf.training.example_names import example_names, fitted_example_names
from dr_tf.training.experiment import Experiment
from dr_tf.training.feature_bank import StoredFeatureData, split_at_frozen_part, without_warning_of_names
from dr_tf.training.finish import TrainedRun
from dr_tf.training.history import read_history
from dr_tf.training.run_directory import RunDirectory
from dr_tf.training.tensorboard_images import TensorBoardImages
from dr_tf.training.training_data import TrainingData

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

    BatchSource = TrainingData | StoredFeatureData
    Metrics = Mapping[str, list[keras.metrics.Metric]]


def train(
    experiment: Experiment,
    records: Records,
    *,
    run_dir: str | os.PathLike,
    config: Callable[[], str],
    roles: Roles | None = None,
    init_from: str | os.PathLike | None = None,
    out_of_fold: Callable[[], ScoredRows] | None = None,
) -> tuple[keras.Model, list[dict[str, float]]]:
    """Train a run, or resume it.

    If a finished run differs only in parameters that decide, its decision rule is fitted anew, without training.

    Args:
        experiment: the experiment.
        records: the record set.
        run_dir: the run directory.
        config: function that returns the text of the run's config; called once everything is built.
        roles: roles of the examples; those of the published splits by default.
        init_from: finished run whose weights training starts from.
        out_of_fold: function that returns the scores that the rule is fitted on in place of the calibration split; called
            once the network is trained.

    Returns:
        (trained model, {metric: value} of each epoch).

    Raises:
        UserError: the experiment does not fit the records, the run directory or the earlier run.
    """
    strategy = strategies.make_strategy(experiment.distribution)
    keras.utils.clear_session()  # so that a second run in this process names and seeds its layers as the first
    _seed_everything(experiment.seed)
    with RunDirectory(run_dir, writes=strategies.is_chief(strategy)) as run:
        with strategy.scope():
            model, loaded = _build_model(experiment, init_from)
            _check_paired(model, records, experiment.modes)
            roles = roles or split_roles(records, experiment.head)
            roles = with_share_of_patients(roles, records, experiment.training_share, experiment.seed)
            data = TrainingData(
                experiment,
                records,
                roles,
                image_size_of(model),
                inputs=list(model.input) if is_paired(model) else None,
                masks=_mask_targets(experiment, records, roles, model),
            )
            _check_not_seen(init_from, records, roles)
            trained_part, batches = split_at_frozen_part(model, data, experiment=experiment, roles=roles)
            if experiment.masks:
                trained_part = experiment.masks.add_output(trained_part, experiment.deciding_output, experiment.head)
            metrics = {output: head.metrics() for output, head in experiment.heads.items()}
            compile_model(trained_part, experiment, batches, metrics, data.fitted_classes)
            run.keep_config(config())
            stored_features = None
            if run.finished:
                load_weights(model, run.path)
                history = read_history(run.path)
            else:
                if isinstance(batches, StoredFeatureData):
                    batches.fill()
                    stored_features = functools.partial(_features, trained_part, batches)
                heads = {output: head for output, head in experiment.heads.items() if output not in loaded}
                history = _fit(experiment, trained_part, batches, records, roles, run, metrics, heads)
        trained = TrainedRun(model, experiment, data, roles, run, history, out_of_fold, stored_features)
        if not run.finished:
            if run.writes:
                trained.finish()
        elif run.decision_is_outdated and run.writes:
            trained.refit_decision()
        else:
            logging.info("%s is finished; nothing to train", run.path)
        strategies.wait_for_all_machines(strategy)
        return model, history


def _seed_everything(seed):
    keras.utils.set_random_seed(seed)
    if not _on_gpu():  # weights are equal bit for bit for any number of threads; on a GPU that would cost speed
        # keras_cv's layers, which RandAugment uses, need a global generator and cannot make one under determinism.
        tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
        tf.config.experimental.enable_op_determinism()


def _build_model(experiment, init_from):
    with _precision(experiment.precision):
        model = experiment.model(heads=experiment.heads)
    if not init_from:
        return model, []
    try:
        return model, load_weights(model, init_from)
    except UserError as error:
        raise UserError(f"--init_from: {error}") from None


def _mask_targets(experiment, records, roles, model):
    if experiment.masks is None:
        return None
    return experiment.masks.targets(records, roles, model=model, augmentation=experiment.augmentation)


def _check_not_seen(init_from, records, roles):
    """Examples that select, calibrate or evaluate a run must not have been training examples of the run before it."""
    if init_from and np.isin(example_names(records, roles.not_fitted), fitted_example_names(init_from)).any():
        raise UserError(
            f"--init_from: {init_from} was trained on images that this run holds out; use the same splits for both, or "
            "train both with --folds and give the folder of all folds"
        )


def compile_model(
    model: keras.Model,
    experiment: Experiment,
    batches: BatchSource,
    metrics: Metrics,
    true_classes: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Compile a model for an experiment.

    Args:
        model: the model, or the part of it that is trained.
        experiment: the experiment.
        batches: its training batches.
        metrics: {output: training metrics}.
        true_classes: {output: classes of the training examples}, for losses that depend on them.
    """
    strategies.check_supported(experiment, batches.order.batch_size)
    strategies.synchronize_batch_norm(model)
    stages = stage_by_variable(model)
    rate_factors = experiment.optimization.rate_factors(stages, list(dict.fromkeys(stages.values())))
    model.compile(
        optimizer=experiment.optimization.build(
            steps_per_epoch=batches.order.steps, epochs=experiment.epochs, rate_factors=rate_factors
        ),
        loss=experiment.losses(true_classes or {}),
        loss_weights=experiment.all_loss_weights,
        metrics=metrics,
        jit_compile=_jit(experiment),
        steps_per_execution=experiment.steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)  # so that a checkpoint can be restored into its variables
    strategies.adapt_training_step(model, batches.training_batches().element_spec)


def _jit(experiment):
    # XLA halves the speed of a small convolutional step on a CPU; Keras' "auto" would use it.
    by_default = _on_gpu() and experiment.distribution == "one_device"
    return by_default if experiment.jit is None else experiment.jit


def _fit(
    experiment: Experiment,
    model: keras.Model,
    batches: BatchSource,
    records: Records,
    roles: Roles,
    run: RunDirectory,
    metrics: Metrics,
    new_heads: Mapping[str, Head],
) -> list[dict[str, float]]:
    """Train until the run has all its epochs, set the weights to keep, and return the history.

    The outputs in `new_heads` have no trained weights yet.
    """
    checkpoints = Checkpoints(run.path / "checkpoints")
    checkpointing = CheckpointAndEarlyStopping(
        run,
        checkpoints,
        every=experiment.checkpoint_every,
        epochs=experiment.epochs,
        monitor=experiment.monitored,
        patience=experiment.patience,
        restored=checkpoints.restore(model),
    )
    checkpointing.set_model(model)  # Keras does so only if there is an epoch left to train
    done = len(checkpointing.history)
    _log_start(experiment, model, records, roles, done)
    if not done:
        _initialize_heads(new_heads, model, batches, records, roles.fit)
    if not checkpointing.finished:
        validation, validation_steps = None, None
        if len(roles.select):
            validation, validation_steps = strategies.distributed_ordered_batches(
                batches, roles.select, experiment.validation_batch_size
            )
        model.fit(
            strategies.distributed_training_batches(batches, done),
            epochs=experiment.epochs,
            initial_epoch=done,
            steps_per_epoch=batches.order.steps,
            validation_data=validation,
            validation_steps=validation_steps,
            callbacks=[*_callbacks(experiment, batches, run, metrics, done), checkpointing],
            shuffle=False,  # the batches are in random order already
            verbose=_verbosity(run),
        )
    set_weights(model, checkpointing.kept_weights())
    return checkpointing.history


def _initialize_heads(heads, model, batches, records, rows):
    """Set the initial weights of the heads that start from the features of the training examples."""
    heads = {output: head for output, head in heads.items() if head.starts_from_features}
    if not heads:
        return
    features = _features(model, batches, rows)
    for output, head in heads.items():
        head.initialize(model.get_layer(output), features, head.true_classes(records.columns)[rows])


def _features(model, batches, rows):
    """Features of examples, [n, width], without augmentation."""
    with without_warning_of_names():
        compute = tf.function(keras.Model(model.input, features_tensor(model)), reduce_retracing=True)
    return np.concatenate([compute(batch[0], training=False).numpy() for batch in batches.ordered_batches(rows)])


def _callbacks(
    experiment: Experiment, batches: BatchSource, run: RunDirectory, metrics: Metrics, done: int
) -> Iterator[keras.callbacks.Callback]:
    if run.writes:
        yield keras.callbacks.TensorBoard(run.path / "tensorboard", write_graph=False)
    yield TensorBoardImages(
        run.path / "tensorboard" if run.writes else None,
        config=run.config or "",
        sample_images=batches.sample_images,
        confusion_matrix=next((m.matrix for m in metrics[experiment.deciding_output] if hasattr(m, "matrix")), None),
        classes=experiment.head.classes,
    )
    yield StopAtNaN(batches.batch_names)
    yield LogExpectedDuration(batches.order.steps * (experiment.epochs - done))
    if experiment.optimization.ema:
        yield ValidateAveragedWeights()


def _verbosity(run):
    if not run.writes:
        return 0
    return 1 if sys.stderr.isatty() else 2


def _log_start(experiment, model, records, roles, done):
    logging.info(
        "%s: %d training examples and %d validation examples of %s; %s weights; on the %s; epochs %d to %d",
        ", ".join(experiment.heads),
        len(roles.fit),
        len(roles.select),
        records.name,
        f"{model.count_params():,}",
        "GPU" if _on_gpu() else "CPU",
        done + 1,
        experiment.epochs,
    )


def load_weights(model: keras.Model, run_dir: str | os.PathLike) -> list[str]:
    """Set the weights of a finished run's model, which must have the same layers up to its features.

    Outputs that both models have get the weights of the other; new outputs keep their initial weights.

    Returns:
        The outputs that both models have.

    Raises:
        UserError: the model cannot be read, or has other layers.
    """
    path = f"{run_dir}/{MODEL}"
    try:
        other = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    shared = [output for output in output_names(model) if output in output_names(other)]
    pairs = [(_backbone_weights(model), _backbone_weights(other))]
    pairs += [(model.get_layer(output).weights, other.get_layer(output).weights) for output in shared]
    if any([v.shape for v in ours] != [v.shape for v in theirs] for ours, theirs in pairs):
        raise UserError(f"the model of {run_dir} has other layers than this config's")
    for ours, theirs in pairs:
        for weight, value in zip(ours, theirs, strict=True):
            weight.assign(value)
    return shared


def _backbone_weights(model):
    """Weights up to the features, without the state of random generators, which dropout adds."""
    return keras.Model(model.input, features_tensor(model)).weights


def _check_paired(model, records, modes):
    of_single_eyes = [name for name in modes if MODES.get(name, MODES[PLAIN]).eyes]
    if of_single_eyes and not is_paired(model):
        raise UserError(f"train.modes names {of_single_eyes[0]!r}, which needs a model of both eyes of a patient")
    if is_paired(model) != records.paired:
        takes, holds = (
            ("both eyes of a patient", "single images") if is_paired(model) else ("one image", "pairs of images")
        )
        raise UserError(
            f"the model takes {takes}, {records.name} holds {holds}: train.model is @classifier for single images and "
            "@paired_classifier or @cross_attention_classifier for records built with --paired"
        )


@contextlib.contextmanager
def _precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _on_gpu():
    return bool(tf.config.list_logical_devices("GPU"))
