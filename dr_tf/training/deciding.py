"""At the end of training: the rule from logits to decisions, fitted on the calibration split."""

import numpy as np
from absl import logging

from dr_tf.inference.fitting import Truth, fit_rule
from dr_tf.inference.gate import fit_cloud
from dr_tf.inference.network import Network
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.priors import class_prior
from dr_tf.inference.rule import PLAIN
from dr_tf.inference.run import write_decision
from dr_tf.models.heads.head import positives

_ENOUGH = 2000  # training photographs to learn where features lie


def fit_decision(model, feed, rows, run_dir):
    """Writes the decision of a run that was calibrated on `rows`, which may be none."""
    head, network = feed.experiment.head, Network(model)
    cloud = fit_cloud(network.over(feed.ordered(_some(feed.roles.fit, feed.experiment.seed)))[1])
    logits, features = network.over(feed.ordered(rows)) if len(rows) else (np.zeros((0, head.outputs)), None)
    rule = fit_rule(
        head,
        {PLAIN: logits},
        _truth(head, feed.records.columns, rows),
        train_prior=class_prior(head.strata(feed.records.columns)[feed.roles.fit], len(head.classes)),
        learned_prior=feed.prior,
        prior=feed.experiment.prior,
        point=feed.experiment.operating_point,
        distances=None if features is None else cloud.distance(features),
    )
    write_decision(run_dir, rule, Preparation.of_records(feed.records.name, network.image_size), cloud)
    point = rule.mode(PLAIN).points[rule.point]
    logging.info("refers from p_positive %.3f on; %s", point.threshold, point.note)
    return rule


def _truth(head, columns, rows):
    return Truth(
        head.strata(columns)[rows], positives(head.positive, columns)[rows], np.asarray(columns["patient_id"])[rows]
    )


def _some(rows, seed):
    chosen = np.random.default_rng(seed).permutation(len(rows))[:_ENOUGH]
    return rows[np.sort(chosen)]
