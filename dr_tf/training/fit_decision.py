"""At the end of training: the rule from answers to decisions, fitted on the calibration split."""

import numpy as np
from absl import logging

from dr_tf.console import UserError
from dr_tf.explain.colour_scale import fit_scale, write_scale
from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule, no_guarantee
from dr_tf.inference.gate import fit_feature_distribution
from dr_tf.inference.modes import PLAIN, RequestedModes, score_batches
from dr_tf.inference.nearest_neighbours import build_neighbours
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.priors import class_prior
from dr_tf.inference.run import CALIBRATION, ScoredRows, read_calibration, write_decision, write_scored_rows
from dr_tf.models.network import is_ensemble

_SCALED_BY = 256  # photographs that say what full colour is
_ENOUGH = 2000  # training photographs to learn where features lie


def requested_modes(network, experiment, modes):
    """What an experiment's modes ask of a network."""
    return RequestedModes.named(modes, experiment.heads, experiment.output, ensemble=is_ensemble(network.model))


def score_rows(network, data, rows, *, requested, feature_distribution, neighbours=None):
    """The ScoredRows of `rows` of the records."""
    scored = score_batches(network, requested, data.ordered(rows), neighbours=neighbours)
    distances = feature_distribution.distance(scored.features) if len(rows) else np.zeros(0)
    return ScoredRows(rows, scored.scores, scored.outputs, distances)


def fit_decision(network, data, run_dir, *, scored=None, feature_distribution=None):
    """Writes the decision of a run, and returns its rule. On no photographs only the plain mode is fitted.

    Args:
        scored: what other networks of the same recipe scored to photographs that they had not learned from, where this
            one has learned from all there are; without it the calibration split is scored by this one.
        feature_distribution: where the features of training lie, if that is known already.
    """
    experiment, columns = data.experiment, data.records.columns
    heads, head = experiment.heads, experiment.head
    by_others = scored is not None
    rows = scored.rows if by_others else data.roles.calibrate
    modes = (PLAIN, *experiment.modes) if len(rows) else (PLAIN,)
    requested = requested_modes(network, experiment, modes)
    feature_distribution, neighbours = known_features(
        network, data, feature_distribution=feature_distribution, neighbours=bool(requested.votes)
    )
    scored = scored or score_rows(
        network, data, rows, requested=requested, feature_distribution=feature_distribution, neighbours=neighbours
    )
    others = [output for output in heads if output != experiment.output]
    rule = fit_rule(
        heads,
        experiment.output,
        scored.scores,
        CalibrationLabels.of_rows(heads, experiment.output, columns, rows),
        modes=modes,
        train_prior=class_prior(head.strata(columns)[data.roles.fit], len(head.classes)),
        learned_prior=data.prior,
        prior=experiment.prior,
        point=experiment.operating_point,
        distances=scored.distances if len(rows) else None,
        outputs={output: scored.outputs[output] for output in others},
        other_priors={
            output: class_prior(heads[output].strata(columns)[data.roles.fit], len(heads[output].classes))
            for output in others
        },
        ensemble=is_ensemble(network.model),
        no_guarantee=no_guarantee(columns, rows, by_others),
    )
    names = columns["patient_id" if data.records.paired else "image_id"][rows]
    fitted = {"fitted": data.roles.fit, "fitted_names": names_of(data.records, data.roles.fit)}
    write_scored_rows(run_dir / CALIBRATION, scored, names=names, **fitted)
    write_decision(
        run_dir, rule, Preparation.of_records(data.records.name, network.image_size), feature_distribution, neighbours
    )
    _tell(rule)
    return rule


def keep_scale(path, explainer, data):
    """What colours of maps mean, fitted on calibration photographs, or on some that were learned from where there are none."""
    rows = data.roles.calibrate if len(data.roles.calibrate) else data.roles.fit
    some = np.sort(np.random.default_rng(data.experiment.seed).permutation(rows)[:_SCALED_BY])
    fitted = fit_scale(explainer, (element[0] for element in data.ordered(some)))
    write_scale(path, fitted)
    return fitted


def names_of(records, rows):
    """What examples are called in whatever records they stand: the set's name, and their own in it."""
    own = records.columns["patient_id" if records.paired else "image_id"][rows]
    if len(records.parts) > 1:  # whose names begin with that of the set
        return own
    return np.array([f"{dataset}/{name}" for dataset, name in zip(records.columns["dataset"][rows], own, strict=True)])


def fitted_names(run_dir):
    """What a run's network has learned from, called as `names_of` calls it."""
    found = read_calibration(run_dir)
    if found is None or "fitted_names" not in found[1]:
        raise UserError(f"{run_dir} does not say what it was fitted on ({CALIBRATION}): train it again")
    return found[1]["fitted_names"]


def known_features(network, data, *, feature_distribution=None, neighbours=True):
    """(feature_distribution, neighbours or None) of the fitted photographs: what the gate measures from, and who votes."""
    if feature_distribution is not None and not neighbours:
        return feature_distribution, None
    head, rows, seed = data.experiment.head, data.roles.fit, data.experiment.seed
    rows = rows if neighbours else rows[_some(len(rows), seed)]
    features = np.concatenate([network(element[0])[1] for element in data.ordered(rows)])
    if feature_distribution is None:
        some = _some(len(rows), seed)
        feature_distribution = fit_feature_distribution(features[some], data.records.sources[rows][some])
    return feature_distribution, build_neighbours(
        features, head.strata(data.records.columns)[rows], len(head.classes)
    ) if neighbours else None


def _tell(rule):
    point = rule.operating_point()
    logging.info("refers from p(%s) %.3f on; %s", rule.head.positive, point.threshold, point.note)
    logging.info("calibrated: %s", ", ".join([*rule.modes, *rule.others]))


def _some(count, seed):
    return np.sort(np.random.default_rng(seed).permutation(count)[:_ENOUGH])
