"""Read and write predictions.csv, one row per example, from which every metric can be computed without the model."""

import csv
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.evaluation.predictions import Predictions
from dr_tf.safe_names import csv_cell, from_csv_cell, printable

_CONSTANT = ("dataset", "split", "positive")  # the same in every row
_SINGLE_COLUMNS = {
    "id": "ids", "patient": "patients", "patient_known": "patient_known", "truth_positive": "truth_positive",
    "p_positive": "p_positive", "p_positive_uncalibrated": "p_positive_uncalibrated", "threshold": "threshold",
    "refer": "refer", "action": "action", "gradable": "gradable", "reason": "reason", "warning": "warning", "distance": "distance",
}  # fmt: skip
_PER_CLASS = {"p": "probabilities", "uncalibrated": "uncalibrated"}  # one column per class: "p/mild NPDR"
_NAMED = (
    "uncertainty",
    "subgroups",
    "other_truth",
    "other_predicted",
    "other_p_positive",
)  # columns such as "subgroups/camera"
_INTERVAL_ENDS = ("interval/low", "interval/high")
_EARLIER = ("decided", "slices", "other_decided")  # columns, or their prefixes, of version 1


def write_predictions(path: str | os.PathLike, predictions: Predictions) -> None:
    """Write predictions.csv."""
    columns = _columns(predictions)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(csv_cell, columns))
        rows = zip(*(_python_values(values) for values in columns.values()), strict=True)
        writer.writerows(map(csv_cell, row) for row in rows)


def _python_values(values: np.ndarray) -> list[Any]:
    """`tolist` makes Python floats, whose text is the shortest that reads back as the same number."""
    values = values.astype(int) if values.dtype == bool else values
    return values.tolist()


def _columns(predictions: Predictions) -> dict[str, np.ndarray]:
    columns = {name: getattr(predictions, field) for name, field in _SINGLE_COLUMNS.items()}
    for name in ("truth", "predicted"):
        columns |= _split_by_class(name, getattr(predictions, name), predictions.classes)
    for name, field in _PER_CLASS.items():
        columns |= _split_by_class(name, getattr(predictions, field), predictions.classes)
    if predictions.prediction_intervals is not None:
        columns |= dict(zip(_INTERVAL_ENDS, predictions.prediction_intervals.T, strict=True))
    for field in _NAMED:
        columns |= {f"{field}/{name}": values for name, values in getattr(predictions, field).items()}
    columns |= {name: np.full(len(predictions), getattr(predictions, name)) for name in _CONSTANT}
    return {name: values for name, values in columns.items() if values is not None}


def _split_by_class(
    name: str, values: np.ndarray | None, classes: tuple[str, ...]
) -> dict[str, np.ndarray] | dict[str, None]:
    """A matrix becomes one column per class."""
    if values is None:
        return {name: None}
    if values.ndim == 1:
        return {name: values}
    return {f"{name}/{label}": values[:, i] for i, label in enumerate(classes)}


def read_predictions(path: str | os.PathLike) -> Predictions:
    """Read the predictions that `write_predictions` wrote, with every number unchanged.

    Raises:
        UserError: if the file cannot be read, is damaged, or was written by an earlier version.
    """
    files.restore(pathlib.Path(path).parent)  # of a killed evaluation
    columns = _read(path)
    if any(name.split("/")[0] in _EARLIER for name in columns):
        raise UserError(f"{path} was written by an earlier version; evaluate the run again")
    classes = tuple(name.removeprefix("p/") for name in columns if name.startswith("p/"))
    missing = {"id", "patient", "patient_known", "threshold", "refer", *_CONSTANT} - set(columns)
    if missing or not classes:
        raise UserError(f"{path} is not a predictions.csv of dr_tf; missing: {', '.join(sorted(missing)) or 'p/…'}")
    try:
        return Predictions(**_fields(columns, classes))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged: {printable(str(error))}") from error


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [list(map(from_csv_cell, row)) for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(rows) < 2:
        raise UserError(f"{path}: no predictions")
    if {len(row) for row in rows} != {len(rows[0])}:
        raise UserError(f"{path}: damaged: rows of different length")
    return {name: np.array(column) for name, *column in zip(*rows, strict=True)}


def _fields(columns: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {field: columns[name] for name, field in _SINGLE_COLUMNS.items() if name in columns}
    for name in ("patient_known", "refer", "gradable"):
        if name in columns:
            fields[_SINGLE_COLUMNS[name]] = columns[name].astype(int).astype(bool)
    for name in ("truth", "predicted"):
        fields[name] = columns[name] if name in columns else _stack_classes(name, columns, classes)
    for name, field in _PER_CLASS.items():
        fields[field] = _stack_classes(name, columns, classes)
    if _INTERVAL_ENDS[0] in columns:
        fields["prediction_intervals"] = np.stack([columns[end] for end in _INTERVAL_ENDS], axis=1)
    for field in _NAMED:
        names = [name for name in columns if name.startswith(f"{field}/")]
        fields[field] = {name.removeprefix(f"{field}/"): columns[name] for name in names}
    return fields | {name: columns[name][0].item() for name in _CONSTANT} | {"classes": classes}


def _stack_classes(name: str, columns: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> np.ndarray | None:
    if f"{name}/{classes[0]}" not in columns:
        return None
    return np.stack([columns[f"{name}/{label}"] for label in classes], axis=1)
