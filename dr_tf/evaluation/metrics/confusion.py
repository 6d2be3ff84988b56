"""Metrics of confusion matrices [..., true class, predicted class], of many matrices at once.

The reported values are scikit-learn's. These functions compute the same metrics from counts for all bootstrap samples
at once. A metric is NaN where a class that it needs is empty.
"""

import numpy as np
from numpy.typing import ArrayLike


def one_hot(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return each image's cell of the confusion matrix as a one-hot row [n, classes * classes].

    Args:
        truth: [n], the true class; the row is zero where it is negative (unknown).
        predicted: [n], the predicted class.
        classes: number of classes.
    """
    cells = np.zeros((len(truth), classes * classes))
    rows = np.flatnonzero(truth >= 0)
    cells[rows, truth[rows] * classes + predicted[rows]] = 1
    return cells


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.einsum("...ii->...i", matrix)


def _total(matrix: np.ndarray) -> np.ndarray:
    return matrix.sum(axis=(-2, -1))


def _distances(matrix: np.ndarray) -> np.ndarray:
    classes = np.arange(matrix.shape[-1])
    return np.abs(classes[:, None] - classes)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Compute the accuracy [...]."""
    return _ratio(_diagonal(matrix).sum(axis=-1), _total(matrix))


def recall(matrix: np.ndarray) -> np.ndarray:
    """Compute the recall of each class [..., classes]."""
    return _ratio(_diagonal(matrix), matrix.sum(axis=-1))


def precision(matrix: np.ndarray) -> np.ndarray:
    """Compute the precision of each class [..., classes]."""
    return _ratio(_diagonal(matrix), matrix.sum(axis=-2))


def f1(matrix: np.ndarray) -> np.ndarray:
    """Compute F1 of each class [..., classes]: 2 TP / (2 TP + FP + FN)."""
    return _ratio(2 * _diagonal(matrix), matrix.sum(axis=-1) + matrix.sum(axis=-2))


def f1_weighted(matrix: np.ndarray) -> np.ndarray:
    """Compute the mean F1 of the classes, weighted by their true count [...]."""
    support = matrix.sum(axis=-1)
    return _ratio((np.where(support > 0, f1(matrix), 0) * support).sum(axis=-1), _total(matrix))


def quadratic_kappa(matrix: np.ndarray) -> np.ndarray:
    """Compute Cohen's quadratic weighted kappa [...].

    1 - observed / expected disagreement, each disagreement weighted by the square of its distance (Cohen 1968).
    """
    weights = _distances(matrix) ** 2
    chance = matrix.sum(axis=-1)[..., :, None] * matrix.sum(axis=-2)[..., None, :]
    return 1 - _ratio((weights * matrix).sum(axis=(-2, -1)) * _total(matrix), (weights * chance).sum(axis=(-2, -1)))


def mae(matrix: np.ndarray) -> np.ndarray:
    """Compute the mean absolute error of the class number [...]."""
    return _ratio((_distances(matrix) * matrix).sum(axis=(-2, -1)), _total(matrix))


def off_by_one(matrix: np.ndarray) -> np.ndarray:
    """Compute the share of images whose predicted class is at most one away from the true class [...]."""
    return _ratio(((_distances(matrix) <= 1) * matrix).sum(axis=(-2, -1)), _total(matrix))


def at_prevalence(sensitivity: ArrayLike, specificity: ArrayLike, prevalence: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute (PPV, NPV) at a prevalence of the disease by Bayes' theorem."""
    sensitivity, specificity = np.asarray(sensitivity), np.asarray(specificity)
    true_positive, false_negative = sensitivity * prevalence, (1 - sensitivity) * prevalence
    true_negative, false_positive = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    return _ratio(true_positive, true_positive + false_positive), _ratio(true_negative, true_negative + false_negative)
