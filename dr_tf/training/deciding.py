"""At the end of training: the rule from answers to decisions, fitted on the calibration split."""

import numpy as np
from absl import logging

from dr_tf.console import UserError
from dr_tf.explain.scale import fit_scale, write_scale
from dr_tf.inference.fitting import Truth, fit_rule, unpromised
from dr_tf.inference.gate import fit_cloud
from dr_tf.inference.modes import PLAIN, Asked, answers_over
from dr_tf.inference.neighbours import build_bank
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.priors import class_prior
from dr_tf.inference.run import CALIBRATION, Answered, read_calibration, write_answered, write_decision
from dr_tf.models.network import is_ensemble

_SCALED_BY = 256  # photographs that say what full colour is
_ENOUGH = 2000  # training photographs to learn where features lie


def asked_of(network, experiment, modes):
    """What an experiment's modes ask of a network."""
    return Asked.named(modes, experiment.heads, experiment.output, ensemble=is_ensemble(network.model))


def answer(network, feed, rows, *, asked, cloud, bank=None):
    """The Answered of `rows` of the records."""
    answered = answers_over(network, asked, feed.ordered(rows), bank=bank)
    distances = cloud.distance(answered.features) if len(rows) else np.zeros(0)
    return Answered(rows, answered.scores, answered.outputs, distances)


def fit_decision(network, feed, run_dir, *, answered=None, cloud=None):
    """Writes the decision of a run, and returns its rule. On no photographs only the plain mode is fitted.

    Args:
        answered: what other networks of the same recipe answered to photographs that they had not learned from, where this
            one has learned from all there are; without it the calibration split is answered by this one.
        cloud: where the features of training lie, if that is known already.
    """
    experiment, columns = feed.experiment, feed.records.columns
    heads, head = experiment.heads, experiment.head
    by_others = answered is not None
    rows = answered.rows if by_others else feed.roles.calibrate
    modes = (PLAIN, *experiment.modes) if len(rows) else (PLAIN,)
    asked = asked_of(network, experiment, modes)
    cloud, bank = known_features(network, feed, cloud=cloud, bank=bool(asked.votes))
    answered = answered or answer(network, feed, rows, asked=asked, cloud=cloud, bank=bank)
    others = [output for output in heads if output != experiment.output]
    rule = fit_rule(
        heads,
        experiment.output,
        answered.scores,
        Truth.of_rows(heads, experiment.output, columns, rows),
        modes=modes,
        train_prior=class_prior(head.strata(columns)[feed.roles.fit], len(head.classes)),
        learned_prior=feed.prior,
        prior=experiment.prior,
        point=experiment.operating_point,
        distances=answered.distances if len(rows) else None,
        outputs={output: answered.outputs[output] for output in others},
        other_priors={
            output: class_prior(heads[output].strata(columns)[feed.roles.fit], len(heads[output].classes))
            for output in others
        },
        ensemble=is_ensemble(network.model),
        unpromised=unpromised(columns, rows, by_others),
    )
    names = columns["patient_id" if feed.records.paired else "image_id"][rows]
    fitted = {"fitted": feed.roles.fit, "fitted_names": names_of(feed.records, feed.roles.fit)}
    write_answered(run_dir / CALIBRATION, answered, names=names, **fitted)
    write_decision(run_dir, rule, Preparation.of_records(feed.records.name, network.image_size), cloud, bank)
    _tell(rule)
    return rule


def keep_scale(path, explainer, feed):
    """What colours of maps mean, fitted on calibration photographs, or on some that were learned from where there are none."""
    rows = feed.roles.calibrate if len(feed.roles.calibrate) else feed.roles.fit
    some = np.sort(np.random.default_rng(feed.experiment.seed).permutation(rows)[:_SCALED_BY])
    fitted = fit_scale(explainer, (element[0] for element in feed.ordered(some)))
    write_scale(path, fitted)
    return fitted


def names_of(records, rows):
    """What examples are called in whatever records they stand: the set's name, and their own in it."""
    own = records.columns["patient_id" if records.paired else "image_id"][rows]
    if len(records.parts) > 1:  # whose names begin with that of the set
        return own
    return np.array([f"{dataset}/{name}" for dataset, name in zip(records.columns["dataset"][rows], own, strict=True)])


def learned_names(run_dir):
    """What a run's network has learned from, called as `names_of` calls it."""
    found = read_calibration(run_dir)
    if found is None or "fitted_names" not in found[1]:
        raise UserError(f"{run_dir} does not say what it was fitted on ({CALIBRATION}): train it again")
    return found[1]["fitted_names"]


def known_features(network, feed, *, cloud=None, bank=True):
    """(cloud, bank or None) of the fitted photographs: what the gate measures from, and who votes."""
    if cloud is not None and not bank:
        return cloud, None
    head, rows, seed = feed.experiment.head, feed.roles.fit, feed.experiment.seed
    rows = rows if bank else rows[_some(len(rows), seed)]
    features = np.concatenate([network(element[0])[1] for element in feed.ordered(rows)])
    if cloud is None:
        some = _some(len(rows), seed)
        cloud = fit_cloud(features[some], feed.records.sources[rows][some])
    return cloud, build_bank(features, head.strata(feed.records.columns)[rows], len(head.classes)) if bank else None


def _tell(rule):
    point = rule.operating_point()
    logging.info("refers from p(%s) %.3f on; %s", rule.head.positive, point.threshold, point.note)
    logging.info("calibrated: %s", ", ".join([*rule.modes, *rule.others]))


def _some(count, seed):
    return np.sort(np.random.default_rng(seed).permutation(count)[:_ENOUGH])
