"""Cross-fitting by patient: each patient's values come from a model that was fitted on the other patients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

FOLDS = 5

Fitted = TypeVar("Fitted")


def patient_folds(patients: ArrayLike, severity: ArrayLike, *, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Assign patients to folds, stratified by severity.

    Args:
        patients: the patient of each image [n]. All images of a patient get the same fold.
        severity: integers [n], such as true classes. A patient's stratum is the highest of them.
        folds: the number of folds; fewer where there are fewer patients.
        seed: of the shuffling.

    Returns:
        The fold of each image [n].
    """
    names, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    highest = np.full(len(names), np.iinfo(np.int64).min)
    np.maximum.at(highest, patient_of, np.asarray(severity, np.int64))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    fold_of = np.empty(len(names), np.int64)
    fold_of[shuffled[np.argsort(highest[shuffled], kind="stable")]] = np.arange(len(names)) % min(folds, len(names))
    return fold_of[patient_of]


def cross_fit(
    fit: Callable[..., Fitted], apply: Callable[..., np.ndarray], folds: np.ndarray, *arrays: np.ndarray
) -> np.ndarray:
    """Apply to each fold a model that was fitted on the other folds.

    Args:
        fit: takes the rows of `arrays` outside a fold and returns a fitted model.
        apply: takes the fitted model and the rows of `arrays` inside the fold, and returns a value for each row.
        folds: the fold of each row [n].
        arrays: arrays of n rows.

    Returns:
        The values of all rows, in the order of the rows.

    Raises:
        ValueError: there is only one fold.
    """
    if len(np.unique(folds)) < 2:
        raise ValueError("cross-fitting needs two patients or more")
    values, rows = [], []
    for fold in np.unique(folds):
        held_out = folds == fold
        fitted = fit(*(array[~held_out] for array in arrays))
        values.append(apply(fitted, *(array[held_out] for array in arrays)))
        rows.append(np.flatnonzero(held_out))
    return np.concatenate(values)[np.argsort(np.concatenate(rows))]
