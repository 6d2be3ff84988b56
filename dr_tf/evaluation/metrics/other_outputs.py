"""Metrics of the outputs that do not decide, such as the risk of macular edema, over images whose label is known."""

from functools import partial
from typing import Any

import numpy as np

from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import LazyEstimates, MetricFamily, auroc, proportion, score
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import BootstrapStatistic, RankStatistics, SumStatistics
from dr_tf.grades import ABSENT

EDEMA = "dme"  # the output that the joint accuracy is of


def other_output_metrics(predictions: Predictions, prevalence: float | None) -> MetricFamily:
    """Return the estimates and bootstrap statistics of the other outputs.

    `joint_accuracy`, by which IDRiD's challenge ranks, is the share of images whose grade and risk of edema are both
    right.
    """
    del prevalence  # concerns the decision to refer only
    estimates: LazyEstimates = {}
    statistics: list[BootstrapStatistic] = []
    for output, truth in predictions.other_truth.items():
        rows = truth != ABSENT
        if rows.any():
            of_output = _output_metrics(output, predictions.take(rows), _by_patient(predictions, rows))
            estimates, statistics = estimates | of_output[0], statistics + of_output[1]
    joint = _joint_accuracy(predictions)
    return joint[0] | estimates, statistics + joint[1]


def _by_patient(p: Predictions, rows: np.ndarray) -> dict[str, Any]:
    return {"codes": p.patient_codes[rows], "patients": int(p.patient_codes.max()) + 1}


def _output_metrics(output: str, p: Predictions, by_patient: dict[str, Any]) -> MetricFamily:
    from sklearn.metrics import cohen_kappa_score

    truth, predicted = p.other_truth[output], p.other_predicted[output]
    k = int(max(truth.max(), predicted.max())) + 1
    kappa = partial(score, cohen_kappa_score, truth, predicted, labels=range(k), weights="quadratic")
    estimates: LazyEstimates = {
        f"{output}_accuracy": partial(proportion, truth == predicted, p.patients),
        f"{output}_quadratic_kappa": kappa,
    }
    metrics = {
        f"{output}_accuracy": lambda sums: confusion.accuracy(sums["cells"].reshape(-1, k, k)),
        f"{output}_quadratic_kappa": lambda sums: confusion.quadratic_kappa(sums["cells"].reshape(-1, k, k)),
    }
    statistics: list[BootstrapStatistic] = [
        SumStatistics({"cells": confusion.one_hot(truth, predicted, k)}, metrics, **by_patient)
    ]
    p_positive = p.other_p_positive.get(output)
    if p_positive is not None and 0 < truth.sum() < len(truth):
        estimates[f"{output}_auroc"] = partial(auroc, p_positive, truth, p.patients)
        statistics.append(RankStatistics(p_positive, truth, codes=by_patient["codes"], auroc=f"{output}_auroc"))
    return estimates, statistics


def _joint_accuracy(predictions: Predictions) -> MetricFamily:
    """Return nothing where there is not both a grade and a risk of edema."""
    if not predictions.graded or EDEMA not in predictions.other_truth:
        return {}, []
    rows = (predictions.other_truth[EDEMA] != ABSENT) & predictions.labelled
    if not rows.any():
        return {}, []
    p = predictions.take(rows)
    right = (p.truth == p.predicted) & (p.other_truth[EDEMA] == p.other_predicted[EDEMA])

    def share(sums: dict[str, np.ndarray]) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums["right"][:, 0] / sums["n"][:, 0]

    columns = {"right": right[:, None].astype(float), "n": np.ones((len(p), 1))}
    estimates: LazyEstimates = {"joint_accuracy": partial(proportion, right, p.patients)}
    return estimates, [SumStatistics(columns, {"joint_accuracy": share}, **_by_patient(predictions, rows))]
