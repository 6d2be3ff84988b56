"""Figures of what was fitted on a split, from that split: fitted without a patient, measured on that patient."""

import numpy as np

FOLDS = 5


def patient_folds(patients, truth, *, folds=FOLDS, seed=0):
    """A fold [n] for each photograph; a patient's lie in one, and each highest `truth` is spread over all of them."""
    names, of = np.unique(np.asarray(patients), return_inverse=True)
    worst = np.full(len(names), np.iinfo(np.int64).min)
    np.maximum.at(worst, of, np.asarray(truth, np.int64))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    dealt = np.empty(len(names), np.int64)
    dealt[shuffled[np.argsort(worst[shuffled], kind="stable")]] = np.arange(len(names)) % min(folds, len(names))
    return dealt[of]


def cross_fitted(fit, apply, folds, *arrays):
    """What `apply(fit(rows of arrays), rows of arrays)` gives for each fold, fitted on the others; in order of rows."""
    if len(np.unique(folds)) < 2:
        raise ValueError("cross-fitting takes two patients or more")
    pieces, rows = [], []
    for fold in np.unique(folds):
        held = folds == fold
        fitted = fit(*(array[~held] for array in arrays))
        pieces.append(apply(fitted, *(array[held] for array in arrays)))
        rows.append(np.flatnonzero(held))
    return np.concatenate(pieces)[np.argsort(np.concatenate(rows))]


def expected_calibration_error(confidence, outcome, bins=15):
    """sum over equal bins of (share in the bin) * |mean outcome - mean confidence| (Naeini et al. 2015)."""
    confidence, outcome = np.asarray(confidence, np.float64), np.asarray(outcome, np.float64)
    if not len(confidence):
        return None
    of = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(of, weights=outcome - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))
