"""Metrics of several labels per patient, among them the official score of ODIR-2019."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dr_tf.evaluation.metrics import calibration_error as calibration
from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import Estimate, LazyEstimates, MetricFamily, auroc, proportion, score
from dr_tf.evaluation.metrics.per_class import class_rankings, per_class_metrics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import (
    BootstrapStatistic,
    DerivedStatistics,
    RankStatistics,
    SensitivityAtSpecificity,
    SumMetric,
    SumStatistics,
)

ODIR_THRESHOLD = 0.5
SPECIFICITY = 0.9  # at which the sensitivity of each label is given
_AT_SPECIFICITY = f"sensitivity_at_specificity_{SPECIFICITY:g}"
_ODIR_NOTE = f"flattened patients x labels, threshold {ODIR_THRESHOLD}"


def multi_label_metrics(predictions: Predictions, prevalence: float | None) -> MetricFamily:
    """Return the estimates and bootstrap statistics over rows with all labels known; none for single classes."""
    del prevalence  # concerns the decision to refer only
    if not predictions.multi_label or not predictions.labelled.any():
        return {}, []
    rows, patients = predictions.labelled, int(predictions.patient_codes.max()) + 1
    codes, known = predictions.patient_codes[rows], predictions.take(rows)
    by_patient = {"codes": codes, "patients": patients}
    estimates = _decisions(known) | per_class_metrics(known, known.truth, known.predicted)
    at_specificity = _sensitivities_at_specificity(known, codes)
    estimates |= _probabilistic(known) | _odir(known)
    for i, label in enumerate(known.classes):
        name, positives = f"{_AT_SPECIFICITY}/{label}", int(known.truth[:, i].sum())
        estimates[name] = partial(_sensitivity_at_specificity, at_specificity.get(name), patients, positives)
    return estimates, [
        *at_specificity.values(),
        _confusion_statistics(known, by_patient),
        _error_statistics(known, by_patient),
        _odir_statistics(known, by_patient),
        *class_rankings(known, known.truth, codes),
    ]


def _sensitivities_at_specificity(p: Predictions, codes: np.ndarray) -> dict[str, SensitivityAtSpecificity]:
    """Return {name of the metric: its statistic} of the labels with positives and negatives."""
    return {
        (name := f"{_AT_SPECIFICITY}/{label}"): SensitivityAtSpecificity(
            p.probabilities[:, i], p.truth[:, i], codes=codes, specificity=SPECIFICITY, name=name
        )
        for i, label in enumerate(p.classes)
        if 0 < p.truth[:, i].sum() < len(p)
    }


def _sensitivity_at_specificity(statistic: SensitivityAtSpecificity | None, patients: int, n: int) -> Estimate:
    if statistic is None:
        return Estimate(np.nan, n)
    (values,) = statistic(np.ones((1, patients))).values()
    return Estimate(float(values[0]), n, note="at the best threshold on these cases, not the one that decides")


def _decisions(p: Predictions) -> LazyEstimates:
    from sklearn.metrics import f1_score

    kinds = ("micro", "macro", "weighted")
    estimates: LazyEstimates = {
        f"f1_{kind}": partial(score, f1_score, p.truth, p.predicted, average=kind) for kind in kinds
    }
    return estimates | {"exact_match": partial(proportion, (p.truth == p.predicted).all(axis=1), p.patients)}


def _probabilistic(p: Predictions) -> LazyEstimates:
    brier = ((p.probabilities - p.truth) ** 2).mean()
    return {
        "brier": partial(Estimate, float(brier), len(p), note="mean over labels, 0 to 1"),
        "nll": partial(Estimate, float(_nll(p).mean()), len(p), note="nats, mean over labels"),
        "classwise_ece": partial(_classwise_ece, p),
    }


def _classwise_ece(p: Predictions) -> Estimate:
    value = calibration.classwise_ece(p.probabilities, p.truth)
    return Estimate(value, len(p), calibration_error=True, note=calibration.NOTE)


def _nll(p: Predictions) -> np.ndarray:
    return -np.log(np.maximum(np.where(p.truth == 1, p.probabilities, 1 - p.probabilities), 2**-52))


def _odir(p: Predictions) -> LazyEstimates:
    from sklearn.metrics import cohen_kappa_score, f1_score

    truth, probabilities = p.truth.ravel(), p.probabilities.ravel()
    predicted = (probabilities > ODIR_THRESHOLD).astype(int)
    estimates: LazyEstimates = {
        "odir_kappa": partial(score, cohen_kappa_score, truth, predicted, n=len(p), note=_ODIR_NOTE),
        "odir_f1": partial(score, f1_score, truth, predicted, average="micro", n=len(p), note=_ODIR_NOTE),
        "odir_auc": partial(auroc, probabilities, truth, np.repeat(p.patients, len(p.classes))),
    }
    return {"odir_score": partial(_odir_score, list(estimates.values()), len(p))} | estimates


def _odir_score(components: Sequence[Callable[[], Estimate]], n: int) -> Estimate:
    value = float(np.mean([make().value for make in components]))
    return Estimate(value, n, note=f"mean of kappa, “F1” and AUC; {_ODIR_NOTE}")


def _cells(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return a confusion matrix per label, as columns [n, labels * 4]."""
    return np.concatenate([confusion.one_hot(t, y, 2) for t, y in zip(truth.T, predicted.T, strict=True)], axis=1)


def _confusion_statistics(p: Predictions, by_patient: dict[str, Any]) -> SumStatistics:
    k = len(p.classes)
    used = (p.truth | p.predicted).any(axis=0)

    def of_matrix(metric: Callable[[np.ndarray], np.ndarray]) -> SumMetric:
        return lambda sums: metric(sums["cells"].reshape(-1, k, 2, 2))

    def of_positives(metric: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda matrix: metric(matrix)[..., 1]

    f1 = of_positives(confusion.f1)
    metrics = {
        "f1_micro": of_matrix(lambda matrix: f1(matrix.sum(axis=1))),
        # scikit-learn gives 0 to a label without any example or prediction
        "f1_macro": of_matrix(lambda matrix: np.where(used, f1(matrix), 0).mean(axis=1)),
        "f1_weighted": of_matrix(_f1_weighted),
        "exact_match": lambda sums: sums["exact_match"][:, 0] / sums["n"][:, 0],
    }
    for i, name in enumerate(p.classes):
        for kind in ("recall", "precision", "f1"):
            metric = of_positives(getattr(confusion, kind))
            metrics[f"{kind}/{name}"] = of_matrix(_of_label(metric, i))
    exact = (p.truth == p.predicted).all(axis=1).astype(float)[:, None]
    columns = {"cells": _cells(p.truth, p.predicted), "exact_match": exact, "n": np.ones((len(p), 1))}
    return SumStatistics(columns, metrics, **by_patient)


def _of_label(metric: Callable[[np.ndarray], np.ndarray], i: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda matrix: metric(matrix[:, i])


def _f1_weighted(matrix: np.ndarray) -> np.ndarray:
    support, f1 = matrix[..., 1, :].sum(axis=-1), confusion.f1(matrix)[..., 1]
    with np.errstate(invalid="ignore"):
        return (np.where(support > 0, f1, 0) * support).sum(axis=1) / support.sum(axis=1)


def _error_statistics(p: Predictions, by_patient: dict[str, Any]) -> SumStatistics:
    k = len(p.classes)
    columns = {
        "n": np.ones((len(p), 1)),
        "brier": ((p.probabilities - p.truth) ** 2).mean(axis=1, keepdims=True),
        "nll": _nll(p).mean(axis=1, keepdims=True),
        "classwise_ece": calibration.classwise_gaps(p.probabilities, p.truth),
    }
    metrics = {
        "brier": lambda sums: sums["brier"][:, 0] / sums["n"][:, 0],
        "nll": lambda sums: sums["nll"][:, 0] / sums["n"][:, 0],
        "classwise_ece": lambda sums: calibration.ece_from_gaps(sums["classwise_ece"], sums["n"][:, 0]) / k,
    }
    return SumStatistics(columns, metrics, **by_patient)


def _odir_statistics(p: Predictions, by_patient: dict[str, Any]) -> DerivedStatistics:
    def of_matrix(metric: Callable[[np.ndarray], np.ndarray]) -> SumMetric:
        return lambda sums: metric(sums["cells"].reshape(-1, 2, 2))

    predicted = (p.probabilities > ODIR_THRESHOLD).astype(int)
    cells = _cells(p.truth, predicted).reshape(len(p), -1, 4).sum(axis=1)
    # Between two classes quadratic weights change nothing, and micro F1 over both is accuracy.
    metrics = {"odir_kappa": of_matrix(confusion.quadratic_kappa), "odir_f1": of_matrix(confusion.accuracy)}
    statistics: list[BootstrapStatistic] = [SumStatistics({"cells": cells}, metrics, **by_patient)]
    if 0 < p.truth.sum() < p.truth.size:
        codes = np.repeat(by_patient["codes"], len(p.classes))
        statistics.append(RankStatistics(p.probabilities.ravel(), p.truth.ravel(), codes=codes, auroc="odir_auc"))
    names = ("odir_kappa", "odir_f1", "odir_auc")
    return DerivedStatistics(
        statistics, {"odir_score": lambda values: np.asarray(sum(values.get(name, np.nan) for name in names)) / 3}
    )
