"""Grade thresholds: cut the expected grade, sum of k * p(k), into grades so that the quadratic kappa is maximal.

The quadratic kappa is 1 - A / B. A is the sum of (label - grade)^2 over images. B is the same sum if every image's
grade is compared with every image's label. Both are sums over images, so Dinkelbach's method (Management Science 1967)
finds the maximum over all thresholds: for a fixed lambda, the minimum of A - lambda * B over rising grades is a
shortest path.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def expected_grade(probabilities: ArrayLike) -> np.ndarray:
    """Compute the expected grade [n] of class probabilities [n, classes]."""
    return np.asarray(probabilities, np.float64) @ np.arange(np.shape(probabilities)[1])


def apply_grade_thresholds(thresholds: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Compute the grades [n]: how many thresholds the expected grade of each row reaches.

    Args:
        thresholds: [classes - 1], rising.
        probabilities: class probabilities [n, classes].
    """
    return np.searchsorted(np.asarray(thresholds), expected_grade(probabilities), side="right")


def quadratic_kappa(labels: ArrayLike, grades: ArrayLike) -> float:
    """Compute Cohen's kappa with quadratic weights; 0 where labels and grades are one constant."""
    labels, grades = np.asarray(labels, np.float64), np.asarray(grades, np.float64)
    by_chance = labels.var() + grades.var() + (labels.mean() - grades.mean()) ** 2
    return float(1 - ((labels - grades) ** 2).mean() / by_chance) if by_chance else 0.0


def fit_grade_thresholds(probabilities: ArrayLike, labels: ArrayLike) -> tuple[float, ...]:
    """Find the thresholds on the expected grade with the highest quadratic kappa on these images.

    Args:
        probabilities: class probabilities [n, classes].
        labels: true grades [n].

    Returns:
        classes - 1 rising thresholds. 0 is reached by every image, the number of classes by none.
    """
    labels, classes = np.asarray(labels), np.shape(probabilities)[1]
    values, value_of = np.unique(expected_grade(probabilities), return_inverse=True)
    # Candidate thresholds lie half way between two consecutive values: equal expected grades get equal grades.
    candidates = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    squared = (labels[:, None] - np.arange(classes)) ** 2
    disagreement = _sum_by(squared, value_of)
    by_chance = _sum_by(np.ones((len(labels), 1)), value_of) * squared.mean(axis=0)
    rows = np.arange(len(values))
    ratio, best = np.inf, None
    while True:
        starts = _shortest_path(disagreement - (0 if best is None else ratio) * by_chance)
        grades = np.searchsorted(starts, rows, side="right")
        new_ratio = disagreement[rows, grades].sum() / max(by_chance[rows, grades].sum(), 1e-300)
        if new_ratio >= ratio - 1e-12:
            return tuple(np.clip(candidates[best], 0, classes).tolist())
        ratio, best = new_ratio, starts


def _sum_by(values, groups):
    total = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(total, groups, values)
    return total


def _shortest_path(costs):
    """The index at which each grade but the lowest starts, so that the sum of costs [indices, grades] is minimal."""
    indices, grades = costs.shape
    sums = np.vstack([np.zeros(grades), np.cumsum(costs, axis=0)])  # cost of the first i indices at one constant grade
    best, origins = sums[:, 0], []
    for grade in range(1, grades):
        change = best - sums[:, grade]
        lowest = np.minimum.accumulate(change)
        # The last index with the lowest change so far: where this grade starts.
        origins.append(np.maximum.accumulate(np.where(change == lowest, np.arange(indices + 1), 0)))
        best = sums[:, grade] + lowest
    starts, index = [], indices
    for origin in reversed(origins):
        index = origin[index]
        starts.append(index)
    return np.array(starts[::-1])
