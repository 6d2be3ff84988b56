"""Figures of the risk of macular edema, over the photographs whose risk is known."""

from functools import partial

import numpy as np

from dr_tf.evaluation import confusion
from dr_tf.evaluation.points import proportion, score
from dr_tf.evaluation.resampling import Sums
from dr_tf.grades import ABSENT, DME_RISKS


def edema_figures(predictions, prevalence):
    """As `single_label_figures`. `joint_accuracy`, which IDRiD's challenge ranks by: both the grade and the risk are right."""
    del prevalence  # speaks of the positive definition only
    if predictions.dme_truth is None:
        return {}, []
    rows = predictions.dme_truth != ABSENT
    points, statistics = _of_risk(*_among(predictions, rows)) if rows.any() else ({}, [])
    if predictions.graded and (rows := rows & predictions.labelled).any():
        joint, statistic = _joint(*_among(predictions, rows))
        return joint | points, [*statistics, statistic]
    return points, statistics


def _among(p, rows):
    return p.take(rows), {"codes": p.patient_codes[rows], "patients": int(p.patient_codes.max()) + 1}


def _of_risk(p, drawn):
    from sklearn.metrics import cohen_kappa_score

    k = len(DME_RISKS)
    kappa = partial(score, cohen_kappa_score, p.dme_truth, p.dme_decided, labels=range(k), weights="quadratic")
    points = {
        "dme_accuracy": partial(proportion, p.dme_truth == p.dme_decided, p.patients),
        "dme_quadratic_kappa": kappa,
    }
    figures = {
        f"dme_{name}": lambda sums, name=name: getattr(confusion, name)(sums["cells"].reshape(-1, k, k))
        for name in ("accuracy", "quadratic_kappa")
    }
    return points, [Sums({"cells": confusion.one_hot(p.dme_truth, p.dme_decided, k)}, figures, **drawn)]


def _joint(p, drawn):
    right = (p.truth == p.decided) & (p.dme_truth == p.dme_decided)

    def share(sums):
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums["right"][:, 0] / sums["n"][:, 0]

    columns = {"right": right[:, None].astype(float), "n": np.ones((len(p), 1))}
    points = {"joint_accuracy": partial(proportion, right, p.patients)}
    return points, Sums(columns, {"joint_accuracy": share}, **drawn)
