"""What a head is: one task from end to end, so that nothing else branches on the task.

Only numpy is needed to decode; Keras is imported where a network is built or fitted.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, ODIR_LABELS, POSITIVE_DEFINITIONS, is_positive

_LABEL_FIELDS = {"grade": 1, "any_dr": 1, "dme": 1, "labels": len(ODIR_LABELS)}


@dataclasses.dataclass(frozen=True)
class Head:
    """Base of all heads; a subclass is a frozen dataclass whose fields are its config.

    A subclass says `classes` (the columns of `probabilities`, in rising severity), `outputs` (the number of logits),
    `usable`, `targets` and `strata` of a record set's columns, the `name_of` a target, `loss` and `metrics` on
    (targets, logits), and `probabilities`, `p_positive` and `grade`, in numpy. Of a tensor of logits `evidence` gives
    {target: tensor [n]} of what can be explained, the classes first, then "grade >= k" where there are grades, and
    "positive": larger the more speaks for it, and where no probability saturates.
    """

    positive: str = "referable"

    name: ClassVar[str]
    calibration: ClassVar[str]  # the kind that fits its logits, in `dr_tf.inference.calibration`
    exclusive: ClassVar[bool] = True  # probabilities are of classes that exclude each other, not of labels
    monitor: ClassVar[tuple[str, str]]  # the figure that chooses an epoch, and whether its "max" or "min" is best

    def __post_init__(self):
        if self.positive not in POSITIVE_DEFINITIONS:
            known = ", ".join(POSITIVE_DEFINITIONS)
            raise UserError(f"unknown positive definition {self.positive!r}; known: {known}")

    def logits(self, features):
        """Adds the output layer to a symbolic tensor. Float32 also under mixed precision: a loss needs the digits."""
        import keras

        return keras.layers.Dense(self.outputs, dtype="float32", name="logits")(features)

    def get_config(self):
        return dataclasses.asdict(self)


def labels_of(columns):
    """The label fields of all examples as int [n, 11], ABSENT where the records have no such field."""
    n = len(next(iter(columns.values())))
    return np.concatenate(
        [
            np.asarray(columns.get(name, np.full((n, width), ABSENT)), np.int64).reshape(n, width)
            for name, width in _LABEL_FIELDS.items()
        ],
        axis=1,
    )


def positives(definition, columns):
    """1, 0 or ABSENT for each example. Asked once for each combination of labels: 88,000 rows have a few dozen."""
    kinds, kind_of = np.unique(labels_of(columns), axis=0, return_inverse=True)
    answers = [is_positive(definition, _eye(kind)) for kind in kinds]
    return np.array([ABSENT if a is None else int(a) for a in answers])[kind_of.reshape(-1)]


def _eye(kind):
    return dict(zip(_LABEL_FIELDS, kind[:3], strict=False)) | {"labels": kind[3:]}


def sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(z, np.float64)))
