"""Which rows of a record set a run fits on, which it selects by, and what the fitted ones weigh."""

import dataclasses

import numpy as np

from dr_tf.console import UserError


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
    """Fold `fold` is held out. Where an epoch is chosen the next fold chooses it, so that none is chosen by its own score."""
    fold_of = records.columns["fold"]
    found = sorted(set(fold_of[fold_of >= 0].tolist()))
    if found != list(range(folds)):
        raise UserError(
            f"{records.name}: its folds.csv has {len(found)} folds, not {folds}; records keep one set of folds"
        )
    usable = usable_rows(records, head)
    held_out = np.flatnonzero(usable & (fold_of == fold))
    chooser = (fold + 1) % folds if selects else fold
    fit = np.flatnonzero(usable & (fold_of >= 0) & (fold_of != fold) & (fold_of != chooser))
    select = np.flatnonzero(usable & (fold_of == chooser))
    return Roles(fit, select, calibrate=select if selects else select[:0], held_out=held_out)


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
    members = strata if strata.ndim == 2 else strata[:, None] == np.arange(len(head.classes))
    absent = [name for name, count in zip(head.classes, members.sum(axis=0), strict=True) if count == 0]
    if absent:
        raise UserError(f"nothing of {', '.join(absent)} among the {len(strata)} fitted examples of {dataset}")


def class_weights(wanted, strata):
    """A weight per fitted example with mean 1, and the factor that each class's prior is multiplied by."""
    counts = np.bincount(strata)
    by_class = len(strata) / (len(counts) * counts) if isinstance(wanted, str) else np.asarray(wanted, float)
    weights = by_class[strata]
    return weights / weights.mean(), by_class


def _among(records, split, usable):
    if split not in set(records.columns["split"]):
        return np.zeros(0, int)
    rows = records.rows(split)
    return rows[usable[rows]]
