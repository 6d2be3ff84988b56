"""Calibration at the end of training: fit the rule that turns a network's outputs into decisions, and write it.

The rule is fitted on the calibration split. It comes with the distribution of the training features (for the gate) and
their nearest neighbours (for the modes that vote).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from dr_tf.console import UserError
from dr_tf.data.batches import image_batches
from dr_tf.data.images import ImageLoader
from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule, reason_for_no_guarantee
from dr_tf.inference.gate import AnyFeatureDistribution, fit_feature_distribution, foreign_limit
from dr_tf.inference.modes import PLAIN, RequestedModes, score_batches
from dr_tf.inference.nearest_neighbours import Neighbours, build_neighbours
from dr_tf.inference.network import Network
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.priors import PRIORS, class_prior
from dr_tf.inference.rule import Rule
from dr_tf.inference.run import CALIBRATION, ScoredRows, read_scored_rows, write_decision, write_scored_rows
from dr_tf.models.heads.head import Head
from dr_tf.training.example_names import example_names

if TYPE_CHECKING:
    from dr_tf.training.experiment import Experiment

_MAX_FEATURES = 2000  # training images that the feature distribution is fitted on


@dataclasses.dataclass(frozen=True)
class TrainingFeatures:
    """What is fitted on the features of the training images.

    Attributes:
        distribution: their distribution.
        neighbours: their nearest neighbours; None if no mode votes.
        foreign_limit: as `dr_tf.inference.gate.foreign_limit` returns it.
    """

    distribution: AnyFeatureDistribution
    neighbours: Neighbours | None = None
    foreign_limit: float | None = None


@dataclasses.dataclass(frozen=True)
class DecisionSettings:
    """Settings of the rule.

    Attributes:
        heads: {output: head}.
        decides: output that decides on referral.
        modes: inference modes to calibrate besides "plain".
        prior: class prior that probabilities are calibrated for: "train", "uniform", {class: share} or a prevalence.
        operating_point: operating point that decides on referral.
    """

    heads: Mapping[str, Head]
    decides: str
    modes: Sequence[str]
    prior: str | dict[str, float] | float
    operating_point: str

    @classmethod
    def from_experiment(cls, experiment: Experiment) -> DecisionSettings:
        """Return the settings of an experiment."""
        return cls(
            heads=experiment.heads,
            decides=experiment.deciding_output,
            modes=experiment.modes,
            prior=experiment.prior,
            operating_point=experiment.operating_point,
        )

    @classmethod
    def from_rule(cls, rule: Rule, modes: Sequence[str] | None = None) -> DecisionSettings:
        """Return the settings that a rule was fitted by; with other modes if they are given."""
        has_name = rule.prior_name in PRIORS
        return cls(
            heads=rule.heads,
            decides=rule.decides,
            modes=[name for name in rule.modes if name != PLAIN] if modes is None else modes,
            prior=rule.prior_name if has_name else dict(zip(rule.head.classes, rule.prior, strict=True)),
            operating_point=rule.operating_point_name,
        )

    @property
    def head(self) -> Head:
        """Head of the output that decides."""
        return self.heads[self.decides]

    def requested_modes(self, network: Network, modes: Sequence[str] | None = None) -> RequestedModes:
        """Return what inference modes need from a network; all modes of the settings by default."""
        modes = (PLAIN, *self.modes) if modes is None else modes
        return RequestedModes.from_names(modes, self.heads, self.decides, ensemble=network.ensemble)


def score_rows(
    network: Network,
    images: ImageLoader,
    rows: np.ndarray,
    *,
    requested: RequestedModes,
    feature_distribution: AnyFeatureDistribution,
    neighbours: Neighbours | None = None,
    batch_size: int = 32,
) -> ScoredRows:
    """Compute the scores of every mode, the logits of every output and the OOD distance of some examples.

    Args:
        network: the network.
        images: images of the record set at the network's size.
        rows: row numbers in the record set.
        requested: modes to compute.
        feature_distribution: distribution of the training features.
        neighbours: nearest neighbours, if a mode needs them.
        batch_size: images per batch.
    """
    batches = image_batches(images, rows=rows, batch_size=batch_size)
    scored = score_batches(network, requested, batches, neighbours=neighbours)
    distances = feature_distribution.distance(scored.features) if len(rows) else np.zeros(0)
    return ScoredRows(rows, scored.scores, scored.outputs, distances)


def fit_training_features(
    network: Network,
    images: ImageLoader,
    rows: np.ndarray,
    *,
    head: Head,
    feature_distribution: AnyFeatureDistribution | None = None,
    needs_neighbours: bool = True,
    stored_features: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> TrainingFeatures:
    """Fit the feature distribution and the nearest neighbours on the features of the training images.

    Args:
        network: the network.
        images: images of the record set at the network's size.
        rows: row numbers of the training examples.
        head: head of the output that decides.
        feature_distribution: the distribution, if it is known already.
        needs_neighbours: whether a mode needs nearest neighbours. Without them a random part of the images is enough.
        stored_features: function from row numbers to features that takes what the feature bank has stored, in half precision.
            Neighbours are always computed from the images.
        seed: seed of the random part.
        batch_size: images per batch.

    Returns:
        The TrainingFeatures.
    """
    rows = rows if needs_neighbours else rows[_random_subset(len(rows), seed)]
    if stored_features and not needs_neighbours:
        features = stored_features(rows)
    else:
        features = np.concatenate([network(x)[1] for x, _ in image_batches(images, rows=rows, batch_size=batch_size)])
    records = images.records
    neighbours = None
    if needs_neighbours:
        neighbours = build_neighbours(features, head.true_classes(records.columns)[rows], len(head.classes))
    if feature_distribution is not None:
        return TrainingFeatures(feature_distribution, neighbours)
    subset = _random_subset(len(rows), seed)
    features, sources = features[subset], records.sources[rows][subset]
    distribution = fit_feature_distribution(features, sources)
    return TrainingFeatures(distribution, neighbours, foreign_limit(distribution, features, sources))


def fit_decision(
    network: Network,
    settings: DecisionSettings,
    *,
    images: ImageLoader,
    fit_rows: np.ndarray,
    calibration_rows: np.ndarray,
    run_dir: str | os.PathLike,
    batch_prior: Sequence[float] | np.ndarray | None = None,
    out_of_fold: ScoredRows | None = None,
    training_features: TrainingFeatures | None = None,
    stored_features: Callable[[np.ndarray], np.ndarray] | None = None,
    mask_rows: np.ndarray | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> Rule:
    """Fit the rule of a network and write it to its run directory, with all that inference needs besides the model.

    Args:
        network: the trained network.
        settings: outputs, modes, prior and operating point.
        images: images of the record set at the network's size.
        fit_rows: row numbers of the training examples.
        calibration_rows: row numbers of the calibration examples. If there are none, only the plain mode is fitted.
        run_dir: the run directory.
        batch_prior: class prior of the training batches, which the probabilities have if nothing calibrates them.
        out_of_fold: scores of the examples by the networks of the folds, for a network that was trained on all of them;
            they take the place of `calibration_rows`.
        training_features: what `fit_training_features` returned, if it was called already; neighbours that are None are
            found if a mode votes.
        stored_features: as in `fit_training_features`.
        mask_rows: row numbers of the examples of which only the lesion masks were trained on.
        seed: seed of random parts of the examples.
        batch_size: images per batch.

    Returns:
        The rule.
    """
    records, heads, head = images.records, settings.heads, settings.head
    columns = records.columns
    rows = calibration_rows if out_of_fold is None else out_of_fold.rows
    modes = (PLAIN, *settings.modes) if len(rows) else (PLAIN,)
    requested = settings.requested_modes(network, modes)
    fitted = training_features
    if fitted is None or (requested.votes and fitted.neighbours is None):
        fitted = fit_training_features(
            network,
            images,
            fit_rows,
            head=head,
            feature_distribution=fitted.distribution if fitted else None,
            needs_neighbours=bool(requested.votes),
            stored_features=stored_features,
            seed=seed,
            batch_size=batch_size,
        )
    scored = out_of_fold or score_rows(
        network,
        images,
        rows,
        requested=requested,
        feature_distribution=fitted.distribution,
        neighbours=fitted.neighbours,
        batch_size=batch_size,
    )
    other_outputs = [output for output in heads if output != settings.decides]
    train_priors = {
        output: class_prior(other.true_classes(columns)[fit_rows], len(other.classes))
        for output, other in heads.items()
    }
    rule = fit_rule(
        heads,
        settings.decides,
        scored.scores,
        CalibrationLabels.from_records(heads, settings.decides, columns, rows),
        modes=modes,
        train_prior=train_priors[settings.decides],
        batch_prior=batch_prior,
        prior=settings.prior,
        operating_point=settings.operating_point,
        distances=scored.distances if len(rows) else None,
        foreign_limit=fitted.foreign_limit,
        outputs={output: scored.outputs[output] for output in other_outputs},
        other_priors={output: train_priors[output] for output in other_outputs},
        ensemble=network.ensemble,
        no_guarantee=reason_for_no_guarantee(columns, rows, out_of_fold is not None),
    )
    folder = pathlib.Path(run_dir)
    write_scored_rows(
        folder / CALIBRATION,
        with_earlier_modes(folder / CALIBRATION, scored),
        names=columns["patient_id" if records.paired else "image_id"][rows],
        fitted=fit_rows,
        fitted_names=example_names(records, fit_rows),
        mask_names=example_names(records, fit_rows[:0] if mask_rows is None else mask_rows),
    )
    preparation = Preparation.from_records_name(records.name, network.image_size)
    write_decision(folder, rule, preparation, fitted.distribution, fitted.neighbours if requested.votes else None)
    _log_rule(rule)
    return rule


def with_earlier_modes(path: pathlib.Path, scored: ScoredRows) -> ScoredRows:
    """Add the scores of the modes of an earlier rule, which evaluation reads if a kill leaves that rule in place.

    Args:
        path: file of the earlier scores of the same network.
        scored: the scores to add to.
    """
    try:
        earlier = read_scored_rows(path)
    except UserError:
        return scored
    if earlier is None or not np.array_equal(earlier[0].rows, scored.rows):
        return scored
    return dataclasses.replace(scored, scores=earlier[0].scores | scored.scores)


def _log_rule(rule):
    point = rule.operating_point()
    logging.info("refers at p(%s) >= %.3f; %s", rule.head.positive, point.threshold, point.note)
    logging.info("calibrated: %s", ", ".join([*rule.modes, *rule.other_outputs]))


def _random_subset(count, seed):
    return np.sort(np.random.default_rng(seed).permutation(count)[:_MAX_FEATURES])
