"""Base class of heads: a head owns one task end to end, so that no other code branches on the task.

It defines the output layer, the targets, the loss, the training metrics, and the decoding of logits. Decoding needs
only NumPy; Keras is imported where a network is built or trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import ABSENT, EYES, ODIR_LABELS, POSITIVE_DEFINITIONS, is_positive
from dr_tf.models.links import scores_to_probabilities

if TYPE_CHECKING:
    import keras

    Projection = Callable[[keras.KerasTensor], keras.KerasTensor]

_LABEL_FIELDS = {"grade": 1, "any_dr": 1, "dme": 1, "labels": len(ODIR_LABELS)}  # field -> number of values


@dataclasses.dataclass(frozen=True)
class Head:
    """Base of all heads.

    A subclass is a frozen dataclass whose fields are its config. It defines the class variables below and the methods
    that raise `NotImplementedError` here. `columns` is always a mapping from the name of a record field to the values
    of all examples.

    Attributes:
        positive: The positive definition (see `dr_tf.grades`) that decides on referral.
        name: Name of the head in `HEADS`.
        link: Name of the link in `dr_tf.models.links` that decodes its logits.
        exclusive: Whether exactly one class is true per example. If not, the classes are independent labels.
        monitor: The metric that selects the best epoch, and whether "max" or "min" is best.
        classes: Names of the classes, in rising severity. They are the columns of `probabilities`.
        outputs: Number of logits.
    """

    positive: str = "referable"

    name: ClassVar[str]
    link: ClassVar[str]
    exclusive: ClassVar[bool] = True
    monitor: ClassVar[tuple[str, str]]

    if TYPE_CHECKING:  # a subclass has a class variable or a property

        @property
        def classes(self) -> tuple[str, ...]:
            """Names of the classes."""

        @property
        def outputs(self) -> int:
            """Number of logits."""

    def __post_init__(self):
        if self.positive not in POSITIVE_DEFINITIONS:
            known = ", ".join(POSITIVE_DEFINITIONS)
            raise UserError(f"unknown positive definition {self.positive!r}; known: {known}")

    def true_classes(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the class number of each example, int [n]; for multi-label 0 or 1 per label, int [n, labels].

        ABSENT (-1) stands for unknown.
        """
        raise NotImplementedError

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the training targets, float32 [n, ...], as `loss` and `metrics` take them."""
        raise NotImplementedError

    def target_name(self, target: np.ndarray) -> str:
        """Return the name of one example's target, for people."""
        raise NotImplementedError

    def loss(self) -> keras.losses.Loss:
        """Build the loss of (targets, logits)."""
        raise NotImplementedError

    def training_loss(self, true_classes: np.ndarray | None = None) -> keras.losses.Loss:
        """Build the loss that is trained: `loss`, and what a config adds to it.

        Args:
            true_classes: Classes of the training examples, as `true_classes` returns them, for losses that depend on them.
        """
        del true_classes
        return self.loss()

    def metrics(self) -> list[keras.metrics.Metric]:
        """Build the training metrics of (targets, logits)."""
        raise NotImplementedError

    def evidence(self, logits: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
        """Compute the score of everything that an explanation can be requested for.

        Args:
            logits: Tensor [n, outputs].

        Returns:
            {target: tensor [n]}: the classes first, then "grade >= k" where the classes are grades, and "positive".
            Higher means more evidence for the target. Unlike probabilities, the values do not saturate.
        """
        raise NotImplementedError

    def definition_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Compute the probability of each of `definitions`, [n, definitions], from class probabilities [n, classes]."""
        raise NotImplementedError

    def logits(self, features: keras.KerasTensor, name: str, projection: Projection | None = None) -> keras.KerasTensor:
        """Add the output layer, called `name`, to a symbolic tensor.

        It computes in float32 also under mixed precision, as the loss needs the precision.

        Args:
            features: The tensor, [n, width].
            name: Name of the output.
            projection: Function that applies the trained layers between backbone and heads to another tensor; None if
                there are no such layers.

        Returns:
            The logits, [n, outputs].
        """
        import keras

        del projection
        return keras.layers.Dense(self.outputs, dtype="float32", name=name)(features)

    @property
    def starts_from_features(self) -> bool:
        """Whether `initialize` sets the initial weights of the output layer from the training features."""
        return False

    def initialize(self, layer: keras.layers.Layer, features: np.ndarray, true_classes: np.ndarray) -> None:
        """Set the initial weights of the output layer, if the head `starts_from_features`.

        Args:
            layer: The output layer, as `logits` made it.
            features: Features of the training examples, [n, width].
            true_classes: Their classes, as `true_classes` returns them.
        """

    def has_label(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return which examples have a known label for this task, bool [n]."""
        return self.true_classes(columns) != ABSENT

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Decode logits [n, outputs] to class probabilities [n, classes], without calibration."""
        return scores_to_probabilities(self.link, logits, len(self.classes))

    @property
    def definitions(self) -> tuple[str, ...]:
        """The positive definitions that the head decides, each by its own threshold. `positive` is one of them."""
        return (self.positive,)

    def p_positive(self, probabilities: np.ndarray) -> np.ndarray:
        """Compute the probability of `positive`, [n], from class probabilities [n, classes]."""
        return self.definition_probabilities(probabilities)[:, self.definitions.index(self.positive)]

    def grade(self, probabilities: np.ndarray) -> np.ndarray | None:
        """Return the most probable grade, int [n], or None if the classes are not grades."""
        del probabilities
        return None

    def get_config(self) -> dict[str, Any]:
        """Return the fields, from which `HEADS[name](**config)` builds an equal head."""
        return dataclasses.asdict(self)


def positive_labels(definition: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Evaluate a positive definition on each example.

    In records of pairs, a patient is positive if one eye is, and unknown if no eye is positive and one is unknown. An
    absent eye counts as negative.

    Args:
        definition: A name in `dr_tf.grades.POSITIVE_DEFINITIONS`.
        columns: {record field: values of all examples}.

    Returns:
        1, 0 or ABSENT for each example, int [n].
    """
    eyes = [eye for eye in EYES if f"{eye}/grade" in columns]
    if not eyes or definition.startswith("odir_"):
        return _positive_labels(definition, columns)
    by_eye = [
        np.where(columns[f"{eye}_present"], _positive_labels(definition, _columns_of_eye(columns, eye)), 0)
        for eye in eyes
    ]
    return np.where(np.any(np.equal(by_eye, 1), axis=0), 1, np.min(by_eye, axis=0))


def definition_labels(head: Head, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Evaluate each definition that a head decides on each example: 1, 0 or ABSENT, int [n, definitions]."""
    return np.stack([positive_labels(definition, columns) for definition in head.definitions], axis=1)


def _columns_of_eye(columns, eye):
    return {name.removeprefix(f"{eye}/"): values for name, values in columns.items() if name.startswith(f"{eye}/")}


def _positive_labels(definition, columns):
    """Evaluate the definition once per distinct combination of labels: 88,000 rows have a few dozen."""
    combinations, combination_of = np.unique(_label_matrix(columns), axis=0, return_inverse=True)
    labels = [is_positive(definition, _labels_by_field(row)) for row in combinations]
    return np.array([ABSENT if label is None else int(label) for label in labels])[combination_of.reshape(-1)]


def _label_matrix(columns):
    """The label fields of all examples, int [n, 11]; ABSENT where the records do not have a field."""
    n = len(next(iter(columns.values())))
    return np.concatenate(
        [
            np.asarray(columns.get(name, np.full((n, width), ABSENT)), np.int64).reshape(n, width)
            for name, width in _LABEL_FIELDS.items()
        ],
        axis=1,
    )


def _labels_by_field(row):
    return dict(zip(_LABEL_FIELDS, row[:3], strict=False)) | {"labels": row[3:]}
