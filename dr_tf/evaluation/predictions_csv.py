"""predictions.csv: one row a photograph, complete enough to make every figure again without the model."""

import csv

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.predictions import Predictions

_SHARED = ("dataset", "split", "positive")  # the same in every row
_PLAIN = {
    "id": "ids", "patient": "patients", "patient_known": "patient_known", "truth_positive": "truth_positive",
    "p_positive": "p_positive", "p_positive_uncalibrated": "p_positive_uncalibrated", "threshold": "threshold", "refer": "refer",
    "action": "action", "gradable": "gradable", "reason": "reason", "distance": "distance",
}  # fmt: skip
_OF_CLASSES = {"p": "probabilities", "uncalibrated": "uncalibrated"}  # one column a class: "p/mild NPDR"
_BY_NAME = ("uncertainty", "subgroups", "other_truth", "other_predicted")
_ENDS = ("interval/low", "interval/high")


def write_predictions(path, predictions):
    columns = _columns(predictions)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(_texts(values) for values in columns.values()), strict=True))


def _texts(values):
    """`tolist` makes Python floats, whose text is the shortest that reads back as the same number."""
    values = values.astype(int) if values.dtype == bool else values
    return values.tolist()


def _columns(predictions):
    columns = {name: getattr(predictions, field) for name, field in _PLAIN.items()}
    for name in ("truth", "predicted"):
        columns |= _split(name, getattr(predictions, name), predictions.classes)
    for name, field in _OF_CLASSES.items():
        columns |= _split(name, getattr(predictions, field), predictions.classes)
    if predictions.prediction_intervals is not None:
        columns |= dict(zip(_ENDS, predictions.prediction_intervals.T, strict=True))
    for field in _BY_NAME:
        columns |= {f"{field}/{name}": values for name, values in getattr(predictions, field).items()}
    columns |= {name: np.full(len(predictions), getattr(predictions, name)) for name in _SHARED}
    return {name: values for name, values in columns.items() if values is not None}


def _split(name, values, classes):
    """A matrix becomes a column a class."""
    if values is None or values.ndim == 1:
        return {name: values}
    return {f"{name}/{label}": values[:, i] for i, label in enumerate(classes)}


def read_predictions(path):
    """The predictions that `write_predictions` wrote, every number the same."""
    columns = _read(path)
    classes = tuple(name.removeprefix("p/") for name in columns if name.startswith("p/"))
    missing = {"id", "patient", "threshold", "refer", *_SHARED} - set(columns)
    if missing or not classes:
        raise UserError(f"{path}: not a predictions.csv of ours; missing: {', '.join(sorted(missing)) or 'p/…'}")
    try:
        return Predictions(**_fields(columns, classes))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged: {error}") from error


def _read(path):
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(rows) < 2:
        raise UserError(f"{path}: no predictions")
    if {len(row) for row in rows} != {len(rows[0])}:
        raise UserError(f"{path}: damaged: rows of different length")
    return {name: np.array(column) for name, *column in zip(*rows, strict=True)}


def _fields(columns, classes):
    fields = {field: columns[name] for name, field in _PLAIN.items() if name in columns}
    for name in ("patient_known", "refer", "gradable"):
        if name in columns:
            fields[_PLAIN[name]] = columns[name].astype(int).astype(bool)
    for name in ("truth", "predicted"):
        fields[name] = columns[name] if name in columns else _joined(name, columns, classes)
    for name, field in _OF_CLASSES.items():
        fields[field] = _joined(name, columns, classes)
    fields["prediction_intervals"] = np.stack([columns[end] for end in _ENDS], axis=1) if _ENDS[0] in columns else None
    for field in _BY_NAME:
        names = [name for name in columns if name.startswith(f"{field}/")]
        fields[field] = {name.removeprefix(f"{field}/"): columns[name] for name in names}
    return fields | {name: columns[name][0].item() for name in _SHARED} | {"classes": classes}


def _joined(name, columns, classes):
    if f"{name}/{classes[0]}" not in columns:
        return None
    return np.stack([columns[f"{name}/{label}"] for label in classes], axis=1)
