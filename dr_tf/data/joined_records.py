"""Joining of several record sets into one: checks that they fit together, and their concatenated columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dr_tf.console import UserError

if TYPE_CHECKING:
    from dr_tf.data.records import Records

_NAMES = ("image_id", "patient_id", "test_copy")  # unique within a set, but not among several


def check_compatible(parts: Sequence[Records]) -> None:
    """Raise UserError unless the record sets hold the same kind of images and the same number of folds."""
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise UserError(f"a record set is named twice: {', '.join(names)}")
    first, folds = parts[0], {part.name: _folds(part) for part in parts if _is_fitted(part).any()}
    for part in parts[1:]:
        if part.paired != first.paired:
            single, pairs = sorted((first, part), key=lambda records: records.paired)
            raise UserError(
                f"{single.name} holds single images and {pairs.name} both eyes of a patient: they cannot be joined"
            )
        if _config(part) != _config(first):
            raise UserError(
                f"{first.name} and {part.name} were built with different options: build both with the same size, "
                "enhancement and quality"
            )
    for name, numbers in folds.items():
        other, others = next(iter(folds.items()))
        if numbers != others:
            raise UserError(
                f"{other} has {len(others)} folds and {name} {len(numbers)}: build both with the same --folds"
            )


def joined_columns(parts: Sequence[Records]) -> dict[str, np.ndarray]:
    """Return the columns of all sets, one below the other.

    Names of images and patients begin with the name of the set, as in idrid/001. A field that a set lacks is unknown for
    its examples: -1, False or empty.
    """
    renamed = [_renamed(part) for part in parts]
    names = dict.fromkeys(name for columns in renamed for name in columns)
    return {name: _joined(name, [columns.get(name) for columns in renamed], parts) for name in names}


def joined_name(part: Records, name: str) -> str:
    """Return the name that an image or patient of one of several joined sets has."""
    return f"{part.name.split('/')[0]}/{name}"


def _config(part):
    return part.name.split("/")[-1]


def _is_fitted(part):
    return part.columns["split"] != "test"


def _folds(part):
    fold = part.columns["fold"]
    return sorted(set(fold[fold >= 0].tolist()))


def _renamed(part):
    return {
        name: np.array([value and joined_name(part, value) for value in values.tolist()], str)
        if name.split("/")[-1] in _NAMES
        else values
        for name, values in part.columns.items()
    }


def _joined(name, columns, parts):
    first = next(values for values in columns if values is not None)
    for values, part in zip(columns, parts, strict=True):
        if values is not None and (values.dtype.kind, values.shape[1:]) != (first.dtype.kind, first.shape[1:]):
            raise UserError(f"{part.name} cannot be joined with {parts[0].name}: their fields {name!r} differ in type")
    return np.concatenate(
        [_unknown(first, len(part)) if values is None else values for values, part in zip(columns, parts, strict=True)]
    )


def _unknown(like, count):
    value = {"U": "", "b": False}.get(like.dtype.kind, -1)
    return np.full((count, *like.shape[1:]), value, like.dtype)
