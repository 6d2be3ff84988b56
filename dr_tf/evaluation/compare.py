"""Two runs on the same photographs: the difference of each figure, with the interval of the difference."""

import math

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES, estimates_and_statistics, patients_unknown
from dr_tf.evaluation.statistics.auroc import auroc_difference
from dr_tf.evaluation.statistics.bootstrap import bootstrap

_OF_POSITIVE = (
    "sensitivity", "specificity", "ppv", "npv", "ppv_at_prevalence", "npv_at_prevalence", "auroc", "average_precision",
    "brier_positive", "ece_positive", "ece_positive_uncalibrated",
    "sensitivity_deployed", "specificity_deployed", "sensitivity_gradable", "specificity_gradable",
)  # fmt: skip


def compare(first, second, *, prevalence=None, bootstrap_samples=BOOTSTRAP_SAMPLES, seed=0):
    """{"n", "patients", "left_out", "metrics": name -> {"first", "second", "value", "low", "high", "method"}}.

    `value` is second minus first. Photographs that only one of them saw are left out and counted.
    """
    a, b, left_out = _common(first, second)
    points, drawn = zip(*(_resampled(p, prevalence, bootstrap_samples, seed) for p in (a, b)), strict=True)
    names = [name for name in points[0] if name in points[1]]
    if a.positive != b.positive:
        names = [name for name in names if name not in _OF_POSITIVE]
    unknown = patients_unknown(a)
    differences = {
        name: _difference(*(p[name] for p in points), [d.get(name) for d in drawn], a.clustered, unknown)
        for name in names
    }
    return {"n": len(a), "patients": len(np.unique(a.patients)), "left_out": left_out, "metrics": differences}


def _common(first, second):
    ids, rows_a, rows_b = np.intersect1d(first.ids, second.ids, return_indices=True)
    if not len(ids):
        raise UserError(f"the two runs have no photograph in common ({first.ids[0]} …, {second.ids[0]} …)")
    a, b = first.take(rows_a), second.take(rows_b)
    if a.classes == b.classes and not np.array_equal(a.truth, b.truth):
        raise UserError("the two runs were evaluated against different labels of the same photographs")
    if (a.patients != b.patients).any():
        raise UserError("the two runs were evaluated with different patients for the same photographs")
    return a, b, {"first": len(first) - len(a), "second": len(second) - len(b)}


def _resampled(predictions, prevalence, bootstrap_samples, seed):
    """Both runs are drawn by the same patients, seed and bootstrap_samples: alike."""
    points, statistics = estimates_and_statistics(predictions, prevalence)
    patients = int(predictions.patient_codes.max()) + 1
    return {name: make() for name, make in points.items()}, bootstrap(
        statistics, patients=patients, bootstrap_samples=bootstrap_samples, seed=seed
    )


def _difference(a, b, drawn, clustered, unknown):
    value, low, high, method = _interval(a, b, drawn, clustered)
    if unknown and not math.isnan(low):
        method = f"{method}; {unknown}"
    numbers = {"first": a.value, "second": b.value, "value": value, "low": low, "high": high}
    return {key: None if math.isnan(v) else float(v) for key, v in numbers.items()} | {"method": method}


def _interval(a, b, drawn, clustered):
    value = b.value - a.value
    if math.isnan(value):
        return math.nan, math.nan, math.nan, "undefined for one of the two"
    if a.ranking and b.ranking and np.array_equal(a.ranking[1], b.ranking[1]):
        return auroc_difference(b.ranking[0], a.ranking[0], *a.ranking[1:])
    bootstrap_samples = drawn[1] - drawn[0]
    valid = bootstrap_samples[np.isfinite(bootstrap_samples)]
    method = f"paired {'patient ' if clustered else ''}bootstrap, {len(bootstrap_samples)} bootstrap_samples"
    if len(valid) < len(bootstrap_samples):
        method += f", {len(bootstrap_samples) - len(valid)} with an empty class left out"
    if len(valid) < len(bootstrap_samples) / 2:
        return value, math.nan, math.nan, f"none: {method}"
    if (
        a.calibration_error
    ):  # the noise of bins is drawn again and counts again; it moves the bootstrap_samples, not their spread
        valid, method = valid - valid.mean() + value, f"{method}, centred on the value"
    if np.ptp(valid) < 1e-12:
        return value, math.nan, math.nan, f"none: the same in all of {method}"
    return value, *np.quantile(valid, (0.025, 0.975)), method
