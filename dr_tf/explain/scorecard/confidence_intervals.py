"""Means over photographs with 95 % intervals, and which baselines they are better than: patients are drawn, not photographs."""

import numpy as np

from dr_tf.explain.scorecard.baselines import BASELINES

METHOD = "patient bootstrap, 2,000 bootstrap_samples, percentiles"
_ROUNDS, _ENOUGH = 2000, 10


def figures(values, patients, *, higher=True, seed=0):
    """{map: {"value", "low", "high", "better_than": [floor]}} of {map: a number for each photograph}, in one order.

    Better than a floor is what 97.5 % of the bootstrap_samples find better, on the same draw of patients. Fewer than ten patients
    have no interval, and nothing is better on them.
    """
    if not len(patients):
        return dict.fromkeys(values)
    weights = _weights(patients, seed)
    means = {name: weights @ np.asarray(each, float) / weights.sum(axis=1) for name, each in values.items()}
    found = {}
    for name, each in values.items():
        low, high = np.percentile(means[name], (2.5, 97.5)).tolist() if len(weights) else (None, None)
        better = [floor for floor in BASELINES if floor in means and name not in BASELINES]
        better = [floor for floor in better if _above(means[name], means[floor], 1 if higher else -1)]
        found[name] = {"value": float(np.mean(each)), "low": low, "high": high, "better_than": better}
    return found


def _weights(patients, seed):
    """[bootstrap_samples, n]: how often each photograph was drawn; no round where there are too few patients."""
    known, patient = np.unique(patients, return_inverse=True)
    bootstrap_samples = _ROUNDS if len(known) >= _ENOUGH else 0
    return np.random.default_rng(seed).multinomial(len(known), [1 / len(known)] * len(known), bootstrap_samples)[
        :, patient
    ]


def _above(means, baselines, sign):
    return bool(len(means) and np.percentile(sign * (means - baselines), 2.5) > 0)
