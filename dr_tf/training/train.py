"""One run: an experiment and records go in, a run directory comes out. Killed and started again, it goes on."""

import contextlib
import sys

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.inference.edema import Edema
from dr_tf.inference.network import Network, image_size_of
from dr_tf.inference.run import HELD_OUT, read_calibration, read_preparation, write_edema
from dr_tf.models.layers.exchange import plain
from dr_tf.models.stages import stage_of
from dr_tf.training import strategies
from dr_tf.training.callbacks import ExpectedTime, Recorder, StopAtNaN, ValidateAverage
from dr_tf.training.checkpoints import Checkpoints, set_weights
from dr_tf.training.curves import draw_curves
from dr_tf.training.deciding import fit_decision
from dr_tf.training.feature_bank import cut
from dr_tf.training.feed import Feed
from dr_tf.training.pictures import Pictures, write_reasons
from dr_tf.training.roles import split_roles
from dr_tf.training.run_directory import RunDirectory

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def train(experiment, records, *, run_dir, config, roles=None, init_from=None, judged=None):
    """Trains, or goes on training; returns the finished model and its history.

    `config` gives the text that the run is known by; it is called once all parts are built. `judged` gives, when it is
    asked at the end, what the decision is fitted on in place of the calibration split.
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
            feed = Feed(experiment, records, roles or split_roles(records, experiment.head), image_size_of(model))
            _check_unseen(init_from, feed)
            trained, source = cut(model, feed)
            metrics = experiment.head.metrics()
            _compile(trained, experiment, source, metrics)
            run.keep_config(config())
            if source is not feed and not run.finished:
                source.fill()
            history = _fit(experiment, trained, source, run, metrics)
        if run.finished:
            logging.info("%s is done; nothing to train", run.path)
        elif run.writes:
            _finish(model, feed, run, history, judged)
        strategies.meet(strategy)
        return model, history


def _finish(model, feed, run, history, judged):
    """`model.keras` comes last of what a run is to have: where it is, all is there. Pictures for TensorBoard may lack."""
    # Not the compiled one: its metrics are ours, and the file is to open where this project is not installed.
    finished, edema = _deciding(model), Edema.of_model(model)
    if edema is not None:
        write_edema(run.path, edema)
    if feed.roles.held_out is not None:
        _write_held_out(run.path / HELD_OUT, Network(finished), edema, feed)
    rule = fit_decision(finished, feed, run.path, judged=judged() if judged else None)
    draw_curves(run.path / "curves.png", history, feed.experiment.watched)
    with files.appearing(run.path / "model.keras") as path:
        plain(finished).save(path)
    write_reasons(run.path / "tensorboard", finished, feed, rule, step=len(history) - 1)


def _deciding(model):
    """Up to what decides, without a second output."""
    return keras.Model(model.input, model.get_layer("logits").output, name=model.name)


def _write_held_out(path, network, edema, feed):
    rows = feed.roles.held_out
    logits, features = network.over(feed.ordered(rows))  # predict would call for all machines
    dme = {} if edema is None else {"dme": edema.logits(features)}
    with files.appearing(path) as unfinished, open(unfinished, "wb") as file:
        np.savez(file, rows=rows, logits=logits, **dme)


def _built(experiment, init_from):
    with _precision(experiment.precision):
        model = experiment.model(head=experiment.head)
    if init_from:
        load_weights(model, init_from)
    return model


def _check_unseen(init_from, feed):
    """What a run is chosen, calibrated or judged by may not have been learned from in the stage before it."""
    seen = init_from and read_calibration(init_from)
    if not seen or read_preparation(init_from).records != feed.records.name:
        return
    if np.isin(feed.roles.unfitted, seen["fitted"]).any():
        raise UserError(
            f"--init_from: {init_from} has learned from photographs that this run holds out; give both the same splits, "
            "or train both by --folds and name the folder of the folds"
        )


def _compile(model, experiment, feed, metrics):
    strategies.check(experiment, feed.order.batch_size)
    strategies.synchronize(model)
    stages = stage_of(model)
    rates = experiment.optimization.rates(stages, list(dict.fromkeys(stages.values())))
    model.compile(
        optimizer=experiment.optimization.build(
            steps_per_epoch=feed.order.steps, epochs=experiment.epochs, rate_of=rates
        ),
        loss=experiment.head.loss(),
        metrics=metrics,
        jit_compile=_jit(experiment),
        steps_per_execution=experiment.steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)  # so that a checkpoint finds its places
    strategies.adapt(model, feed.training().element_spec)


def _jit(experiment):
    # XLA halves the speed of a small convolutional step on a CPU; Keras' "auto" would take it.
    by_default = _on_gpu() and experiment.distribution == "one_device"
    return by_default if experiment.jit is None else experiment.jit


def _fit(experiment, model, feed, run, metrics):
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
    _greet(experiment, model, feed, done)
    if not recorder.finished:
        select = feed.roles.select
        validation, steps = strategies.ordered_batches(feed, select) if len(select) else (None, None)
        model.fit(
            strategies.training_batches(feed, done),
            epochs=experiment.epochs,
            initial_epoch=done,
            steps_per_epoch=feed.order.steps,
            validation_data=validation,
            validation_steps=steps,
            callbacks=[*_callbacks(experiment, feed, run, metrics, done), recorder],
            shuffle=False,  # the feed does it
            verbose=_verbosity(run),
        )
    set_weights(model, recorder.kept_weights())
    return recorder.history


def _callbacks(experiment, feed, run, metrics, done):
    if run.writes:
        yield keras.callbacks.TensorBoard(run.path / "tensorboard", write_graph=False)
    yield Pictures(
        run.path / "tensorboard" if run.writes else None,
        config=run.config,
        sample=feed.sample,
        matrix=next((metric.matrix for metric in metrics if hasattr(metric, "matrix")), None),
        classes=experiment.head.classes,
    )
    yield StopAtNaN(feed.names)
    yield ExpectedTime(feed.order.steps * (experiment.epochs - done))
    if experiment.optimization.ema:
        yield ValidateAverage()


def _verbosity(run):
    if not run.writes:
        return 0
    return 1 if sys.stderr.isatty() else 2


def _greet(experiment, model, feed, done):
    device = "GPU" if _on_gpu() else "CPU"
    logging.info(
        "%s: fits %d examples of %s, selects by %d; %s weights; on the %s; epochs %d to %d",
        experiment.head.name, len(feed.roles.fit), feed.records.name, len(feed.roles.select),
        f"{model.count_params():,}", device, done + 1, experiment.epochs,
    )  # fmt: skip


def load_weights(model, run_dir):
    """The weights of another run's finished model, which must have the same layers; a second output begins anew."""
    path = f"{run_dir}/model.keras"
    try:
        other = keras.saving.load_model(path, compile=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--init_from: {path} cannot be read: {str(error).splitlines()[0]}") from None
    weights = _deciding(model).weights  # without the state of what draws random numbers, which a dropout brings along
    if [v.shape for v in other.weights] != [v.shape for v in weights]:
        raise UserError(f"--init_from: the model of {run_dir} is not of the same layers as this config's")
    for weight, value in zip(weights, other.weights, strict=True):
        weight.assign(value)


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
