"""Figures of one class a photograph: agreement, each class by itself, probabilities."""

from functools import partial

import numpy as np

from dr_tf.evaluation.metrics import calibration_error as calibration
from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import Estimate, proportion, score
from dr_tf.evaluation.metrics.per_class import class_rankings, per_class_metrics
from dr_tf.evaluation.statistics.bootstrap import Sums


def multiclass_metrics(predictions, prevalence):
    """(name -> function that makes its Estimate, statistics for the bootstrap) over the photographs whose class is known."""
    del prevalence  # speaks of the positive definition only
    if predictions.multi_label or not predictions.labelled.any():
        return {}, []
    rows, patients = predictions.labelled, int(predictions.patient_codes.max()) + 1
    drawn = {"codes": predictions.patient_codes[rows], "patients": patients}
    known = predictions.take(rows)
    outcomes = _one_hot(known, known.truth)
    points = _agreement(known) | per_class_metrics(known, outcomes, _one_hot(known, known.predicted))
    points |= _probabilistic(known) | _intervals(known)
    rankings = class_rankings(known, outcomes, drawn["codes"])
    held = [_held(known, drawn)] if known.prediction_intervals is not None else []
    return points, [_counts(known, drawn), _errors(known, drawn), *held, *rankings]


def _agreement(p):
    from sklearn import metrics

    agree = partial(partial, score)
    points = {
        "accuracy": partial(proportion, p.truth == p.predicted, p.patients),
        "balanced_accuracy": agree(metrics.balanced_accuracy_score, p.truth, p.predicted),
        "quadratic_kappa": agree(
            metrics.cohen_kappa_score, p.truth, p.predicted, labels=range(len(p.classes)), weights="quadratic"
        ),
        "mae": agree(metrics.mean_absolute_error, p.truth, p.predicted),
        "f1_macro": agree(metrics.f1_score, p.truth, p.predicted, average="macro"),
        "f1_weighted": agree(metrics.f1_score, p.truth, p.predicted, average="weighted"),
    }
    if len(p.classes) > 2:
        points["off_by_one"] = partial(proportion, np.abs(p.truth - p.predicted) <= 1, p.patients)
    return points


def _probabilistic(p):
    from sklearn.metrics import brier_score_loss, log_loss

    points, labels = {}, range(len(p.classes))
    for suffix, probabilities in _stated(p).items():
        arrays = p.truth, _whole(probabilities)
        points[f"brier{suffix}"] = partial(
            score, brier_score_loss, *arrays, labels=labels, scale_by_half=False, note="summed over classes, 0 to 2"
        )
        points[f"nll{suffix}"] = partial(score, log_loss, *arrays, labels=labels, note="nats")
        points[f"ece{suffix}"] = partial(_ece, probabilities, p.truth)
    return points | {"classwise_ece": partial(_classwise_ece, p)}


def _stated(p):
    both = {"": p.probabilities, "_uncalibrated": p.uncalibrated}
    return {suffix: probabilities for suffix, probabilities in both.items() if probabilities is not None}


def _whole(probabilities):
    """Single precision sums to 1 only nearly."""
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def _ece(probabilities, truth):
    value = calibration.ece(*calibration.top_label(probabilities, truth))
    return Estimate(value, len(truth), calibration_error=True, note=f"likeliest class, {calibration.KIND}")


def _classwise_ece(p):
    value = calibration.classwise_ece(p.probabilities, _one_hot(p, p.truth))
    return Estimate(value, len(p), calibration_error=True, note=calibration.KIND)


def _intervals(p):
    if p.prediction_intervals is None:
        return {}
    low, high = p.prediction_intervals.T
    width = Estimate(float((high - low + 1).mean()), len(p))
    held = (low <= p.truth) & (p.truth <= high)
    points = {"interval_coverage": partial(proportion, held, p.patients), "interval_width": lambda: width}
    for i, name in enumerate(p.classes):
        rows = p.truth == i
        points[f"interval_coverage/{name}"] = partial(proportion, held[rows], p.patients[rows])
    return points


def _one_hot(p, numbers):
    return (numbers[:, None] == np.arange(len(p.classes))).astype(float)


def _counts(p, drawn):
    """All that follows from the confusion matrix; macro means over the classes seen or decided at all."""
    k = len(p.classes)
    seen = np.isin(np.arange(k), p.truth)
    used = seen | np.isin(np.arange(k), p.predicted)

    def of(figure):
        return lambda sums: figure(sums["cells"].reshape(-1, k, k))

    figures = {name: of(getattr(confusion, name)) for name in ("accuracy", "quadratic_kappa", "mae", "off_by_one")}
    figures["balanced_accuracy"] = of(lambda matrix: confusion.recall(matrix)[:, seen].mean(axis=1))
    figures["f1_macro"] = of(lambda matrix: confusion.f1(matrix)[:, used].mean(axis=1))
    figures["f1_weighted"] = of(confusion.f1_weighted)
    for i, name in enumerate(p.classes):
        for kind in ("recall", "precision", "f1"):
            figure = getattr(confusion, kind)
            figures[f"{kind}/{name}"] = of(lambda matrix, i=i, figure=figure: figure(matrix)[:, i])
    return Sums({"cells": confusion.one_hot(p.truth, p.predicted, k)}, figures, **drawn)


def _errors(p, drawn):
    """All that is a mean over photographs, or of gaps in bins."""
    outcomes, n, k = _one_hot(p, p.truth), np.ones((len(p), 1)), len(p.classes)
    columns = {"n": n, "classwise_ece": calibration.classwise_gaps(p.probabilities, outcomes)}
    figures = {"classwise_ece": lambda sums: calibration.from_sums(sums["classwise_ece"], sums["n"][:, 0]) / k}
    for suffix, probabilities in _stated(p).items():
        whole = _whole(probabilities)
        columns[f"brier{suffix}"] = ((whole - outcomes) ** 2).sum(axis=1, keepdims=True)
        columns[f"nll{suffix}"] = -np.log(np.maximum((whole * outcomes).sum(axis=1, keepdims=True), 2**-52))
        columns[f"ece{suffix}"] = calibration.gaps(*calibration.top_label(probabilities, p.truth))
    for name in columns.keys() - {"n", "classwise_ece"}:  # of one column, the sum of absolutes is the sum
        figures[name] = lambda sums, name=name: calibration.from_sums(sums[name], sums["n"][:, 0])
    return Sums(columns, figures, **drawn)


def _held(p, drawn):
    low, high = p.prediction_intervals.T
    outcomes = _one_hot(p, p.truth)
    held = ((low <= p.truth) & (p.truth <= high))[:, None] * outcomes
    columns = {"held": held, "among": outcomes, "width": (high - low + 1.0)[:, None]}

    def each(sums):
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums["held"] / sums["among"]

    figures = {f"interval_coverage/{name}": lambda s, i=i: each(s)[:, i] for i, name in enumerate(p.classes)}
    figures["interval_coverage"] = lambda s: s["held"].sum(axis=1) / s["among"].sum(axis=1)
    figures["interval_width"] = lambda s: s["width"][:, 0] / s["among"].sum(axis=1)
    return Sums(columns, figures, **drawn)
