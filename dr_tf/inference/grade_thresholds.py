"""Grades from cuts of the expected grade, sum of k * p(k), set where the quadratic kappa is greatest.

A quadratic kappa is 1 - A / B with A = sum of (truth - grade)^2 and B = the same with every photograph's truth in turn.
Both are sums over photographs, so Dinkelbach's method (Management Science 1967) finds the greatest kappa that any cuts
have: with its lambda fixed, the least of A - lambda * B over rising grades is a shortest path.
"""

import numpy as np


def expected_grade(probabilities):
    return np.asarray(probabilities, np.float64) @ np.arange(np.shape(probabilities)[1])


def grades_from(cuts, probabilities):
    return np.searchsorted(np.asarray(cuts), expected_grade(probabilities), side="right")


def quadratic_kappa(truth, grades):
    """Cohen's, with squared weights; 0 where nothing could be disagreed on."""
    truth, grades = np.asarray(truth, np.float64), np.asarray(grades, np.float64)
    by_chance = truth.var() + grades.var() + (truth.mean() - grades.mean()) ** 2
    return float(1 - ((truth - grades) ** 2).mean() / by_chance) if by_chance else 0.0


def fit_cuts(probabilities, truth):
    """The classes - 1 rising cuts of the expected grade with the greatest quadratic kappa on these photographs."""
    truth, classes = np.asarray(truth), np.shape(probabilities)[1]
    places, of = np.unique(expected_grade(probabilities), return_inverse=True)
    # Half way between two neighbours; equal expected grades cannot be told apart.
    between = np.concatenate([[-np.inf], (places[1:] + places[:-1]) / 2, [np.inf]])
    disagreement = _summed((truth[:, None] - np.arange(classes)) ** 2, of)
    by_chance = _summed(np.ones((len(truth), 1)), of) * ((truth[:, None] - np.arange(classes)) ** 2).mean(axis=0)
    ratio, at = np.inf, None
    while True:
        starts = _shortest(disagreement - (0 if at is None else ratio) * by_chance)
        grades = np.searchsorted(starts, np.arange(len(places)), side="right")
        rows = np.arange(len(places))
        new = disagreement[rows, grades].sum() / max(by_chance[rows, grades].sum(), 1e-300)
        if new >= ratio - 1e-12:
            return tuple(np.clip(between[at], 0, classes).tolist())  # 0: all reach it, classes: none
        ratio, at = new, starts


def _summed(values, of):
    total = np.zeros((of.max() + 1, values.shape[1]))
    np.add.at(total, of, values)
    return total


def _shortest(costs):
    """For each grade but the lowest, the place where it starts, so that the costs [places, grades] sum to the least."""
    places, grades = costs.shape
    sums = np.vstack([np.zeros(grades), np.cumsum(costs, axis=0)])  # of the first i places, at one grade throughout
    best, origins = sums[:, 0], []
    for grade in range(1, grades):
        change = best - sums[:, grade]
        least = np.minimum.accumulate(change)
        # The last place with the least so far: where this grade began.
        origins.append(np.maximum.accumulate(np.where(change == least, np.arange(places + 1), 0)))
        best = sums[:, grade] + least
    starts, place = [], places
    for origin in reversed(origins):
        place = origin[place]
        starts.append(place)
    return np.array(starts[::-1])
