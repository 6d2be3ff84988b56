"""Metrics of the action as it is deployed, with the gate, which rejects some images and asks to retake them.

A rejected image is not cleared. The "deployed" metrics count it as referred: they are those of a clinic that refers
whomever it cannot photograph well. The "gradable" metrics leave it out: they are those of the images that are decided
on.
"""

from functools import partial
from typing import Any

import numpy as np

from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import LazyEstimates, MetricFamily, proportion
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import SumMetric, SumStatistics


def deployed_metrics(predictions: Predictions, prevalence: float | None) -> MetricFamily:
    """Return the estimates and bootstrap statistics of the action; none where the gate was not applied."""
    del prevalence
    if predictions.action is None or not predictions.known_positive.any():
        return {}, []
    rows, patients = predictions.known_positive, int(predictions.patient_codes.max()) + 1
    p, codes = predictions.take(rows), predictions.patient_codes[rows]
    truth, action = p.truth_positive == 1, np.asarray(p.action)
    cleared, retaken, referred = action == "clear", action == "retake", action == "refer"
    estimates: LazyEstimates = {
        **_rates("deployed", truth, ~cleared, np.ones(len(p), bool), p.patients),
        **_rates("gradable", truth, referred, ~retaken, p.patients),
        "retake_rate": partial(proportion, retaken, p.patients),
    }
    return estimates, [_sum_statistics(truth, ~cleared, ~retaken, referred, codes=codes, patients=patients)]


def _rates(
    suffix: str, truth: np.ndarray, refer: np.ndarray, included: np.ndarray, patients: np.ndarray
) -> LazyEstimates:
    positive, negative = truth & included, ~truth & included
    return {
        f"sensitivity_{suffix}": partial(proportion, refer[positive], patients[positive]),
        f"specificity_{suffix}": partial(proportion, ~refer[negative], patients[negative]),
    }


def _sum_statistics(
    truth: np.ndarray, not_cleared: np.ndarray, gradable: np.ndarray, refer: np.ndarray, **patients: Any
) -> SumStatistics:
    truth = truth.astype(int)
    columns = {
        "deployed": confusion.one_hot(truth, not_cleared.astype(int), 2),
        "gradable": confusion.one_hot(truth, refer.astype(int), 2) * gradable[:, None],
        "retaken": (~gradable)[:, None].astype(float),
        "n": np.ones((len(truth), 1)),
    }

    def recall(column: str, label: int) -> SumMetric:
        return lambda sums: confusion.recall(sums[column].reshape(-1, 2, 2))[:, label]

    metrics: dict[str, SumMetric] = {
        f"{rate}_{column}": recall(column, label)
        for column in ("deployed", "gradable")
        for rate, label in (("sensitivity", 1), ("specificity", 0))
    }
    metrics["retake_rate"] = lambda sums: sums["retaken"][:, 0] / sums["n"][:, 0]
    return SumStatistics(columns, metrics, **patients)
