"""Patient-level bootstrap: means with 95 % confidence intervals, and comparison of maps with the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.explain.scorecard.baselines import BASELINES

METHOD = "patient bootstrap, 2,000 samples, percentiles"
_BOOTSTRAP_SAMPLES, _MIN_PATIENTS = 2000, 10


def compare_means(
    values: Mapping[str, np.ndarray | Sequence[float]],
    patients: np.ndarray,
    *,
    higher_is_better: bool = True,
    seed: int = 0,
) -> dict[str, dict[str, Any] | None]:
    """Compute the mean score of each kind of map, and which baselines it is better than.

    A map is better than a baseline if it has the better mean in 97.5 % of the bootstrap samples. Both are compared on
    the same samples. With fewer than ten patients there is no confidence interval, and no map is better than a
    baseline.

    Args:
        values: {map: scores [n]}.
        patients: The patient of each score, [n].
        higher_is_better: Whether higher scores are better.
        seed: Seed of the bootstrap.

    Returns:
        {map: {"value", "low", "high", "better_than": [baseline, ...]}}; None instead of the inner dict if n is 0.
    """
    if not len(patients):
        return dict.fromkeys(values)
    weights = _bootstrap_weights(patients, seed)
    means = {name: weights @ np.asarray(scores, float) / weights.sum(axis=1) for name, scores in values.items()}
    sign = 1 if higher_is_better else -1
    results: dict[str, dict[str, Any] | None] = {}
    for name, scores in values.items():
        low, high = np.percentile(means[name], (2.5, 97.5)).tolist() if len(weights) else (None, None)
        others = [baseline for baseline in BASELINES if baseline in means and name not in BASELINES]
        better = [baseline for baseline in others if _is_higher(sign * means[name], sign * means[baseline])]
        results[name] = {"value": float(np.mean(scores)), "low": low, "high": high, "better_than": better}
    return results


def _bootstrap_weights(patients, seed):
    """How often each score is drawn, [samples, n], when patients are resampled; no samples of too few patients."""
    known, patient = np.unique(patients, return_inverse=True)
    samples = _BOOTSTRAP_SAMPLES if len(known) >= _MIN_PATIENTS else 0
    draws = np.random.default_rng(seed).multinomial(len(known), [1 / len(known)] * len(known), samples)
    return draws[:, patient]


def _is_higher(means, baseline_means):
    return bool(len(means) and np.percentile(means - baseline_means, 2.5) > 0)
