"""Roles of the examples in a run (training, selection, calibration, held out), and class weights of the training examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import Records
from dr_tf.data.sources import FITTED_SPLITS, TRAIN_ON_ONE, divide_by_source
from dr_tf.inference.cross_fitting import patient_folds
from dr_tf.models.heads.head import Head


@dataclasses.dataclass(frozen=True)
class Roles:
    """Row numbers of a record set by their role in a run.

    Attributes:
        fit: training examples.
        select: examples that select the epoch to keep.
        calibrate: examples that calibrate probabilities and set thresholds.
        held_out: examples of the held-out fold or source, which training never uses; None if nothing is held out.
        unlabelled: examples of the same part as `fit` without a label of the deciding output. They are trained on only
            where they have lesion masks. The cross-site protocols have none.
    """

    fit: np.ndarray
    select: np.ndarray
    calibrate: np.ndarray
    held_out: np.ndarray | None = None
    unlabelled: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))

    @property
    def not_fitted(self) -> np.ndarray:
        """All examples that select, calibrate or evaluate the run."""
        held_out = self.select[:0] if self.held_out is None else self.held_out
        return np.concatenate([self.select, self.calibrate, held_out])


def split_roles(records: Records, head: Head) -> Roles:
    """Return the roles by the published splits: train, validation and calibration."""
    usable = usable_rows(records, head)
    fit, select, calibrate = (
        _usable_in_split(records, split, usable) for split in ("train", "validation", "calibration")
    )
    return Roles(fit, select, calibrate, unlabelled=_usable_in_split(records, "train", ~usable))


def fold_roles(records: Records, head: Head, *, fold: int, folds: int, selects: bool) -> Roles:
    """Return the roles in a cross-validation with one fold held out.

    Args:
        records: the record set.
        head: head of the deciding output.
        fold: number of the held-out fold.
        folds: number of folds.
        selects: whether an epoch is selected. Then half of the patients of the next fold select it and the other half
            calibrate, as the examples that select an epoch would make calibration overoptimistic. Otherwise nothing is
            left to calibrate on.
    """
    fold_of_row = check_folds(records, folds)
    usable = usable_rows(records, head)
    held_out = np.flatnonzero(usable & (fold_of_row == fold))
    fitted = (fold_of_row >= 0) & (fold_of_row != fold)
    if not selects:
        fit, unlabelled = _usable_and_not(fitted, usable)
        return Roles(fit, select=held_out, calibrate=held_out[:0], held_out=held_out, unlabelled=unlabelled)
    other = (fold + 1) % folds
    fit, unlabelled = _usable_and_not(fitted & (fold_of_row != other), usable)
    select, calibrate = _halves(records, head, np.flatnonzero(usable & (fold_of_row == other)))
    return Roles(fit, select, calibrate, held_out, unlabelled)


def source_roles(records: Records, head: Head, *, source: str, protocol: str) -> Roles:
    """Return the roles in a cross-site protocol: the splits of the training sources, and the held-out sources.

    Args:
        records: the record set.
        head: head of the deciding output.
        source: the source that is left out, or the one that is trained on.
        protocol: "leave_one_source_out" or "train_on_one_source".
    """
    of_source, of_others = divide_by_source(records, usable_rows(records, head), source)
    fitted, held_out = (of_source, of_others) if protocol == TRAIN_ON_ONE else (of_others, of_source)
    split = records.columns["split"]
    fit, select, calibrate = (np.flatnonzero(fitted & (split == name)) for name in FITTED_SPLITS)
    return Roles(fit, select, calibrate, np.flatnonzero(held_out))


def check_folds(records: Records, folds: int) -> np.ndarray:
    """Return the fold of each row, -1 for none. Raises UserError if the records have another number of folds."""
    fold_of_row = records.columns["fold"]
    numbers = sorted(set(fold_of_row[fold_of_row >= 0].tolist()))
    if numbers != list(range(folds)):
        raise UserError(
            f"{records.name} has {len(numbers)} folds, not {folds}: --folds is the number of folds that the records were "
            "built with"
        )
    return fold_of_row


def _halves(records, head, rows):
    """The rows of two halves of the patients, stratified by grade."""
    true_classes = head.true_classes(records.columns)[rows]
    worst = true_classes if true_classes.ndim == 1 else true_classes.max(axis=1)
    half = patient_folds(np.asarray(records.columns["patient_id"])[rows], worst, folds=2)
    return rows[half == 0], rows[half == 1]


def refit_roles(records: Records, head: Head) -> Roles:
    """Return the roles if everything but the test split is fitted: nothing is left to select or calibrate on."""
    fit, unlabelled = _usable_and_not(records.columns["fold"] >= 0, usable_rows(records, head))
    return Roles(fit, select=fit[:0], calibrate=fit[:0], unlabelled=unlabelled)


def usable_rows(records: Records, head: Head) -> np.ndarray:
    """Return which rows have a label for the head, bool [n]. Raises UserError if none has."""
    usable = head.has_label(records.columns)
    if not usable.any():
        raise UserError(
            f"none of the {len(usable)} examples of {records.name} has the labels that the head {head.name} needs"
        )
    return usable


def check_classes(head: Head, true_classes: np.ndarray, dataset: str) -> None:
    """Raise UserError if a class has no training example, as it could never be predicted."""
    members = _memberships(true_classes, len(head.classes))
    absent = [name for name, count in zip(head.classes, members.sum(axis=0), strict=True) if count == 0]
    if absent:
        raise UserError(
            f"no example of {', '.join(absent)} among the {len(true_classes)} training examples of {dataset}"
        )


def with_share_of_patients(roles: Roles, records: Records, share: float, seed: int) -> Roles:
    """Return the roles with a random share of the training patients. Of one seed, smaller shares are within larger ones."""
    if share == 1:
        return roles
    patients, patient_of = np.unique(records.columns["patient_id"][roles.fit], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(patients))
    kept = order[: max(1, round(share * len(patients)))]
    return dataclasses.replace(roles, fit=roles.fit[np.isin(patient_of, kept)])


def class_weights(
    setting: str | Sequence[float], true_classes: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight with mean 1 for each training example, and the factor of each class.

    Args:
        setting: "balanced" for n / (classes * count) as in scikit-learn, or a positive number for each class.
        true_classes: class of each training example, int [n], or its labels [n, labels]. An example with several labels
            has the mean weight of its labels, one without any 1.
        classes: number of classes or labels.

    Raises:
        UserError: the setting is invalid.
    """
    members = _memberships(true_classes, classes)
    by_class = _by_class(setting, members)
    labels = members.sum(axis=1)
    weights = np.where(labels > 0, (members * by_class).sum(axis=1) / np.maximum(labels, 1), 1.0)
    return weights / weights.mean(), by_class


def weighted_prior(
    prior: Sequence[float], true_classes: np.ndarray, weights: np.ndarray, by_class: np.ndarray, *, exclusive: bool
) -> np.ndarray:
    """Return the class prior of the batches once examples are weighted, as `class_weights` returns weights.

    Args:
        prior: class prior of the batches without weights.
        true_classes: class of each training example, int [n], or its labels [n, labels].
        weights: weight of each training example.
        by_class: factor of each class.
        exclusive: whether an example has exactly one class. The frequency of an independent label changes by the mean
            weight of the examples that have it.
    """
    before = np.asarray(prior)
    if exclusive:
        return before * by_class / (before * by_class).sum()
    has_label = true_classes == 1
    return before * (has_label * weights[:, None]).sum(axis=0) / np.maximum(has_label.sum(axis=0), 1)


def _memberships(true_classes, classes):
    """Bool [n, classes]."""
    return true_classes == 1 if true_classes.ndim == 2 else true_classes[:, None] == np.arange(classes)


def _by_class(setting: Any, members: np.ndarray) -> np.ndarray:
    classes = members.shape[1]
    if isinstance(setting, str):
        return len(members) / (classes * np.maximum(members.sum(axis=0), 1))
    if len(setting) != classes:
        raise UserError(f"train.class_weights has {len(setting)} numbers, not one for each of the {classes} classes")
    return np.asarray(setting, float)


def _usable_and_not(part, usable):
    return np.flatnonzero(part & usable), np.flatnonzero(part & ~usable)


def _usable_in_split(records, split, usable):
    if split not in set(records.columns["split"]):
        return np.zeros(0, int)
    rows = records.rows(split)
    return rows[usable[rows]]
