"""Metrics of the outputs that do not decide, such as the risk of macular edema, over the photographs whose label is known."""

from functools import partial

import numpy as np

from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import proportion, score
from dr_tf.evaluation.statistics.bootstrap import Sums
from dr_tf.grades import ABSENT

EDEMA = "dme"  # the output that the joint accuracy is of


def other_output_metrics(predictions, prevalence):
    """As `multiclass_metrics`. `joint_accuracy`, which IDRiD's challenge ranks by: both the grade and the risk are right."""
    del prevalence  # speaks of the positive definition only
    points, statistics = {}, []
    for output, truth in predictions.other_truth.items():
        rows = truth != ABSENT
        if rows.any():
            found = _of_output(output, *_among(predictions, rows))
            points, statistics = points | found[0], statistics + found[1]
    joint = _joint(predictions)
    return (joint[0] | points, [*statistics, joint[1]]) if joint else (points, statistics)


def _among(p, rows):
    return p.take(rows), {"codes": p.patient_codes[rows], "patients": int(p.patient_codes.max()) + 1}


def _of_output(output, p, drawn):
    from sklearn.metrics import cohen_kappa_score

    truth, decided = p.other_truth[output], p.other_predicted[output]
    k = int(max(truth.max(), decided.max())) + 1
    kappa = partial(score, cohen_kappa_score, truth, decided, labels=range(k), weights="quadratic")
    points = {
        f"{output}_accuracy": partial(proportion, truth == decided, p.patients),
        f"{output}_quadratic_kappa": kappa,
    }
    figures = {
        f"{output}_{name}": lambda sums, name=name: getattr(confusion, name)(sums["cells"].reshape(-1, k, k))
        for name in ("accuracy", "quadratic_kappa")
    }
    return points, [Sums({"cells": confusion.one_hot(truth, decided, k)}, figures, **drawn)]


def _joint(predictions):
    """None where there is not both a grade and a risk of edema."""
    if not predictions.graded or EDEMA not in predictions.other_truth:
        return None
    rows = (predictions.other_truth[EDEMA] != ABSENT) & predictions.labelled
    if not rows.any():
        return None
    p, drawn = _among(predictions, rows)
    right = (p.truth == p.predicted) & (p.other_truth[EDEMA] == p.other_predicted[EDEMA])

    def share(sums):
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums["right"][:, 0] / sums["n"][:, 0]

    columns = {"right": right[:, None].astype(float), "n": np.ones((len(p), 1))}
    points = {"joint_accuracy": partial(proportion, right, p.patients)}
    return points, Sums(columns, {"joint_accuracy": share}, **drawn)
