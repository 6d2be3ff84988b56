"""Patient-level bootstrap: means with 95 % confidence intervals, and comparison of maps with the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.explain.scorecard.baselines import BASELINES

METHOD = "patient bootstrap, 2,000 samples, percentiles; pointing with one image per patient: Wilson"
# The percentile interval of a few patients is too narrow; below five it is meaningless.
_BOOTSTRAP_SAMPLES, _MIN_PATIENTS, _MIN_PATIENTS_TO_COMPARE = 2000, 5, 10


def compare_means(
    values: Mapping[str, np.ndarray | Sequence[float]],
    patients: np.ndarray,
    *,
    higher_is_better: bool = True,
    proportion: bool = False,
    seed: int = 0,
) -> dict[str, dict[str, Any] | None]:
    """Compute the mean score of each kind of map, and which baselines it is better than.

    A map is better than a baseline if it has the better mean in 97.5 % of the bootstrap samples. Both are compared on
    the same samples. With fewer than ten patients no map is better than a baseline, and with fewer than five there is
    no confidence interval.

    Args:
        values: {map: scores [n]}.
        patients: The patient of each score, [n].
        higher_is_better: Whether higher scores are better.
        proportion: Whether scores are 0 or 1. If each patient has one score, the interval is then Wilson's, which the
            bootstrap cannot replace where all scores are equal.
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
        low, high = _wilson(scores) if proportion and _all_differ(patients) else _percentiles(means[name])
        compared = name not in BASELINES and len(np.unique(patients)) >= _MIN_PATIENTS_TO_COMPARE
        others = [baseline for baseline in BASELINES if baseline in means and compared]
        better = [baseline for baseline in others if _is_higher(sign * means[name], sign * means[baseline])]
        results[name] = {"value": float(np.mean(scores)), "low": low, "high": high, "better_than": better}
    return results


def _bootstrap_weights(patients, seed):
    """How often each score is drawn, [samples, n], when patients are resampled; no samples of too few patients."""
    known, patient = np.unique(patients, return_inverse=True)
    samples = _BOOTSTRAP_SAMPLES if len(known) >= _MIN_PATIENTS else 0
    draws = np.random.default_rng(seed).multinomial(len(known), [1 / len(known)] * len(known), samples)
    return draws[:, patient]


def _all_differ(patients):
    return len(np.unique(patients)) == len(patients)


def _wilson(scores):
    from scipy.stats import binomtest

    interval = binomtest(round(float(np.sum(scores))), len(scores)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _percentiles(means):
    return np.percentile(means, (2.5, 97.5)).tolist() if len(means) else (None, None)


def _is_higher(means, baseline_means):
    return bool(len(means) and np.percentile(means - baseline_means, 2.5) > 0)
