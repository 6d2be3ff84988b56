"""End of a run: fit the decision rule of the trained network, and write everything that inference needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.explain.colour_scale import MapScale, read_scale
from dr_tf.explain.crop_maps import default_explainer
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.run import HELD_OUT, MODEL, ScoredRows, write_scored_rows
from dr_tf.models.layers.replace_layers import to_plain_keras
from dr_tf.models.network import KerasNetwork
from dr_tf.training.data_roles import Roles
from dr_tf.training.example_names import example_names, fitted_example_names
from dr_tf.training.experiment import Experiment
from dr_tf.training.fit_decision import DecisionSettings, fit_decision, fit_training_features, score_rows
from dr_tf.training.learning_curves import draw_learning_curves
from dr_tf.training.map_scale import fit_map_scale
from dr_tf.training.run_directory import RunDirectory
from dr_tf.training.tensorboard_images import write_explanations
from dr_tf.training.training_data import TrainingData

if TYPE_CHECKING:
    from dr_tf.explain.explainer import Explainer
    from dr_tf.inference.gate import AnyFeatureDistribution
    from dr_tf.inference.rule import Rule

History = list[dict[str, float]]
OutOfFold = Callable[[], ScoredRows] | None


def finish(
    model: keras.Model,
    experiment: Experiment,
    *,
    data: TrainingData,
    roles: Roles,
    run: RunDirectory,
    history: History,
    out_of_fold: OutOfFold = None,
) -> None:
    """Calibrate, and write everything that inference needs. `model.keras` comes last: a run that has it is complete.

    Args:
        model: the trained model.
        experiment: the experiment.
        data: its images and batches.
        roles: roles of the examples.
        run: the run directory.
        history: {metric: value} of each epoch.
        out_of_fold: function that returns the scores that the rule is fitted on in place of the calibration split.
    """
    inference_model = _inference_model(model)
    network = KerasNetwork(inference_model)
    feature_distribution = None
    if roles.held_out is not None:
        feature_distribution = _score_held_out(network, experiment, data, roles, run)
    rule = _fit_decision(network, experiment, data, roles, run, out_of_fold, feature_distribution)
    explainer, scale = default_explainer(inference_model, rule), None
    if explainer is not None:
        scale = fit_map_scale(
            run.path,
            explainer,
            images=data.images,
            fit_rows=roles.fit,
            calibration_rows=roles.calibrate,
            seed=experiment.seed,
            batch_size=experiment.validation_batch_size,
        )
    draw_learning_curves(run.path / "curves.png", history, experiment.monitored)
    with files.atomic_write(run.path / MODEL) as path:
        to_plain_keras(inference_model).save(path)
    _write_explanations(explainer, rule, scale, experiment, data, roles, run, history)


def refit_decision(
    model: keras.Model,
    experiment: Experiment,
    *,
    data: TrainingData,
    roles: Roles,
    run: RunDirectory,
    history: History,
    out_of_fold: OutOfFold = None,
) -> None:
    """Fit the decision rule of a finished run anew. The weights and the scale of the maps do not depend on it.

    A kill at any moment leaves the old or the new rule, whole: `decision.json` is replaced at once, and what else is written
    serves both. Arguments are those of `finish`.

    Raises:
        UserError: the records have other training examples than the run was trained on.
    """
    if not np.array_equal(example_names(data.images.records, roles.fit), fitted_example_names(run.path)):
        raise UserError(f"{run.path} was trained on other examples than these records have; use another --run_dir")
    logging.info(
        "%s is finished; only its decision rule is fitted anew, and earlier evaluations are of the rule before",
        run.path,
    )
    inference_model = _inference_model(model)
    with run.refitting():
        rule = _fit_decision(KerasNetwork(inference_model), experiment, data, roles, run, out_of_fold)
    scale = read_scale(run.path)
    explainer = None if scale is None else default_explainer(inference_model, rule)
    _write_explanations(explainer, rule, scale, experiment, data, roles, run, history)


def _inference_model(model):
    # A new model, as the compiled one has metrics of ours, and the file has to open where dr_tf is not installed.
    return keras.Model(model.input, model.output, name=model.name)


def _score_held_out(network, experiment, data, roles, run):
    """Write the scores of the held-out fold, and return the distribution of the training features."""
    seed, batch_size = experiment.seed, experiment.validation_batch_size
    feature_distribution, _ = fit_training_features(
        network,
        data.images,
        roles.fit,
        head=experiment.head,
        needs_neighbours=False,
        seed=seed,
        batch_size=batch_size,
    )
    scored = score_rows(
        network,
        data.images,
        roles.held_out,
        requested=DecisionSettings.from_experiment(experiment).requested_modes(network, (PLAIN,)),
        feature_distribution=feature_distribution,
        batch_size=batch_size,
    )
    write_scored_rows(run.path / HELD_OUT, scored)
    return feature_distribution


def _fit_decision(
    network: KerasNetwork,
    experiment: Experiment,
    data: TrainingData,
    roles: Roles,
    run: RunDirectory,
    out_of_fold: OutOfFold,
    feature_distribution: AnyFeatureDistribution | None = None,
) -> Rule:
    return fit_decision(
        network,
        DecisionSettings.from_experiment(experiment),
        images=data.images,
        fit_rows=roles.fit,
        calibration_rows=roles.calibrate,
        run_dir=run.path,
        batch_prior=data.batch_prior,
        out_of_fold=out_of_fold() if out_of_fold else None,
        feature_distribution=feature_distribution,
        seed=experiment.seed,
        batch_size=experiment.validation_batch_size,
    )


def _write_explanations(
    explainer: Explainer | None,
    rule: Rule,
    scale: MapScale | None,
    experiment: Experiment,
    data: TrainingData,
    roles: Roles,
    run: RunDirectory,
    history: History,
) -> None:
    if explainer is None:
        return
    write_explanations(
        run.path / "tensorboard",
        explainer,
        rule,
        images=data.images,
        rows=roles.select,
        step=max(len(history) - 1, 0),
        scale=scale,
        batch_size=experiment.validation_batch_size,
    )
