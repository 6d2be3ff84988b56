"""Metrics of one class per image: agreement, each class by itself, probabilities and prediction intervals."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from dr_tf.evaluation.metrics import calibration_error as calibration
from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import Estimate, LazyEstimates, MetricFamily, proportion, score
from dr_tf.evaluation.metrics.per_class import class_rankings, per_class_metrics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import SumMetric, SumStatistics


def multiclass_metrics(predictions: Predictions, prevalence: float | None) -> MetricFamily:
    """Return the estimates and bootstrap statistics over images whose class is known; none for several labels."""
    del prevalence  # concerns the decision to refer only
    if predictions.multi_label or not predictions.labelled.any():
        return {}, []
    rows, patients = predictions.labelled, int(predictions.patient_codes.max()) + 1
    codes, known = predictions.patient_codes[rows], predictions.take(rows)
    by_patient = {"codes": codes, "patients": patients}
    outcomes = _one_hot(known, known.truth)
    estimates = _agreement(known) | per_class_metrics(known, outcomes, _one_hot(known, known.predicted))
    estimates |= _probabilistic(known) | _coverage(known)
    coverage = [] if known.prediction_intervals is None else [_coverage_statistics(known, by_patient)]
    rankings = class_rankings(known, outcomes, codes)
    return estimates, [
        _confusion_statistics(known, by_patient),
        _error_statistics(known, by_patient),
        *coverage,
        *rankings,
    ]


def _agreement(p: Predictions) -> LazyEstimates:
    from sklearn import metrics

    agreement = partial(partial, score)
    estimates: LazyEstimates = {
        "accuracy": partial(proportion, p.truth == p.predicted, p.patients),
        "balanced_accuracy": agreement(metrics.balanced_accuracy_score, p.truth, p.predicted),
        "quadratic_kappa": agreement(
            metrics.cohen_kappa_score, p.truth, p.predicted, labels=range(len(p.classes)), weights="quadratic"
        ),
        "mae": agreement(metrics.mean_absolute_error, p.truth, p.predicted),
        "f1_macro": agreement(metrics.f1_score, p.truth, p.predicted, average="macro"),
        "f1_weighted": agreement(metrics.f1_score, p.truth, p.predicted, average="weighted"),
    }
    if len(p.classes) > 2:
        estimates["off_by_one"] = partial(proportion, np.abs(p.truth - p.predicted) <= 1, p.patients)
    return estimates


def _probabilistic(p: Predictions) -> LazyEstimates:
    from sklearn.metrics import brier_score_loss, log_loss

    estimates: LazyEstimates = {}
    labels = range(len(p.classes))
    for suffix, probabilities in _by_suffix(p).items():
        arrays = p.truth, _normalized(probabilities)
        estimates[f"brier{suffix}"] = partial(
            score, brier_score_loss, *arrays, labels=labels, scale_by_half=False, note="summed over classes, 0 to 2"
        )
        estimates[f"nll{suffix}"] = partial(score, log_loss, *arrays, labels=labels, note="nats")
        estimates[f"ece{suffix}"] = partial(_ece, probabilities, p.truth)
    return estimates | {"classwise_ece": partial(_classwise_ece, p)}


def _by_suffix(p: Predictions) -> dict[str, np.ndarray]:
    """Return {suffix of a metric's name: the probabilities that it is of}."""
    both = {"": p.probabilities, "_uncalibrated": p.uncalibrated}
    return {suffix: probabilities for suffix, probabilities in both.items() if probabilities is not None}


def _normalized(probabilities: np.ndarray) -> np.ndarray:
    """Single precision sums to 1 only nearly."""
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def _ece(probabilities: np.ndarray, truth: np.ndarray) -> Estimate:
    value = calibration.ece(*calibration.top_label(probabilities, truth))
    return Estimate(value, len(truth), calibration_error=True, note=f"most probable class, {calibration.NOTE}")


def _classwise_ece(p: Predictions) -> Estimate:
    value = calibration.classwise_ece(p.probabilities, _one_hot(p, p.truth))
    return Estimate(value, len(p), calibration_error=True, note=calibration.NOTE)


def _coverage(p: Predictions) -> LazyEstimates:
    if p.prediction_intervals is None:
        return {}
    low, high = p.prediction_intervals.T
    width = Estimate(float((high - low + 1).mean()), len(p))
    covered = (low <= p.truth) & (p.truth <= high)
    estimates: LazyEstimates = {
        "interval_coverage": partial(proportion, covered, p.patients),
        "interval_width": lambda: width,
    }
    for i, name in enumerate(p.classes):
        rows = p.truth == i
        estimates[f"interval_coverage/{name}"] = partial(proportion, covered[rows], p.patients[rows])
    return estimates


def _one_hot(p: Predictions, numbers: np.ndarray) -> np.ndarray:
    return (numbers[:, None] == np.arange(len(p.classes))).astype(float)


def _confusion_statistics(p: Predictions, by_patient: dict[str, Any]) -> SumStatistics:
    """Bootstrap the metrics of the confusion matrix; macro means are over classes with any example or prediction."""
    k = len(p.classes)
    present = np.isin(np.arange(k), p.truth)
    used = present | np.isin(np.arange(k), p.predicted)

    def of_matrix(metric: Callable[[np.ndarray], np.ndarray]) -> SumMetric:
        return lambda sums: metric(sums["cells"].reshape(-1, k, k))

    metrics = {
        name: of_matrix(getattr(confusion, name)) for name in ("accuracy", "quadratic_kappa", "mae", "off_by_one")
    }
    metrics["balanced_accuracy"] = of_matrix(lambda matrix: confusion.recall(matrix)[:, present].mean(axis=1))
    metrics["f1_macro"] = of_matrix(lambda matrix: confusion.f1(matrix)[:, used].mean(axis=1))
    metrics["f1_weighted"] = of_matrix(confusion.f1_weighted)
    for i, name in enumerate(p.classes):
        for kind in ("recall", "precision", "f1"):
            metric: Callable[[np.ndarray], np.ndarray] = getattr(confusion, kind)
            metrics[f"{kind}/{name}"] = of_matrix(_of_class(metric, i))
    return SumStatistics({"cells": confusion.one_hot(p.truth, p.predicted, k)}, metrics, **by_patient)


def _of_class(metric: Callable[[np.ndarray], np.ndarray], i: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda matrix: metric(matrix)[:, i]


def _error_statistics(p: Predictions, by_patient: dict[str, Any]) -> SumStatistics:
    """Bootstrap all metrics that are means over images, or made of the gaps in bins."""
    outcomes, n, k = _one_hot(p, p.truth), np.ones((len(p), 1)), len(p.classes)
    columns = {"n": n, "classwise_ece": calibration.classwise_gaps(p.probabilities, outcomes)}
    metrics: dict[str, SumMetric] = {
        "classwise_ece": lambda sums: calibration.ece_from_gaps(sums["classwise_ece"], sums["n"][:, 0]) / k,
    }
    for suffix, probabilities in _by_suffix(p).items():
        normalized = _normalized(probabilities)
        columns[f"brier{suffix}"] = ((normalized - outcomes) ** 2).sum(axis=1, keepdims=True)
        columns[f"nll{suffix}"] = -np.log(np.maximum((normalized * outcomes).sum(axis=1, keepdims=True), 2**-52))
        columns[f"ece{suffix}"] = calibration.gaps(*calibration.top_label(probabilities, p.truth))
    for name in columns.keys() - {"n", "classwise_ece"}:
        metrics[name] = calibration.ece_of_column(name)
    return SumStatistics(columns, metrics, **by_patient)


def _coverage_statistics(p: Predictions, by_patient: dict[str, Any]) -> SumStatistics:
    low, high = np.asarray(p.prediction_intervals).T
    outcomes = _one_hot(p, p.truth)
    covered = ((low <= p.truth) & (p.truth <= high))[:, None] * outcomes
    columns = {"covered": covered, "in_class": outcomes, "width": (high - low + 1.0)[:, None]}

    def of_class(i: int) -> SumMetric:
        def coverage(sums: dict[str, np.ndarray]) -> np.ndarray:
            with np.errstate(divide="ignore", invalid="ignore"):
                return sums["covered"][:, i] / sums["in_class"][:, i]

        return coverage

    metrics = {f"interval_coverage/{name}": of_class(i) for i, name in enumerate(p.classes)}
    metrics["interval_coverage"] = lambda s: s["covered"].sum(axis=1) / s["in_class"].sum(axis=1)
    metrics["interval_width"] = lambda s: s["width"][:, 0] / s["in_class"].sum(axis=1)
    return SumStatistics(columns, metrics, **by_patient)
