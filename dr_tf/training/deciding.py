"""At the end of training: the rule from logits to decisions, fitted on the calibration split."""

import dataclasses

import numpy as np
from absl import logging

from dr_tf.inference.fitting import Truth, fit_rule
from dr_tf.inference.gate import fit_cloud
from dr_tf.inference.modes import answers_over, by_neighbours
from dr_tf.inference.neighbours import build_bank
from dr_tf.inference.network import Network
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.priors import class_prior
from dr_tf.inference.rule import PLAIN
from dr_tf.inference.run import write_calibration, write_decision
from dr_tf.models.heads.head import positives

_ENOUGH = 2000  # training photographs to learn where features lie


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the rule is fitted on: rows of the records, what was answered to them, how far they lie from what was fitted."""

    rows: np.ndarray
    logits: dict[str, np.ndarray]  # mode -> [n, outputs]
    distances: np.ndarray


def judge(network, feed, rows, *, modes, cloud, bank=None):
    answered = answers_over(network, feed.experiment.head, modes, feed.ordered(rows), bank=bank)
    distances = cloud.distance(answered.features) if len(rows) else np.zeros(0)
    return Judged(rows, answered.logits, distances)


def fit_decision(model, feed, run_dir, *, judged=None, cloud=None):
    """Writes the decision of a run. On no photographs only the plain mode is fitted.

    `judged`: by other networks of the same recipe, where this one has learned from all photographs there are; else the
    calibration split by this one. `cloud`: where the features of training lie, if that is known already.
    """
    head, network = feed.experiment.head, Network(model)
    rows = feed.roles.calibrate if judged is None else judged.rows
    modes = (PLAIN, *feed.experiment.modes) if len(rows) else (PLAIN,)
    cloud, bank = known_features(network, feed, cloud=cloud, bank=by_neighbours(modes))
    judged = judged or judge(network, feed, rows, modes=modes, cloud=cloud, bank=bank)
    rule = fit_rule(
        head,
        judged.logits,
        _truth(head, feed.records.columns, rows),
        train_prior=class_prior(head.strata(feed.records.columns)[feed.roles.fit], len(head.classes)),
        learned_prior=feed.prior,
        prior=feed.experiment.prior,
        point=feed.experiment.operating_point,
        distances=judged.distances if len(rows) else None,
    )
    names = feed.records.columns["patient_id" if feed.records.paired else "image_id"][rows]
    write_calibration(run_dir, fitted=feed.roles.fit, rows=rows, names=names, logits=judged.logits)
    write_decision(run_dir, rule, Preparation.of_records(feed.records.name, network.image_size), cloud, bank)
    _tell(rule)
    return rule


def known_features(network, feed, *, cloud=None, bank=True):
    """(cloud, bank or None) of the fitted photographs: what the gate measures from, and who votes."""
    if cloud is not None and not bank:
        return cloud, None
    head, rows, seed = feed.experiment.head, feed.roles.fit, feed.experiment.seed
    rows = rows if bank else rows[_some(len(rows), seed)]
    features = network.over(feed.ordered(rows))[1]
    if cloud is None:
        cloud = fit_cloud(features[_some(len(rows), seed)])
    return cloud, build_bank(features, head.strata(feed.records.columns)[rows], len(head.classes)) if bank else None


def _tell(rule):
    point = rule.mode(PLAIN).points[rule.point]
    logging.info("refers from p_positive %.3f on; %s", point.threshold, point.note)
    logging.info("calibrated: %s", ", ".join(rule.modes))


def _truth(head, columns, rows):
    return Truth(
        head.strata(columns)[rows], positives(head.positive, columns)[rows], np.asarray(columns["patient_id"])[rows]
    )


def _some(count, seed):
    return np.sort(np.random.default_rng(seed).permutation(count)[:_ENOUGH])
