"""Figures of confusion matrices [..., truth, decided], of which there may be thousands (one a bootstrap round).

scikit-learn gives the figures that are reported; these are the same on counts, 2,000 bootstrap_samples at a time. A figure is not
a number where a class that it needs is empty.
"""

import numpy as np


def one_hot(truth, decided, classes):
    """[n, classes * classes]: which cell of the confusion matrix a row falls into. Nowhere where it has no truth."""
    cells = np.zeros((len(truth), classes * classes))
    rows = np.flatnonzero(truth >= 0)
    cells[rows, truth[rows] * classes + decided[rows]] = 1
    return cells


def _ratio(above, below):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def _hits(matrix):
    return np.einsum("...ii->...i", matrix)


def _total(matrix):
    return matrix.sum(axis=(-2, -1))


def _distances(matrix):
    classes = np.arange(matrix.shape[-1])
    return np.abs(classes[:, None] - classes)


def accuracy(matrix):
    return _ratio(_hits(matrix).sum(axis=-1), _total(matrix))


def recall(matrix):
    return _ratio(_hits(matrix), matrix.sum(axis=-1))


def precision(matrix):
    return _ratio(_hits(matrix), matrix.sum(axis=-2))


def f1(matrix):
    """2 TP / (2 TP + FP + FN), for each class."""
    return _ratio(2 * _hits(matrix), matrix.sum(axis=-1) + matrix.sum(axis=-2))


def f1_weighted(matrix):
    support = matrix.sum(axis=-1)
    return _ratio((np.where(support > 0, f1(matrix), 0) * support).sum(axis=-1), _total(matrix))


def quadratic_kappa(matrix):
    """1 - observed / expected disagreement, a disagreement weighing the square of its distance (Cohen 1968)."""
    weights = _distances(matrix) ** 2
    chance = matrix.sum(axis=-1)[..., :, None] * matrix.sum(axis=-2)[..., None, :]
    return 1 - _ratio((weights * matrix).sum(axis=(-2, -1)) * _total(matrix), (weights * chance).sum(axis=(-2, -1)))


def mae(matrix):
    return _ratio((_distances(matrix) * matrix).sum(axis=(-2, -1)), _total(matrix))


def off_by_one(matrix):
    return _ratio(((_distances(matrix) <= 1) * matrix).sum(axis=(-2, -1)), _total(matrix))


def at_prevalence(sensitivity, specificity, prevalence):
    """(PPV, NPV) where `prevalence` of the screened have the disease, by Bayes' theorem."""
    found, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    cleared, alarmed = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
    return _ratio(found, found + alarmed), _ratio(cleared, cleared + missed)
