"""Compute everything that metrics.json contains about the predictions of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from dr_tf.evaluation.caveats import caveats
from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES, compute_metrics, patients_unknown
from dr_tf.evaluation.metrics.selective_prediction import referral_curves
from dr_tf.evaluation.metrics.subgroups import subgroup_metrics, worst_subgroups
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.label_shift import TRANSDUCTIVE, correct_label_shift
from dr_tf.grades import ABSENT
from dr_tf.inference.decision import ACTIONS

AT_OPERATING_POINTS = ("sensitivity", "specificity", "balanced_accuracy_positive", "ppv", "npv")


def measure(
    predictions: Predictions,
    *,
    excluded: Mapping[str, int] | None = None,
    protocol: str = "",
    prevalence: float | None = None,
    conformal: dict[str, Any] | None = None,
    shifted: dict[str, Any] | None = None,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the content of metrics.json: every metric by its name, beside what was evaluated and on which patients.

    Args:
        predictions: of any task.
        excluded: {reason: number of images that were left out}.
        protocol: how the predictions are independent of training, where the split does not make it plain.
        prevalence: for PPV and NPV at that prevalence.
        conformal: the predictor behind the prediction intervals, as `Conformal.to_dict` returns it.
        shifted: what `measure_shifted` returned, where a correction for label shift was requested.
        bootstrap_samples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        Plain data that can be written as JSON.
    """
    subgroups = subgroup_metrics(predictions, bootstrap_samples=bootstrap_samples, seed=seed)
    worst = {
        metric: group and [group["subgroup"], group["value"]] for metric, group in worst_subgroups(subgroups).items()
    }
    return {
        **_describe(predictions, excluded or {}),
        "protocol": protocol,
        "unit": predictions.unit,
        **compute_metrics(predictions, prevalence=prevalence, bootstrap_samples=bootstrap_samples, seed=seed),
        "operating_points": operating_point_metrics(predictions, bootstrap_samples=bootstrap_samples, seed=seed),
        "confusion": confusion_matrices(predictions),
        "caveats": caveats(predictions),
        "conformal": conformal,
        "referral_curves": referral_curves(predictions, seed=seed),
        "label_shift": shifted,
        "subgroups": subgroups,
        "worst_subgroups": worst,
        "bootstrap_samples": bootstrap_samples,
        "seed": seed,
    }


def _describe(p: Predictions, excluded: Mapping[str, int]) -> dict[str, Any]:
    counts = (p.truth == 1).sum(axis=0) if p.multi_label else np.bincount(p.truth[p.labelled], minlength=len(p.classes))
    return {
        "dataset": p.dataset,
        "split": p.split,
        "n": len(p),
        "patients": len(np.unique(p.patients)),
        "patients_known": not patients_unknown(p),
        "positive": p.positive,
        "threshold": p.thresholds[0] if len(p.thresholds) == 1 else None,
        "thresholds": p.thresholds,
        "positives": int((p.truth_positive == 1).sum()),
        "negatives": int((p.truth_positive == 0).sum()),
        "classes": dict(zip(p.classes, map(int, counts), strict=True)),
        "excluded": dict(excluded),
        "retake_reasons": _counts(p.reason),
        "warnings": _counts(p.warning),
    }


def _counts(texts: np.ndarray | None) -> dict[str, int] | None:
    """Return {reason or warning of the gate: number of images}, most frequent first; None where the gate was not applied."""
    if texts is None:
        return None
    names, counts = np.unique(texts[texts != ""], return_counts=True)
    return dict(sorted(zip(names.tolist(), counts.tolist(), strict=True), key=lambda item: -item[1]))


def operating_point_metrics(
    predictions: Predictions, *, bootstrap_samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compute {operating point: metrics of the decision to refer at that operating point}."""
    return {
        name: compute_metrics(
            dataclasses.replace(predictions, refer=refer),
            bootstrap_samples=bootstrap_samples,
            seed=seed,
            only=AT_OPERATING_POINTS,
        )
        for name, refer in predictions.operating_points.items()
    }


def confusion_matrices(p: Predictions) -> dict[str, Any]:
    """Count the confusion matrices [true][predicted].

    Returns:
        "refer" counts [negative, positive][not referred, referred], or is None where labels do not determine positives.
        "action" counts [negative, positive][clear, retake, refer], with the gate. "classes" is the matrix of the
        classes, "labels" {label: matrix} of several labels, and every other output has its name.
    """
    known = p.take(p.known_positive) if p.known_positive.any() else None
    matrices: dict[str, Any] = {
        "refer": _matrix(known.truth_positive, known.refer.astype(int), 2) if known is not None else None
    }
    if known is not None and (action := known.action) is not None:
        matrices["action"] = [[int((action[known.truth_positive == t] == a).sum()) for a in ACTIONS] for t in (0, 1)]
    for output, truth in p.other_truth.items():
        if (rows := truth != ABSENT).any():
            predicted = p.other_predicted[output][rows]
            matrices[output] = _matrix(truth[rows], predicted, int(max(truth.max(), predicted.max())) + 1)
    if not p.labelled.any():
        return matrices
    labelled = p.take(p.labelled)
    if p.multi_label:
        pairs = zip(p.classes, labelled.truth.T, labelled.predicted.T, strict=True)
        return matrices | {"labels": {name: _matrix(truth, predicted, 2) for name, truth, predicted in pairs}}
    return matrices | {"classes": _matrix(labelled.truth, labelled.predicted, len(p.classes))}


def _matrix(truth: np.ndarray, predicted: np.ndarray, k: int) -> list[list[int]]:
    return np.bincount(truth * k + predicted, minlength=k * k).reshape(k, k).tolist()


def measure_shifted(
    predictions: Predictions,
    *,
    method: str,
    prior: np.ndarray,
    calibration: Predictions | None = None,
    prevalence: float | None = None,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the metrics after a correction for label shift, with the estimated class prior.

    Args:
        predictions: of one class per image.
        method: a name in `label_shift.METHODS`.
        prior: [classes], the prior that the probabilities are calibrated for.
        calibration: predictions on the calibration images, which "bbse" needs.
        prevalence: for PPV and NPV at that prevalence.
        bootstrap_samples: number of bootstrap samples.
        seed: seed of the bootstrap.
    """
    corrected, estimated = correct_label_shift(predictions, method=method, prior=prior, calibration=calibration)
    metrics = compute_metrics(corrected, prevalence=prevalence, bootstrap_samples=bootstrap_samples, seed=seed)
    class_prior = dict(zip(corrected.classes, estimated.tolist(), strict=True))
    return {"method": method, "transductive": TRANSDUCTIVE, "class_prior": class_prior} | metrics
