"""What a run predicted on a set of photographs (or of patients, where a record is a patient), beside the truth."""

import dataclasses
import functools

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, GRADES, ODIR_LABELS, is_positive

# Field -> (type, dimensions; 0: one or two, as for a class or for one answer a label). The rest is checked by hand.
_COLUMNS = {
    "ids": (str, 1), "patients": (str, 1), "patient_known": (bool, 1), "truth": (int, 0), "predicted": (int, 0),
    "probabilities": (float, 2), "truth_positive": (int, 1), "p_positive": (float, 1), "threshold": (float, 1),
    "refer": (bool, 1), "uncalibrated": (float, 2), "p_positive_uncalibrated": (float, 1), "prediction_intervals": (int, 2),
    "action": (str, 1), "gradable": (bool, 1), "reason": (str, 1), "distance": ("maybe", 1),
}  # fmt: skip
# Each a dictionary of columns.
_NAMED_COLUMNS = {"uncertainty": float, "subgroups": str, "operating_points": bool, "other_truth": int, "other_predicted": int}
_PROBABILITIES = ("probabilities", "uncalibrated", "p_positive", "p_positive_uncalibrated")
_ROUNDING = 1e-5  # of sums in single precision


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """One row a case: a photograph, or a patient; -1 stands for a truth that is not known.

    `truth` and `predicted` are class numbers [n], or 0/1 [n, labels] for multi-label. `refer` is the decision taken
    with `threshold` on `p_positive`: one for all, or one a row where folds have their own. `uncertainty` maps a score's name to numbers, the higher the less sure; `subgroups`
    maps a property's name to texts, empty where it is not known; `points` the name of each of the rule's operating points
    to what it would refer. `action`, `gradable`, `reason` and `distance` are of the decision as it is deployed, with the
    gate; None where no gate was asked. `other_truth` and `other_predicted` map the name of an output that does not decide to
    class numbers.
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
    distance: np.ndarray | None = None  # not a number where it is not known
    uncertainty: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    subgroups: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    operating_points: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    other_truth: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    other_predicted: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    unit: str = "photograph"  # what a row is; "patient" where both eyes are one case

    def __post_init__(self):
        self._set("threshold", np.broadcast_to(self.threshold, len(self.ids)))
        for name, (kind, dimensions) in _COLUMNS.items():
            if (values := getattr(self, name)) is not None:
                self._set(name, _column(name, values, kind, (len(self.ids), dimensions)))
        for name, kind in _NAMED_COLUMNS.items():
            columns = getattr(self, name).items()
            self._set(name, {key: _column(key, values, kind, (len(self.ids), 1)) for key, values in columns})
        for name in _PROBABILITIES:
            if (values := getattr(self, name)) is not None:
                self._set(name, _probability(name, values))
        self._set("classes", tuple(self.classes))
        self._check()

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def _check(self):
        if not len(self):
            raise UserError(f"{self.dataset}, {self.split}: no predictions")
        if len(np.unique(self.ids)) < len(self):
            raise UserError(f"{self.dataset}, {self.split}: some ids stand for more than one prediction")
        for name in ("probabilities", "uncalibrated"):
            values = getattr(self, name)
            if values is not None and values.shape[1] != len(self.classes):
                raise ValueError(f"{name} has {values.shape[1]} columns for {len(self.classes)} classes")
            if values is not None and not self.multi_label and (np.abs(values.sum(axis=1) - 1) > 1e-3).any():
                raise ValueError(f"{name} of the classes of a photograph do not sum to 1")
        if self.truth.shape != self.predicted.shape:
            raise ValueError(f"truth {self.truth.shape} and decided {self.predicted.shape} differ in shape")

    def __len__(self):
        return len(self.ids)

    @property
    def multi_label(self):
        return self.truth.ndim == 2

    @property
    def graded(self):
        """Whether the classes are the ICDR grades."""
        return self.classes == GRADES

    @property
    def labelled(self):
        """Rows whose class, or whose every label, is known."""
        return (self.truth != ABSENT).all(axis=1) if self.multi_label else self.truth != ABSENT

    @property
    def known_positive(self):
        return self.truth_positive != ABSENT

    @functools.cached_property
    def patient_codes(self):
        """Each row's patient as a number from 0."""
        return np.unique(self.patients, return_inverse=True)[1]

    @property
    def clustered(self):
        """Whether some patient has several photographs."""
        return self.patient_codes.max() + 1 < len(self)

    def take(self, rows):
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS if getattr(self, name) is not None}
        for name in _NAMED_COLUMNS:
            columns[name] = {key: values[rows] for key, values in getattr(self, name).items()}
        return dataclasses.replace(self, **columns)

    @classmethod
    def joined(cls, parts):
        """Those of `parts`, one below the other: the same columns, of other photographs."""
        columns = {}
        for name in _COLUMNS:
            each = [getattr(part, name) for part in parts]
            columns[name] = None if any(values is None for values in each) else np.concatenate(each)
        for name in _NAMED_COLUMNS:
            each = [getattr(part, name) for part in parts]
            shared = [key for key in each[0] if all(key in columns_of for columns_of in each)]
            columns[name] = {key: np.concatenate([columns_of[key] for columns_of in each]) for key in shared}
        return dataclasses.replace(parts[0], **columns)

    @property
    def thresholds(self):
        """Those that were used, rising: one, but where folds have their own."""
        return np.unique(self.threshold).tolist()

    def class_is_positive(self):
        """For each class whether it counts as positive (True, False, or None: the class does not say)."""
        if self.graded:
            unknown = {"any_dr": ABSENT, "dme": ABSENT, "labels": (ABSENT,) * len(ODIR_LABELS)}
            return [is_positive(self.positive, {"grade": grade, **unknown}) for grade in range(len(GRADES))]
        return [False, True] if len(self.classes) == 2 and not self.multi_label else [None] * len(self.classes)


def _column(name, values, kind, shape):
    rows, dimensions = shape
    values = np.asarray(values)
    values = values.astype({int: np.int64, "maybe": float}.get(kind, kind))
    if len(values) != rows or values.ndim not in ((dimensions,) if dimensions else (1, 2)):
        raise ValueError(f"{name} has the shape {values.shape} beside {rows} ids")
    if kind is float and not np.isfinite(values).all():
        bad = int((~np.isfinite(values.reshape(rows, -1)).all(axis=1)).sum())
        raise UserError(f"{name}: not a number for {bad} of {rows} predictions; the model has diverged or is damaged")
    return values


def _probability(name, values):
    """Sums of probabilities may pass 1 by a rounding error, at which scikit-learn stops."""
    if values.min(initial=0) < -_ROUNDING or values.max(initial=1) > 1 + _ROUNDING:
        raise ValueError(f"{name} lie between {values.min()} and {values.max()}, not between 0 and 1")
    return np.clip(values, 0, 1)
