"""Means over photographs with 95 % intervals, and which floors they are better than: patients are drawn, not photographs."""

import numpy as np

from dr_tf.explain.scorecard.floors import FLOORS

METHOD = "patient bootstrap, 2,000 rounds, percentiles"
_ROUNDS, _ENOUGH = 2000, 10


def figures(values, patients, *, higher=True, seed=0):
    """{map: {"value", "low", "high", "better_than": [floor]}} of {map: a number for each photograph}, in one order.

    Better than a floor is what 97.5 % of the rounds find better, on the same draw of patients. Fewer than ten patients
    have no interval, and nothing is better on them.
    """
    if not len(patients):
        return dict.fromkeys(values)
    weights = _weights(patients, seed)
    means = {name: weights @ np.asarray(each, float) / weights.sum(axis=1) for name, each in values.items()}
    found = {}
    for name, each in values.items():
        low, high = np.percentile(means[name], (2.5, 97.5)).tolist() if len(weights) else (None, None)
        better = [floor for floor in FLOORS if floor in means and name not in FLOORS]
        better = [floor for floor in better if _above(means[name], means[floor], 1 if higher else -1)]
        found[name] = {"value": float(np.mean(each)), "low": low, "high": high, "better_than": better}
    return found


def _weights(patients, seed):
    """[rounds, n]: how often each photograph was drawn; no round where there are too few patients."""
    known, patient = np.unique(patients, return_inverse=True)
    rounds = _ROUNDS if len(known) >= _ENOUGH else 0
    return np.random.default_rng(seed).multinomial(len(known), [1 / len(known)] * len(known), rounds)[:, patient]


def _above(means, floors, sign):
    return bool(len(means) and np.percentile(sign * (means - floors), 2.5) > 0)
