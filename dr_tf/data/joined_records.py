"""The columns of several record sets, one below the other, and which sets can stand together at all."""

import numpy as np

from dr_tf.console import UserError

_NAMES = ("image_id", "patient_id", "test_copy")  # unique in a set, and not among several


def check_alike(parts):
    """Refuses sets that a network could not take side by side, or that no fold could hold."""
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise UserError(f"a record set is named twice: {', '.join(names)}")
    first, folds = parts[0], {part.name: _folds(part) for part in parts if _fitted(part).any()}
    for part in parts[1:]:
        if part.paired != first.paired:
            single, pairs = sorted((first, part), key=lambda records: records.paired)
            raise UserError(f"{single.name} holds single photographs and {pairs.name} both eyes: they cannot be joined")
        if _config(part) != _config(first):
            raise UserError(
                f"{first.name} and {part.name} were made in different ways: build both with the same size, "
                "enhancement and quality"
            )
    for name, numbers in folds.items():
        other, others = next(iter(folds.items()))
        if numbers != others:
            raise UserError(
                f"{other} has {len(others)} folds and {name} {len(numbers)}: build both with the same --folds"
            )


def joined_columns(parts):
    """What a set lacks is not known of its examples: -1, False or empty. Names begin with the set's, as in idrid/001."""
    renamed = [_renamed(part) for part in parts]
    names = dict.fromkeys(name for columns in renamed for name in columns)
    return {name: _joined(name, [columns.get(name) for columns in renamed], parts) for name in names}


def name_in(part, image_id):
    """What a photograph or patient of one of several joined sets is called."""
    return f"{part.name.split('/')[0]}/{image_id}"


def _config(part):
    return part.name.split("/")[-1]


def _fitted(part):
    return part.columns["split"] != "test"


def _folds(part):
    fold = part.columns["fold"]
    return sorted(set(fold[fold >= 0].tolist()))


def _renamed(part):
    return {
        name: np.array([value and name_in(part, value) for value in values.tolist()], str)
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
        [_absent(first, len(part)) if values is None else values for values, part in zip(columns, parts, strict=True)]
    )


def _absent(like, count):
    value = {"U": "", "b": False}.get(like.dtype.kind, -1)
    return np.full((count, *like.shape[1:]), value, like.dtype)
