"""Metrics of each target source of a cross-site protocol, and their mean over the sources, as GDRBench reports them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dr_tf.evaluation.metrics.compute import (
    BOOTSTRAP_SAMPLES,
    compute_metrics,
    estimates_and_statistics,
    percentile_interval,
)
from dr_tf.evaluation.metrics.estimate import Estimate
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import bootstrap

# GDRBench's AUC is the mean of one AUROC per class against the rest, its F1 the mean over the classes.
METRICS = ("auroc_macro", "accuracy", "f1_macro", "quadratic_kappa", "auroc")
_METHOD = "bootstrap within each source"

Entry = dict[str, Any]  # of a metric: value, low, high, method, n


def metrics_by_source(
    by_target: Mapping[str, Predictions], *, bootstrap_samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Compute the metrics of each target source and their unweighted mean over the sources.

    The interval of the mean resamples the patients of each source by themselves. It does not tell how much another choice
    of sources would change the mean.

    Args:
        by_target: {target source: predictions on it}.
        bootstrap_samples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        {"targets": {source: {"n", "patients", metric: entry}}, "mean": {metric: entry}}.
    """
    options = {"bootstrap_samples": bootstrap_samples, "seed": seed}
    targets = {source: _of_target(predictions, options) for source, predictions in by_target.items()}
    values = [
        _bootstrap_values(predictions, bootstrap_samples, seed + number)  # else equally large sources would vary alike
        for number, predictions in enumerate(by_target.values())
    ]
    names = [name for name in METRICS if any(name in target for target in targets.values())]
    return {"targets": targets, "mean": {name: _mean(name, targets, values) for name in names}}


def _of_target(predictions: Predictions, options: dict[str, int]) -> dict[str, Any]:
    counts = {"n": len(predictions), "patients": len(np.unique(predictions.patients))}
    return counts | compute_metrics(predictions, only=METRICS, **options)


def _bootstrap_values(predictions: Predictions, bootstrap_samples: int, seed: int) -> dict[str, np.ndarray]:
    _, statistics = estimates_and_statistics(predictions)
    needed = [statistic for statistic in statistics if statistic.names & set(METRICS)]
    patients = int(predictions.patient_codes.max()) + 1
    return bootstrap(needed, patients=patients, bootstrap_samples=bootstrap_samples, seed=seed)


def _mean(name: str, targets: Mapping[str, dict[str, Any]], values: list[dict[str, np.ndarray]]) -> Entry:
    entries = {source: target.get(name) for source, target in targets.items()}
    undefined = [source for source, entry in entries.items() if entry is None or entry["value"] is None]
    n = sum(target["n"] for target in targets.values())
    if undefined:
        return {"value": None, "low": None, "high": None, "method": f"undefined for {', '.join(undefined)}", "n": n}
    mean = Estimate(float(np.mean([entry["value"] for entry in entries.values() if entry])), n)
    of_samples = np.mean([of_source[name] for of_source in values], axis=0) if _have(name, values) else None
    low, high, method = percentile_interval(mean, of_samples, _METHOD)
    ends = {"low": low, "high": high}
    return {
        "value": mean.value,
        **{k: None if math.isnan(v) else float(v) for k, v in ends.items()},
        "method": method,
        "n": n,
    }


def _have(name: str, values: list[dict[str, np.ndarray]]) -> bool:
    return all(name in of_source for of_source in values)
