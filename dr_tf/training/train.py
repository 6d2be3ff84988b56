"""One run: an experiment and records go in, a run directory comes out. Killed and started again, it goes on."""

import contextlib
import sys

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.explain.crop_maps import default_explainer
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.run import HELD_OUT, write_scored_rows
from dr_tf.models.layers.replace_layers import plain
from dr_tf.models.network import KerasNetwork, features_of, image_size_of, is_paired, outputs_of
from dr_tf.models.stages import stage_of
from dr_tf.training import strategies
from dr_tf.training.callbacks import ExpectedTime, Recorder, StopAtNaN, ValidateAverage
from dr_tf.training.checkpoints import Checkpoints, set_weights
from dr_tf.training.data_roles import split_roles
from dr_tf.training.feature_bank import cut
from dr_tf.training.fit_decision import (
    fit_decision,
    fitted_names,
    keep_scale,
    known_features,
    names_of,
    requested_modes,
    score_rows,
)
from dr_tf.training.learning_curves import draw_curves
from dr_tf.training.run_directory import RunDirectory
from dr_tf.training.tensorboard_images import Pictures, write_reasons
from dr_tf.training.training_data import TrainingData

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def train(experiment, records, *, run_dir, config, roles=None, init_from=None, scored=None):
    """Trains, or goes on training; returns the finished model and its history.

    `config` gives the text that the run is known by; it is called once all parts are built. `scored` gives, when it is
    requested at the end, what the decision is fitted on in place of the calibration split.
    """
    strategy = strategies.strategy(experiment.distribution)
    keras.utils.clear_session()  # a second run in this process is then named, and seeded, as the first was
    keras.utils.set_random_seed(experiment.seed)
    if not _on_gpu():  # the same weights bit for bit, whatever the threads; on a GPU it would cost speed
        # Layers of keras_cv, which an augmentation may take, ask for it when they are made, and cannot make one any more.
        tf.random.set_global_generator(tf.random.Generator.from_seed(experiment.seed))
        tf.config.experimental.enable_op_determinism()
    with RunDirectory(run_dir, writes=strategies.is_chief(strategy)) as run:
        with strategy.scope():
            model = _built(experiment, init_from)
            _check_paired(model, records)
            data = TrainingData(
                experiment, records, roles or split_roles(records, experiment.head), image_size_of(model)
            )
            _check_unseen(init_from, data)
            trained, source = cut(model, data)
            metrics = {output: head.metrics() for output, head in experiment.heads.items()}
            _compile(trained, experiment, source, metrics)
            run.keep_config(config())
            if source is not data and not run.finished:
                source.fill()
            history = _fit(experiment, trained, source, run, metrics)
        if run.finished:
            logging.info("%s is done; nothing to train", run.path)
        elif run.writes:
            _finish(model, data, run, history, scored)
        strategies.meet(strategy)
        return model, history


def _finish(model, data, run, history, scored):
    """`model.keras` comes last of what a run is to have: where it is, all is there. Pictures for TensorBoard may lack."""
    # Not the compiled one: its metrics are ours, and the file is to open where this project is not installed.
    finished = keras.Model(model.input, model.output, name=model.name)
    network, feature_distribution = KerasNetwork(finished), None
    if data.roles.held_out is not None:
        feature_distribution, _ = known_features(network, data, neighbours=False)
        requested = requested_modes(network, data.experiment, (PLAIN,))
        write_scored_rows(
            run.path / HELD_OUT,
            score_rows(
                network, data, data.roles.held_out, requested=requested, feature_distribution=feature_distribution
            ),
        )
    rule = fit_decision(
        network, data, run.path, scored=scored() if scored else None, feature_distribution=feature_distribution
    )
    explainer = default_explainer(finished, rule)
    fitted = explainer and keep_scale(run.path, explainer, data)
    draw_curves(run.path / "curves.png", history, data.experiment.watched)
    with files.appearing(run.path / "model.keras") as path:
        plain(finished).save(path)
    if explainer is not None:
        write_reasons(run.path / "tensorboard", explainer, data, rule, step=len(history) - 1, fitted=fitted)


def _built(experiment, init_from):
    with _precision(experiment.precision):
        model = experiment.model(heads=experiment.heads)
    if init_from:
        load_weights(model, init_from)
    return model


def _check_unseen(init_from, data):
    """What a run is chosen, calibrated or judged by may not have been learned from in the stage before it."""
    if init_from and np.isin(names_of(data.records, data.roles.unfitted), fitted_names(init_from)).any():
        raise UserError(
            f"--init_from: {init_from} has learned from photographs that this run holds out; give both the same splits, "
            "or train both by --folds and name the folder of the folds"
        )


def _compile(model, experiment, data, metrics):
    strategies.check(experiment, data.order.batch_size)
    strategies.synchronize(model)
    stages = stage_of(model)
    rates = experiment.optimization.rates(stages, list(dict.fromkeys(stages.values())))
    model.compile(
        optimizer=experiment.optimization.build(
            steps_per_epoch=data.order.steps, epochs=experiment.epochs, rate_of=rates
        ),
        loss={output: head.loss() for output, head in experiment.heads.items()},
        loss_weights=experiment.weights_of_losses,
        metrics=metrics,
        jit_compile=_jit(experiment),
        steps_per_execution=experiment.steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)  # so that a checkpoint finds its places
    strategies.adapt(model, data.training().element_spec)


def _jit(experiment):
    # XLA halves the speed of a small convolutional step on a CPU; Keras' "auto" would take it.
    by_default = _on_gpu() and experiment.distribution == "one_device"
    return by_default if experiment.jit is None else experiment.jit


def _fit(experiment, model, data, run, metrics):
    """Leaves the weights in `model` that the experiment keeps; returns the history."""
    checkpoints = Checkpoints(run.path / "checkpoints")
    recorder = Recorder(
        run,
        checkpoints,
        every=experiment.checkpoint_every,
        epochs=experiment.epochs,
        monitor=experiment.watched,
        patience=experiment.patience,
        start=checkpoints.restore(model),
    )
    done = len(recorder.history)
    _greet(experiment, model, data, done)
    if not recorder.finished:
        select = data.roles.select
        validation, steps = strategies.ordered_batches(data, select) if len(select) else (None, None)
        model.fit(
            strategies.training_batches(data, done),
            epochs=experiment.epochs,
            initial_epoch=done,
            steps_per_epoch=data.order.steps,
            validation_data=validation,
            validation_steps=steps,
            callbacks=[*_callbacks(experiment, data, run, metrics, done), recorder],
            shuffle=False,  # the data does it
            verbose=_verbosity(run),
        )
    set_weights(model, recorder.kept_weights())
    return recorder.history


def _callbacks(experiment, data, run, metrics, done):
    if run.writes:
        yield keras.callbacks.TensorBoard(run.path / "tensorboard", write_graph=False)
    yield Pictures(
        run.path / "tensorboard" if run.writes else None,
        config=run.config,
        sample=data.sample,
        matrix=next((m.matrix for m in metrics[experiment.output] if hasattr(m, "matrix")), None),
        classes=experiment.head.classes,
    )
    yield StopAtNaN(data.names)
    yield ExpectedTime(data.order.steps * (experiment.epochs - done))
    if experiment.optimization.ema:
        yield ValidateAverage()


def _verbosity(run):
    if not run.writes:
        return 0
    return 1 if sys.stderr.isatty() else 2


def _greet(experiment, model, data, done):
    device = "GPU" if _on_gpu() else "CPU"
    logging.info(
        "%s: fits %d examples of %s, selects by %d; %s weights; on the %s; epochs %d to %d",
        ", ".join(experiment.heads), len(data.roles.fit), data.records.name, len(data.roles.select),
        f"{model.count_params():,}", device, done + 1, experiment.epochs,
    )  # fmt: skip


def load_weights(model, run_dir):
    """The weights of another run's finished model, which must have the same layers up to its features.

    An output that the other has as well takes its weights; one that it lacks begins anew.
    """
    path = f"{run_dir}/model.keras"
    try:
        other = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--init_from: {path} cannot be read: {str(error).splitlines()[0]}") from None
    shared = [output for output in outputs_of(model) if output in outputs_of(other)]
    pairs = [(_weights_below(model), _weights_below(other))]
    pairs += [(model.get_layer(output).weights, other.get_layer(output).weights) for output in shared]
    if any([v.shape for v in ours] != [v.shape for v in theirs] for ours, theirs in pairs):
        raise UserError(f"--init_from: the model of {run_dir} is not of the same layers as this config's")
    for ours, theirs in pairs:
        for weight, value in zip(ours, theirs, strict=True):
            weight.assign(value)


def _weights_below(model):
    """Up to the features; without the state of what draws random numbers, which a dropout brings along."""
    return keras.Model(model.input, features_of(model)).weights


def _check_paired(model, records):
    if is_paired(model) != records.paired:
        takes, holds = (
            ("both eyes of a patient", "single photographs") if is_paired(model) else ("one photograph", "pairs")
        )
        raise UserError(
            f"the model takes {takes}, {records.name} holds {holds}: train.model is @classifier for single photographs and "
            "@paired_classifier for records built with --paired"
        )


@contextlib.contextmanager
def _precision(policy):
    if policy not in PRECISIONS:
        raise UserError(f"unknown precision {policy!r}; known: {', '.join(PRECISIONS)}")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _on_gpu():
    return bool(tf.config.list_logical_devices("GPU"))
