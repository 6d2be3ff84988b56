"""Compute every metric with its 95 % confidence interval and the method of the interval.

With one image per patient, proportions have Wilson's interval, AUROC DeLong's, and the rest the bootstrap. With several
images per patient all use the patient-level bootstrap, but AUROC, which uses Obuchowski's variance. Values are
computed by scikit-learn where it has the metric.
"""

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from dr_tf.evaluation.metrics.binary import binary_metrics
from dr_tf.evaluation.metrics.calibration_error import debiased_interval
from dr_tf.evaluation.metrics.deployed import deployed_metrics
from dr_tf.evaluation.metrics.estimate import Estimate, MetricFamily
from dr_tf.evaluation.metrics.multi_label import multi_label_metrics
from dr_tf.evaluation.metrics.multiclass import multiclass_metrics
from dr_tf.evaluation.metrics.other_outputs import other_output_metrics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.auroc import auroc_interval
from dr_tf.evaluation.statistics.bootstrap import BootstrapStatistic, bootstrap
from dr_tf.evaluation.statistics.proportions import wilson

# Each returns the metrics that apply to the predictions, and nothing where none does.
FAMILIES = (binary_metrics, deployed_metrics, multiclass_metrics, multi_label_metrics, other_output_metrics)
BOOTSTRAP_SAMPLES = 2000


def compute_metrics(
    predictions: Predictions,
    *,
    prevalence: float | None = None,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Compute the metrics of predictions with their 95 % confidence intervals.

    Args:
        predictions: of any task.
        prevalence: the share of diseased among those screened, for PPV and NPV at that prevalence.
        bootstrap_samples: number of bootstrap samples.
        seed: seed of the bootstrap.
        only: names of the metrics to compute; None: all that apply.

    Returns:
        {name: {"value", "low", "high", "method", "n"} and "note" where there is one}. Undefined numbers are None.
    """
    lazy_estimates, statistics = estimates_and_statistics(predictions, prevalence)
    estimates = {name: make() for name, make in lazy_estimates.items() if only is None or name in only}
    analytic = {name for name, estimate in estimates.items() if _is_analytic(estimate, predictions.clustered)}
    bootstrapped = _bootstrap(predictions, statistics, set(estimates) - analytic, bootstrap_samples, seed)
    unknown = patients_unknown(predictions)
    return {
        name: _metric(estimate, bootstrapped.get(name), predictions.clustered, unknown)
        for name, estimate in estimates.items()
    }


def estimates_and_statistics(predictions: Predictions, prevalence: float | None = None) -> MetricFamily:
    """Return ({metric: function that makes its Estimate}, bootstrap statistics) of all families."""
    families = [family(predictions, prevalence) for family in FAMILIES]
    estimates = {name: make for family_estimates, _ in families for name, make in family_estimates.items()}
    return estimates, [statistic for _, statistics in families for statistic in statistics]


def patients_unknown(predictions: Predictions) -> str:
    """Return the warning beside a confidence interval where patients are unknown, or ""."""
    unknown = int((~predictions.patient_known).sum())
    if not unknown:
        return ""
    of_all = "" if unknown == len(predictions) else f" for {unknown} of {len(predictions)}"
    return f"patients unknown{of_all}: may be too narrow"


def _is_analytic(estimate: Estimate, clustered: bool) -> bool:
    """Whether the confidence interval needs no bootstrap."""
    return math.isnan(estimate.value) or estimate.ranking is not None or (estimate.hits is not None and not clustered)


def _bootstrap(
    predictions: Predictions, statistics: list[BootstrapStatistic], names: set[str], bootstrap_samples: int, seed: int
) -> dict[str, np.ndarray]:
    needed = [statistic for statistic in statistics if statistic.names & names]
    patients = int(predictions.patient_codes.max()) + 1
    return bootstrap(needed, patients=patients, bootstrap_samples=bootstrap_samples, seed=seed) if needed else {}


def _metric(estimate: Estimate, bootstrapped: np.ndarray | None, clustered: bool, unknown: str) -> dict[str, Any]:
    low, high, method = _confidence_interval(estimate, bootstrapped, clustered)
    if unknown and not math.isnan(low):
        method = f"{method}; {unknown}"
    numbers = {"value": estimate.value, "low": low, "high": high}
    metric: dict[str, Any] = {key: None if math.isnan(value) else float(value) for key, value in numbers.items()}
    return metric | {"method": method, "n": estimate.n} | ({"note": estimate.note} if estimate.note else {})


def _confidence_interval(
    estimate: Estimate, bootstrapped: np.ndarray | None, clustered: bool
) -> tuple[float, float, str]:
    if math.isnan(estimate.value):
        return math.nan, math.nan, "undefined: no example, or a class is empty"
    if estimate.ranking is not None:
        return auroc_interval(*estimate.ranking)[1:]
    if estimate.hits is not None and not clustered:
        return *wilson(estimate.hits, estimate.n), "Wilson"
    return percentile_interval(estimate, bootstrapped, "patient bootstrap" if clustered else "bootstrap")


def percentile_interval(estimate: Estimate, values: np.ndarray | None, method: str) -> tuple[float, float, str]:
    """Return the percentile interval of an estimate, and its method.

    Args:
        estimate: the estimate.
        values: its bootstrap values; None where there are none.
        method: name of the bootstrap.

    Returns:
        (low, high, method), which counts the bootstrap samples without a value because a class was empty.
    """
    if values is None:
        return math.nan, math.nan, "none"
    valid = values[np.isfinite(values)]
    method = f"{method}, {len(values)} bootstrap samples"
    if len(valid) < len(values):
        method += f", {len(values) - len(valid)} with an empty class left out"
    if len(valid) < len(values) / 2:
        return math.nan, math.nan, f"none: {method}"
    if estimate.calibration_error:
        return *debiased_interval(estimate.value, valid), f"{method}, corrected for the noise in bins"
    if np.ptp(valid) < 1e-12:
        return _interval_without_spread(estimate, method)
    low, high = np.quantile(valid, (0.025, 0.975))
    return low, high, method


def _interval_without_spread(estimate: Estimate, method: str) -> tuple[float, float, str]:
    """Return the interval where all are right or all are wrong, so that bootstrap samples show no spread.

    Counting each patient as one image gives the widest interval that Wilson's can be.
    """
    if estimate.hits in (0, estimate.n) and estimate.patients:
        low, high = wilson(round(estimate.value) * estimate.patients, estimate.patients)
        return low, high, f"Wilson on {estimate.patients} patients"
    return math.nan, math.nan, f"none: the same in all of {method}"
