"""End of a run: fit the decision rule of the trained network, and write everything that inference needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.explain.colour_scale import MapScale, read_scale
from dr_tf.explain.crop_maps import default_explainer
from dr_tf.inference.run import HELD_OUT, MODEL, ScoredRows, write_scored_rows
from dr_tf.models.layers.replace_layers import to_plain_keras
from dr_tf.models.network import KerasNetwork
from dr_tf.training.data_roles import Roles
from dr_tf.training.example_names import example_names, fitted_example_names
from dr_tf.training.experiment import Experiment
from dr_tf.training.fit_decision import (
    DecisionSettings,
    fit_decision,
    fit_training_features,
    score_rows,
    with_earlier_modes,
)
from dr_tf.training.learning_curves import draw_learning_curves
from dr_tf.training.map_scale import fit_map_scale
from dr_tf.training.run_directory import RunDirectory
from dr_tf.training.tensorboard_images import write_explanations
from dr_tf.training.training_data import TrainingData

if TYPE_CHECKING:
    from dr_tf.explain.explainer import Explainer
    from dr_tf.inference.rule import Rule

History = list[dict[str, float]]
OutOfFold = Callable[[], ScoredRows] | None


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run whose network is trained.

    Attributes:
        model: the trained model.
        experiment: the experiment.
        data: its images and batches.
        roles: roles of the examples.
        directory: the run directory.
        history: {metric: value} of each epoch.
        out_of_fold: function that returns the scores that the rule is fitted on in place of the calibration split.
        stored_features: function from row numbers of training examples to their features; None without a feature bank.
    """

    model: keras.Model
    experiment: Experiment
    data: TrainingData
    roles: Roles
    directory: RunDirectory
    history: History
    out_of_fold: OutOfFold = None
    stored_features: Callable[[np.ndarray], np.ndarray] | None = None

    def finish(self) -> None:
        """Calibrate, and write everything that inference needs. `model.keras` comes last: a run that has it is complete."""
        model, experiment, path = self._inference_model(), self.experiment, self.directory.path
        rule = self._decide(KerasNetwork(model))
        explainer, scale = default_explainer(model, rule), None
        if explainer is not None and self.roles.held_out is None:  # maps of a fold are for TensorBoard only
            scale = fit_map_scale(
                path,
                explainer,
                images=self.data.images,
                fit_rows=self.roles.fit,
                calibration_rows=self.roles.calibrate,
                seed=experiment.seed,
                batch_size=experiment.validation_batch_size,
            )
        draw_learning_curves(path / "curves.png", self.history, experiment.monitored)
        with files.atomic_write(path / MODEL) as unfinished:
            to_plain_keras(model).save(unfinished)
        self._write_explanations(explainer, rule, scale)

    def refit_decision(self) -> None:
        """Fit the decision rule of a finished run anew. The weights and the scale of the maps do not depend on it.

        A kill at any moment leaves the old or the new rule, whole: `decision.json` is replaced at once, and what else is
        written serves both.

        Raises:
            UserError: the records have other training examples than the run was trained on.
        """
        path = self.directory.path
        if not np.array_equal(example_names(self.data.images.records, self.data.rows), fitted_example_names(path)):
            raise UserError(f"{path} was trained on other examples than these records have; use another --run_dir")
        logging.info(
            "%s is finished; only its decision rule is fitted anew, and earlier evaluations are of the rule before",
            path,
        )
        model = self._inference_model()
        with self.directory.refitting():
            rule = self._decide(KerasNetwork(model))
        scale = read_scale(path)
        self._write_explanations(None if scale is None else default_explainer(model, rule, scale), rule, scale)

    def _inference_model(self):
        # A new model, as the compiled one has metrics of ours, and the file has to open where dr_tf is not installed.
        return keras.Model(self.model.input, self.model.output, name=self.model.name)

    def _decide(self, network: KerasNetwork) -> Rule:
        """Score the held-out fold, if there is one, and fit the decision rule."""
        experiment, images = self.experiment, self.data.images
        settings, training_features = DecisionSettings.from_experiment(experiment), None
        options: dict[str, Any] = {
            "stored_features": self.stored_features,
            "seed": experiment.seed,
            "batch_size": experiment.validation_batch_size,
        }
        if self.roles.held_out is not None:
            requested = settings.requested_modes(network)
            training_features = fit_training_features(
                network,
                images,
                self.roles.fit,
                head=experiment.head,
                needs_neighbours=bool(requested.votes),
                **options,
            )
            scored = score_rows(
                network,
                images,
                self.roles.held_out,
                requested=requested,
                feature_distribution=training_features.distribution,
                neighbours=training_features.neighbours,
                batch_size=experiment.validation_batch_size,
            )
            path = self.directory.path / HELD_OUT
            write_scored_rows(path, with_earlier_modes(path, scored))
        return fit_decision(
            network,
            settings,
            images=images,
            fit_rows=self.roles.fit,
            calibration_rows=self.roles.calibrate,
            run_dir=self.directory.path,
            batch_prior=self.data.batch_prior,
            out_of_fold=self.out_of_fold() if self.out_of_fold else None,
            training_features=training_features,
            mask_rows=self.data.rows[len(self.roles.fit) :],
            **options,
        )

    def _write_explanations(self, explainer: Explainer | None, rule: Rule, scale: MapScale | None) -> None:
        if explainer is not None:
            write_explanations(
                self.directory.path / "tensorboard",
                explainer,
                rule,
                images=self.data.images,
                rows=self.roles.select,
                step=max(len(self.history) - 1, 0),
                scale=scale,
                batch_size=self.experiment.validation_batch_size,
            )
