"""Metrics of the decision to refer, against the run's definition of positive."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dr_tf.evaluation.metrics import calibration_error as calibration
from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import (
    Estimate,
    LazyEstimates,
    MetricFamily,
    auroc,
    average_precision,
    proportion,
    score,
)
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import BootstrapStatistic, RankStatistics, SumMetric, SumStatistics


def binary_metrics(predictions: Predictions, prevalence: float | None) -> MetricFamily:
    """Return the estimates and bootstrap statistics of the decision, over images known to be positive or negative.

    Args:
        predictions: of any task.
        prevalence: for PPV and NPV at that prevalence; None: these are left out.
    """
    rows, patients = predictions.known_positive, int(predictions.patient_codes.max()) + 1
    if not rows.any():
        return {}, []
    codes, known = predictions.patient_codes[rows], predictions.take(rows)
    estimates = _decisions(known, prevalence) | _probabilities(known)
    estimates["auroc"] = partial(auroc, known.p_positive, known.truth_positive, known.patients)
    estimates["average_precision"] = partial(average_precision, known.p_positive, known.truth_positive)
    statistics: list[BootstrapStatistic] = [_sum_statistics(known, prevalence, {"codes": codes, "patients": patients})]
    if 0 < known.truth_positive.sum() < len(known):
        names = {"auroc": "auroc", "average_precision": "average_precision"}
        statistics.append(RankStatistics(known.p_positive, known.truth_positive, codes=codes, **names))
    return estimates, statistics


def _decisions(p: Predictions, prevalence: float | None) -> LazyEstimates:
    truth, refer, patients = p.truth_positive == 1, p.refer, p.patients
    estimates: LazyEstimates = {
        "sensitivity": partial(proportion, refer[truth], patients[truth]),
        "specificity": partial(proportion, ~refer[~truth], patients[~truth]),
        "ppv": partial(proportion, truth[refer], patients[refer]),
        "npv": partial(proportion, ~truth[~refer], patients[~refer]),
    }
    estimates["balanced_accuracy_positive"] = partial(_mean, estimates["sensitivity"], estimates["specificity"], len(p))
    if prevalence is not None:
        rates = estimates["sensitivity"]().value, estimates["specificity"]().value
        for name, value in zip(("ppv", "npv"), confusion.at_prevalence(*rates, prevalence), strict=True):
            note = f"at a prevalence of {100 * prevalence:.3g} %"
            estimates[f"{name}_at_prevalence"] = partial(Estimate, float(value), len(p), note=note)
    return estimates


def _mean(first: Callable[[], Estimate], second: Callable[[], Estimate], n: int) -> Estimate:
    return Estimate((first().value + second().value) / 2, n)


def _probabilities(p: Predictions) -> LazyEstimates:
    from sklearn.metrics import brier_score_loss

    estimates: LazyEstimates = {
        "brier_positive": partial(score, brier_score_loss, p.truth_positive, p.p_positive, labels=[0, 1])
    }
    return estimates | {
        name: partial(_ece, probabilities, p.truth_positive) for name, probabilities in _by_ece_metric(p).items()
    }


def _ece(probabilities: np.ndarray, truth: np.ndarray) -> Estimate:
    return Estimate(calibration.ece(probabilities, truth), len(truth), calibration_error=True, note=calibration.NOTE)


def _by_ece_metric(p: Predictions) -> dict[str, np.ndarray]:
    """Return {name of the ECE: the probabilities that it is of}."""
    named = {"ece_positive": p.p_positive, "ece_positive_uncalibrated": p.p_positive_uncalibrated}
    return {name: values for name, values in named.items() if values is not None}


def _sum_statistics(p: Predictions, prevalence: float | None, patients: dict[str, Any]) -> SumStatistics:
    def of_matrix(metric: Callable[[np.ndarray], np.ndarray]) -> SumMetric:
        return lambda sums: metric(sums["cells"].reshape(-1, 2, 2))

    metrics = {
        "sensitivity": of_matrix(lambda matrix: confusion.recall(matrix)[:, 1]),
        "specificity": of_matrix(lambda matrix: confusion.recall(matrix)[:, 0]),
        "ppv": of_matrix(lambda matrix: confusion.precision(matrix)[:, 1]),
        "npv": of_matrix(lambda matrix: confusion.precision(matrix)[:, 0]),
        "balanced_accuracy_positive": of_matrix(lambda matrix: confusion.recall(matrix).mean(axis=1)),
    }
    columns = {"cells": confusion.one_hot(p.truth_positive, p.refer.astype(int), 2), "n": np.ones((len(p), 1))}
    columns["brier_positive"] = ((p.p_positive - p.truth_positive) ** 2)[:, None]
    columns |= {name: calibration.gaps(values, p.truth_positive) for name, values in _by_ece_metric(p).items()}
    for name in columns.keys() - {"cells", "n"}:
        metrics[name] = calibration.ece_of_column(name)
    if prevalence is not None:
        metrics["ppv_at_prevalence"] = of_matrix(lambda matrix: _at_prevalence(matrix, prevalence)[0])
        metrics["npv_at_prevalence"] = of_matrix(lambda matrix: _at_prevalence(matrix, prevalence)[1])
    return SumStatistics(columns, metrics, **patients)


def _at_prevalence(matrix: np.ndarray, prevalence: float) -> tuple[np.ndarray, np.ndarray]:
    specificity, sensitivity = confusion.recall(matrix).T
    return confusion.at_prevalence(sensitivity, specificity, prevalence)
