"""Figures of the decision to refer, against the run's positive definition."""

from functools import partial

import numpy as np

from dr_tf.evaluation.metrics import calibration_error as calibration
from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import Estimate, auroc, average_precision, proportion, score
from dr_tf.evaluation.statistics.bootstrap import Ranking, Sums


def binary_metrics(predictions, prevalence):
    """(name -> function that makes its Estimate, statistics for the bootstrap) over the photographs known to be positive or not."""
    rows, patients = predictions.known_positive, int(predictions.patient_codes.max()) + 1
    if not rows.any():
        return {}, []
    codes, known = predictions.patient_codes[rows], predictions.take(rows)
    points = _decisions(known, prevalence) | _probabilities(known)
    points["auroc"] = partial(auroc, known.p_positive, known.truth_positive, known.patients)
    points["average_precision"] = partial(average_precision, known.p_positive, known.truth_positive)
    statistics = [_sums(known, prevalence, {"codes": codes, "patients": patients})]
    if 0 < known.truth_positive.sum() < len(known):
        names = {"auroc": "auroc", "average_precision": "average_precision"}
        statistics.append(Ranking(known.p_positive, known.truth_positive, codes=codes, **names))
    return points, statistics


def _decisions(p, prevalence):
    truth, refer, patients = p.truth_positive == 1, p.refer, p.patients
    points = {
        "sensitivity": partial(proportion, refer[truth], patients[truth]),
        "specificity": partial(proportion, ~refer[~truth], patients[~truth]),
        "ppv": partial(proportion, truth[refer], patients[refer]),
        "npv": partial(proportion, ~truth[~refer], patients[~refer]),
    }
    points["balanced_accuracy_positive"] = partial(_mean, points["sensitivity"], points["specificity"], len(p))
    if prevalence is not None:
        rates = points["sensitivity"]().value, points["specificity"]().value
        for name, value in zip(("ppv", "npv"), confusion.at_prevalence(*rates, prevalence), strict=True):
            note = f"at a prevalence of {100 * prevalence:.3g} %"
            points[f"{name}_at_prevalence"] = partial(Estimate, float(value), len(p), note=note)
    return points


def _mean(one, other, n):
    return Estimate((one().value + other().value) / 2, n)


def _probabilities(p):
    from sklearn.metrics import brier_score_loss

    points = {"brier_positive": partial(score, brier_score_loss, p.truth_positive, p.p_positive, labels=[0, 1])}
    return points | {name: partial(_ece, stated, p.truth_positive) for name, stated in _stated(p).items()}


def _ece(stated, truth):
    return Estimate(calibration.ece(stated, truth), len(truth), calibration_error=True, note=calibration.KIND)


def _stated(p):
    each = {"ece_positive": p.p_positive, "ece_positive_uncalibrated": p.p_positive_uncalibrated}
    return {name: values for name, values in each.items() if values is not None}


def _sums(p, prevalence, drawn):
    def of(figure):
        return lambda sums: figure(sums["cells"].reshape(-1, 2, 2))

    figures = {
        "sensitivity": of(lambda matrix: confusion.recall(matrix)[:, 1]),
        "specificity": of(lambda matrix: confusion.recall(matrix)[:, 0]),
        "ppv": of(lambda matrix: confusion.precision(matrix)[:, 1]),
        "npv": of(lambda matrix: confusion.precision(matrix)[:, 0]),
        "balanced_accuracy_positive": of(lambda matrix: confusion.recall(matrix).mean(axis=1)),
    }
    columns = {"cells": confusion.one_hot(p.truth_positive, p.refer.astype(int), 2), "n": np.ones((len(p), 1))}
    columns["brier_positive"] = ((p.p_positive - p.truth_positive) ** 2)[:, None]
    columns |= {name: calibration.gaps(values, p.truth_positive) for name, values in _stated(p).items()}
    for name in columns.keys() - {"cells", "n"}:
        figures[name] = lambda sums, name=name: calibration.from_sums(sums[name], sums["n"][:, 0])
    if prevalence is not None:
        for i, name in enumerate(("ppv", "npv")):
            figures[f"{name}_at_prevalence"] = of(lambda matrix, i=i: _at_prevalence(matrix, prevalence)[i])
    return Sums(columns, figures, **drawn)


def _at_prevalence(matrix, prevalence):
    specificity, sensitivity = confusion.recall(matrix).T
    return confusion.at_prevalence(sensitivity, specificity, prevalence)
