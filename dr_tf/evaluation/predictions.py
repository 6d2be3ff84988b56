"""Predictions of a run on a set of examples (images, or patients with both eyes) beside the true labels."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, GRADES, ODIR_LABELS, is_positive

# Field -> (type, dimensions; 0: one, or two for several labels). "maybe" is a float that may be NaN.
_COLUMNS = {
    "ids": (str, 1), "patients": (str, 1), "patient_known": (bool, 1), "truth": (int, 0), "predicted": (int, 0),
    "probabilities": (float, 2), "truth_positive": (int, 1), "p_positive": (float, 1), "threshold": (float, 1),
    "refer": (bool, 1), "uncalibrated": (float, 2), "p_positive_uncalibrated": (float, 1),
    "prediction_intervals": (int, 2), "action": (str, 1), "gradable": (bool, 1), "reason": (str, 1), "warning": (str, 1),
    "distance": ("maybe", 1),
}  # fmt: skip
# Fields that are dictionaries of columns -> type.
_NAMED_COLUMNS = {
    "uncertainty": float, "subgroups": str, "operating_points": bool, "other_truth": int, "other_predicted": int,
    "other_p_positive": float,
}  # fmt: skip
_PROBABILITIES = ("probabilities", "uncalibrated", "p_positive", "p_positive_uncalibrated")
_ROUNDING = 1e-5  # of sums in single precision


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions and true labels, one row per example. Any unknown true label is -1.

    Attributes:
        dataset: name of the record set.
        split: name of the split.
        ids: [n], unique names of the examples.
        patients: [n], the patient of each example.
        patient_known: [n], whether the patient is known.
        classes: names of the classes or labels.
        truth: the true class [n], or 0/1 [n, labels] for several labels.
        predicted: the predicted class [n], or 0/1 [n, labels], whatever the gate decided.
        probabilities: [n, classes], calibrated.
        positive: the definition of positive.
        truth_positive: [n], 0 or 1, whether the example is positive.
        p_positive: [n], the probability of positive.
        threshold: [n], the threshold on p_positive; one number is broadcast, folds have their own.
        refer: [n], whether the decision is to refer, whatever the gate decided.
        uncalibrated: [n, classes], probabilities before calibration.
        p_positive_uncalibrated: [n].
        prediction_intervals: [n, 2], the lowest and the highest class of the conformal prediction interval.
        action: [n], "clear", "refer" or "retake", as it is deployed with the gate; None where the gate was not applied.
        gradable: [n], whether the gate accepts the example; None as above.
        reason: [n], why it has to be retaken, or ""; None as above.
        warning: [n], why the decision may be less reliable, or ""; None as above.
        distance: [n], out-of-distribution distance, NaN where unknown; None as above.
        uncertainty: {name of a score: [n]}, higher is more uncertain.
        subgroups: {property: [n] as text, "" where unknown}.
        operating_points: {name of an operating point: [n], whether it would refer}.
        other_truth: {output that does not decide: the true class [n]}.
        other_predicted: {output that does not decide: the predicted class [n]}.
        other_p_positive: {output with two classes that does not decide: the probability of the second one [n]}.
        unit: what a row is: "photograph", or "patient" where both eyes are one example.
    """

    dataset: str
    split: str
    ids: np.ndarray
    patients: np.ndarray
    patient_known: np.ndarray
    classes: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    positive: str
    truth_positive: np.ndarray
    p_positive: np.ndarray
    threshold: np.ndarray
    refer: np.ndarray
    uncalibrated: np.ndarray | None = None
    p_positive_uncalibrated: np.ndarray | None = None
    prediction_intervals: np.ndarray | None = None
    action: np.ndarray | None = None
    gradable: np.ndarray | None = None
    reason: np.ndarray | None = None
    warning: np.ndarray | None = None
    distance: np.ndarray | None = None
    uncertainty: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    subgroups: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    operating_points: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    other_truth: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    other_predicted: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    other_p_positive: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    unit: str = "photograph"

    def __post_init__(self) -> None:
        self._set("threshold", np.broadcast_to(self.threshold, len(self.ids)))
        for name, (kind, dimensions) in _COLUMNS.items():
            if (values := getattr(self, name)) is not None:
                self._set(name, _column(name, values, kind, (len(self.ids), dimensions)))
        for name, kind in _NAMED_COLUMNS.items():
            columns = getattr(self, name).items()
            self._set(name, {key: _column(key, values, kind, (len(self.ids), 1)) for key, values in columns})
        for name in _PROBABILITIES:
            if (values := getattr(self, name)) is not None:
                self._set(name, _clip_probabilities(name, values))
        self._set("classes", tuple(self.classes))
        self._check()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        if not len(self):
            raise UserError(f"{self.dataset}, {self.split}: no predictions")
        if len(np.unique(self.ids)) < len(self):
            raise UserError(f"{self.dataset}, {self.split}: several predictions have the same id")
        for name in ("probabilities", "uncalibrated"):
            values = getattr(self, name)
            if values is not None and values.shape[1] != len(self.classes):
                raise ValueError(f"{name} has {values.shape[1]} columns for {len(self.classes)} classes")
            if values is not None and not self.multi_label and (np.abs(values.sum(axis=1) - 1) > 1e-3).any():
                raise ValueError(f"{name}: the class probabilities of an image do not sum to 1")
        if self.truth.shape != self.predicted.shape:
            raise ValueError(f"truth {self.truth.shape} and predicted {self.predicted.shape} differ in shape")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def multi_label(self) -> bool:
        """Whether an example has several labels instead of one class."""
        return self.truth.ndim == 2

    @property
    def graded(self) -> bool:
        """Whether the classes are the ICDR grades."""
        return self.classes == GRADES

    @property
    def labelled(self) -> np.ndarray:
        """Whether the true class, or every true label, of each row is known [n]."""
        return (self.truth != ABSENT).all(axis=1) if self.multi_label else self.truth != ABSENT

    @property
    def known_positive(self) -> np.ndarray:
        """Whether each row is known to be positive or negative [n]."""
        return self.truth_positive != ABSENT

    @functools.cached_property
    def patient_codes(self) -> np.ndarray:
        """The patient of each row as a number from 0 [n]."""
        return np.unique(self.patients, return_inverse=True)[1]

    @property
    def clustered(self) -> bool:
        """Whether a patient has several rows."""
        return self.patient_codes.max() + 1 < len(self)

    def take(self, rows: ArrayLike) -> "Predictions":
        """Select rows by number or by mask."""
        columns: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in _COLUMNS if getattr(self, name) is not None
        }
        for name in _NAMED_COLUMNS:
            columns[name] = {key: values[rows] for key, values in getattr(self, name).items()}
        return dataclasses.replace(self, **columns)

    @classmethod
    def concatenate(cls, parts: "Sequence[Predictions]") -> "Predictions":
        """Concatenate predictions of different examples; columns that any of them lacks are left out."""
        columns: dict[str, Any] = {}
        for name in _COLUMNS:
            arrays = [getattr(part, name) for part in parts]
            columns[name] = None if any(values is None for values in arrays) else np.concatenate(arrays)
        for name in _NAMED_COLUMNS:
            named = [getattr(part, name) for part in parts]
            shared = [key for key in named[0] if all(key in by_key for by_key in named)]
            columns[name] = {key: np.concatenate([by_key[key] for by_key in named]) for key in shared}
        return dataclasses.replace(parts[0], **columns)

    @property
    def thresholds(self) -> list[float]:
        """The distinct thresholds in ascending order: one, or one of each fold."""
        return np.unique(self.threshold).tolist()

    def class_is_positive(self) -> list[bool | None]:
        """Return whether each class counts as positive; None where the class alone does not determine it."""
        if self.graded:
            unknown = {"any_dr": ABSENT, "dme": ABSENT, "labels": (ABSENT,) * len(ODIR_LABELS)}
            return [is_positive(self.positive, {"grade": grade, **unknown}) for grade in range(len(GRADES))]
        return [False, True] if len(self.classes) == 2 and not self.multi_label else [None] * len(self.classes)


def _column(name: str, column: ArrayLike, kind: Any, shape: tuple[int, int]) -> np.ndarray:
    rows, dimensions = shape
    values = np.asarray(column)
    values = values.astype({int: np.int64, "maybe": float}.get(kind, kind))
    if len(values) != rows or values.ndim not in ((dimensions,) if dimensions else (1, 2)):
        raise ValueError(f"{name} has the shape {values.shape} beside {rows} ids")
    if kind is float and not np.isfinite(values).all():
        bad = int((~np.isfinite(values.reshape(rows, -1)).all(axis=1)).sum())
        raise UserError(f"{name}: not a number for {bad} of {rows} predictions; the model has diverged or is damaged")
    return values


def _clip_probabilities(name: str, values: np.ndarray) -> np.ndarray:
    """Sums of probabilities may exceed 1 by a rounding error, which scikit-learn refuses."""
    if values.min(initial=0) < -_ROUNDING or values.max(initial=1) > 1 + _ROUNDING:
        raise ValueError(f"{name} lie between {values.min()} and {values.max()}, not between 0 and 1")
    return np.clip(values, 0, 1)
