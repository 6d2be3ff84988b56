"""What a head is: one task from end to end, so that nothing else branches on the task.

Only numpy is needed to decode; Keras is imported where a network is built or fitted.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, ODIR_LABELS, POSITIVE_DEFINITIONS, is_positive
from dr_tf.models.links import decoded

_LABEL_FIELDS = {"grade": 1, "any_dr": 1, "dme": 1, "labels": len(ODIR_LABELS)}


@dataclasses.dataclass(frozen=True)
class Head:
    """Base of all heads; a subclass is a frozen dataclass whose fields are its config.

    A subclass says `classes` (the columns of `probabilities`, in rising severity), `outputs` (the number of logits),
    `strata` and `targets` of a record set's columns, the `name_of` a target, `loss` and `metrics` on (targets, logits),
    and `decided`: the definitions that it answers yes or no to, and `scores`, the probability of each, in numpy. Of a
    tensor of logits `evidence` gives {target: tensor [n]} of what can be explain_crops, the classes first, then "grade >= k"
    where there are grades, and "positive": larger the more speaks for it, and where no probability saturates.
    """

    positive: str = "referable"

    name: ClassVar[str]
    link: ClassVar[str]  # from its logits to probabilities: a name in `dr_tf.models.links`
    exclusive: ClassVar[bool] = True  # probabilities are of classes that exclude each other, not of labels
    monitor: ClassVar[tuple[str, str]]  # the metric that chooses an epoch, and whether its "max" or "min" is best

    def __post_init__(self):
        if self.positive not in POSITIVE_DEFINITIONS:
            known = ", ".join(POSITIVE_DEFINITIONS)
            raise UserError(f"unknown positive definition {self.positive!r}; known: {known}")

    def logits(self, features, name):
        """Adds the output layer to a symbolic tensor. Float32 also under mixed precision: a loss needs the digits."""
        import keras

        return keras.layers.Dense(self.outputs, dtype="float32", name=name)(features)

    def usable(self, columns):
        """Bool [n]: the examples that this task has a label of."""
        return self.strata(columns) != ABSENT

    def probabilities(self, logits):
        """Class probabilities of logits as they are, without calibration."""
        return decoded(self.link, logits, len(self.classes))

    @property
    def decided(self):
        """The definitions that are decided, each by a threshold of its own; `positive` is one of them."""
        return (self.positive,)

    def p_positive(self, probabilities):
        """The probability of `positive`, [n]."""
        return self.scores(probabilities)[:, self.decided.index(self.positive)]

    def grade(self, probabilities):
        """The most probable grade, or None where the classes are no grades."""
        del probabilities

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
    """1, 0 or ABSENT for each example; of both eyes of a patient one positive eye is enough."""
    eyes = [eye for eye in ("left", "right") if f"{eye}/grade" in columns]
    if not eyes or definition.startswith("odir_"):
        return _positives(definition, columns)
    each = [np.where(columns[f"{eye}_present"], _positives(definition, _of_eye(columns, eye)), 0) for eye in eyes]
    return np.where(np.any(np.equal(each, 1), axis=0), 1, np.min(each, axis=0))


def _of_eye(columns, eye):
    return {name.removeprefix(f"{eye}/"): values for name, values in columns.items() if name.startswith(f"{eye}/")}


def _positives(definition, columns):
    """RequestedModes once for each combination of labels: 88,000 rows have a few dozen."""
    kinds, kind_of = np.unique(labels_of(columns), axis=0, return_inverse=True)
    answers = [is_positive(definition, _eye(kind)) for kind in kinds]
    return np.array([ABSENT if a is None else int(a) for a in answers])[kind_of.reshape(-1)]


def decided_truth(head, columns):
    """1, 0 or ABSENT [n, definitions] of what a head decides."""
    return np.stack([positives(definition, columns) for definition in head.decided], axis=1)


def _eye(kind):
    return dict(zip(_LABEL_FIELDS, kind[:3], strict=False)) | {"labels": kind[3:]}
