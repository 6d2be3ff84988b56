"""Which rows of a record set a run fits on, which select an epoch, which calibrate, and what the fitted ones weigh."""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.cross_fitting import patient_folds

CLASS_WEIGHTS = ("balanced",)


@dataclasses.dataclass(frozen=True)
class Roles:
    fit: np.ndarray
    select: np.ndarray
    calibrate: np.ndarray
    held_out: np.ndarray | None = None  # of a fold: never looked at while training

    @property
    def unfitted(self):
        """Rows that the run is chosen, calibrated or judged by."""
        held_out = self.select[:0] if self.held_out is None else self.held_out
        return np.concatenate([self.select, self.calibrate, held_out])


def split_roles(records, head):
    usable = usable_rows(records, head)
    fit, select, calibrate = (_among(records, split, usable) for split in ("train", "validation", "calibration"))
    return Roles(fit, select, calibrate)


def fold_roles(records, head, *, fold, folds, selects):
    """Fold `fold` is held out. Where an epoch is chosen, half of the next fold's patients choose it and the other half
    calibrate: what chose an epoch would flatter the calibration."""
    fold_of = check_folds(records, folds)
    usable = usable_rows(records, head)
    held_out = np.flatnonzero(usable & (fold_of == fold))
    if not selects:
        fit = np.flatnonzero(usable & (fold_of >= 0) & (fold_of != fold))
        return Roles(fit, select=held_out, calibrate=held_out[:0], held_out=held_out)
    other = (fold + 1) % folds
    fit = np.flatnonzero(usable & (fold_of >= 0) & (fold_of != fold) & (fold_of != other))
    select, calibrate = _halves(records, head, np.flatnonzero(usable & (fold_of == other)))
    return Roles(fit, select, calibrate, held_out)


def check_folds(records, folds):
    """The fold of each row, -1 for none; UserError where the records have other folds than so many."""
    fold_of = records.columns["fold"]
    found = sorted(set(fold_of[fold_of >= 0].tolist()))
    if found != list(range(folds)):
        raise UserError(
            f"{records.name}: its folds.csv has {len(found)} folds, not {folds}; records keep one set of folds"
        )
    return fold_of


def _halves(records, head, rows):
    """Rows of one half of the patients and of the other, grades spread over both."""
    strata = head.strata(records.columns)[rows]
    worst = strata if strata.ndim == 1 else strata.max(axis=1)
    half = patient_folds(np.asarray(records.columns["patient_id"])[rows], worst, folds=2)
    return rows[half == 0], rows[half == 1]


def refit_roles(records, head):
    """Everything that is not test is fitted, so that nothing is left to choose or to calibrate by."""
    fit = np.flatnonzero(usable_rows(records, head) & (records.columns["fold"] >= 0))
    return Roles(fit, select=fit[:0], calibrate=fit[:0])


def usable_rows(records, head):
    usable = head.usable(records.columns)
    if not usable.any():
        raise UserError(
            f"none of the {len(usable)} examples of {records.name} has the labels that {head.name} learns from"
        )
    return usable


def check_classes(head, strata, dataset):
    """A class that nobody fits can never be predicted."""
    members = strata == 1 if strata.ndim == 2 else strata[:, None] == np.arange(len(head.classes))
    absent = [name for name, count in zip(head.classes, members.sum(axis=0), strict=True) if count == 0]
    if absent:
        raise UserError(f"nothing of {', '.join(absent)} among the {len(strata)} fitted examples of {dataset}")


def class_weights(wanted, strata, classes):
    """A weight per fitted example with mean 1, and the factor that each class's prior is multiplied by.

    Of several labels an example weighs the mean over those that it has; without any, 1.
    """
    members = (strata == 1) if strata.ndim == 2 else strata[:, None] == np.arange(classes)
    by_class = _by_class(wanted, members)
    total = members.sum(axis=1)
    weights = np.where(total > 0, (members * by_class).sum(axis=1) / np.maximum(total, 1), 1.0)
    return weights / weights.mean(), by_class


def _by_class(wanted, members):
    classes = members.shape[1]
    if isinstance(wanted, str):
        if wanted not in CLASS_WEIGHTS:
            raise UserError(
                f"unknown train.class_weights {wanted!r}; known: {', '.join(CLASS_WEIGHTS)}, or a number a class"
            )
        return len(members) / (classes * np.maximum(members.sum(axis=0), 1))
    numbers = isinstance(wanted, (tuple, list)) and all(isinstance(w, (int, float)) and w > 0 for w in wanted)
    if not numbers or len(wanted) != classes:
        raise UserError(
            f"train.class_weights wants 'balanced' or {classes} positive numbers, one a class, not {wanted!r}"
        )
    return np.asarray(wanted, float)


def _among(records, split, usable):
    if split not in set(records.columns["split"]):
        return np.zeros(0, int)
    rows = records.rows(split)
    return rows[usable[rows]]
