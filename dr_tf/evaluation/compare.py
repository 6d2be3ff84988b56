"""Compare two runs on the same images: the paired difference of each metric with its confidence interval."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES, estimates_and_statistics, patients_unknown
from dr_tf.evaluation.metrics.estimate import Estimate
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.auroc import auroc_difference
from dr_tf.evaluation.statistics.bootstrap import bootstrap

# Metrics that cannot be compared between two definitions of positive.
_OF_POSITIVE = (
    "sensitivity", "specificity", "ppv", "npv", "ppv_at_prevalence", "npv_at_prevalence", "auroc", "average_precision",
    "brier_positive", "ece_positive", "ece_positive_uncalibrated",
    "sensitivity_deployed", "specificity_deployed", "sensitivity_gradable", "specificity_gradable",
)  # fmt: skip


def compare(
    first: Predictions,
    second: Predictions,
    *,
    prevalence: float | None = None,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the paired difference of every metric, second minus first.

    Args:
        first: predictions of one run.
        second: predictions of another run; images that only one of them has are left out and counted.
        prevalence: for PPV and NPV at that prevalence.
        bootstrap_samples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        {"n", "patients", "left_out", "metrics": {name: {"first", "second", "value", "low", "high", "method"}}}.

    Raises:
        UserError: if the runs have no image in common, or differ in its label or patient.
    """
    a, b, left_out = _common_images(first, second)
    (estimates_a, values_a), (estimates_b, values_b) = (
        _bootstrap(p, prevalence, bootstrap_samples, seed) for p in (a, b)
    )
    names = [name for name in estimates_a if name in estimates_b]
    if a.positive != b.positive:
        names = [name for name in names if name not in _OF_POSITIVE]
    unknown = patients_unknown(a)
    differences = {
        name: _difference(
            estimates_a[name], estimates_b[name], (values_a.get(name), values_b.get(name)), a.clustered, unknown
        )
        for name in names
    }
    return {"n": len(a), "patients": len(np.unique(a.patients)), "left_out": left_out, "metrics": differences}


def _common_images(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions, dict[str, int]]:
    ids, rows_a, rows_b = np.intersect1d(first.ids, second.ids, return_indices=True)
    if not len(ids):
        raise UserError(f"the two runs have no photograph in common ({first.ids[0]} …, {second.ids[0]} …)")
    a, b = first.take(rows_a), second.take(rows_b)
    if a.classes == b.classes and not np.array_equal(a.truth, b.truth):
        raise UserError("the two runs were evaluated against different labels of the same photographs")
    if (a.patients != b.patients).any():
        raise UserError("the two runs were evaluated with different patients for the same photographs")
    return a, b, {"first": len(first) - len(a), "second": len(second) - len(b)}


def _bootstrap(
    predictions: Predictions, prevalence: float | None, bootstrap_samples: int, seed: int
) -> tuple[dict[str, Estimate], dict[str, np.ndarray]]:
    """Return the estimates and bootstrap values; the same patients and seed give both runs the same samples."""
    estimates, statistics = estimates_and_statistics(predictions, prevalence)
    patients = int(predictions.patient_codes.max()) + 1
    return {name: make() for name, make in estimates.items()}, bootstrap(
        statistics, patients=patients, bootstrap_samples=bootstrap_samples, seed=seed
    )


def _difference(
    a: Estimate, b: Estimate, values: Sequence[np.ndarray | None], clustered: bool, unknown: str
) -> dict[str, Any]:
    value, low, high, method = _confidence_interval(a, b, values, clustered)
    if unknown and not math.isnan(low):
        method = f"{method}; {unknown}"
    numbers = {"first": a.value, "second": b.value, "value": value, "low": low, "high": high}
    difference: dict[str, Any] = {key: None if math.isnan(v) else float(v) for key, v in numbers.items()}
    return difference | {"method": method}


def _confidence_interval(
    a: Estimate, b: Estimate, values: Sequence[np.ndarray | None], clustered: bool
) -> tuple[float, float, float, str]:
    value = b.value - a.value
    if math.isnan(value):
        return math.nan, math.nan, math.nan, "undefined for one of the two"
    if a.ranking and b.ranking and np.array_equal(a.ranking[1], b.ranking[1]):
        return auroc_difference(b.ranking[0], a.ranking[0], *a.ranking[1:])
    if values[0] is None or values[1] is None:
        return value, math.nan, math.nan, "none"
    differences = values[1] - values[0]
    valid = differences[np.isfinite(differences)]
    method = f"paired {'patient ' if clustered else ''}bootstrap, {len(differences)} bootstrap samples"
    if len(valid) < len(differences):
        method += f", {len(differences) - len(valid)} with an empty class left out"
    if len(valid) < len(differences) / 2:
        return value, math.nan, math.nan, f"none: {method}"
    # The noise in bins counts once more in bootstrap samples: it shifts their values, but not their spread.
    if a.calibration_error:
        valid, method = valid - valid.mean() + value, f"{method}, centred on the value"
    if np.ptp(valid) < 1e-12:
        return value, math.nan, math.nan, f"none: the same in all of {method}"
    low, high = np.quantile(valid, (0.025, 0.975))
    return value, low, high, method
