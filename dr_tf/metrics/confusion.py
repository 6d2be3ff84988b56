"""Keras metrics computed from a confusion matrix: accuracy, balanced accuracy, quadratic kappa, recall.

They are exact for any batch size and sample weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

_ToClasses = Callable[[keras.KerasTensor], keras.KerasTensor]


class ConfusionMatrix(keras.metrics.Metric):
    """Base: accumulates the sample weights in `matrix` [true, predicted]. A subclass defines `score(matrix)`.

    Args:
        classes: Number of classes.
        true: Maps targets to class numbers [n]. Rows with a negative number do not count.
        predicted: Maps logits to class numbers [n].
        name: Name of the metric.
    """

    def __init__(self, classes: int, *, true: _ToClasses, predicted: _ToClasses, name: str | None = None):
        super().__init__(name=name, dtype="float32")
        self._classes, self._true, self._predicted = classes, true, predicted
        self.matrix = self.add_variable(shape=(classes, classes), initializer="zeros", name="matrix")

    def update_state(
        self,
        y_true: keras.KerasTensor,
        y_pred: keras.KerasTensor,
        sample_weight: keras.KerasTensor | None = None,
    ) -> None:
        """Add a batch of targets and logits."""
        true = self._one_hot(self._true(y_true))
        predicted = self._one_hot(self._predicted(y_pred))
        if sample_weight is not None:
            true *= ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        self.matrix.assign_add(ops.matmul(ops.transpose(true), predicted))

    def _one_hot(self, numbers):
        return ops.one_hot(ops.cast(numbers, "int32"), self._classes, dtype="float32")

    def score(self, matrix: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the metric from the matrix."""
        raise NotImplementedError

    def result(self) -> keras.KerasTensor:
        """Compute the metric of everything added so far."""
        return self.score(ops.convert_to_tensor(self.matrix))


class Accuracy(ConfusionMatrix):
    """Share of correct predictions."""

    def score(self, matrix: keras.KerasTensor) -> keras.KerasTensor:
        """Divide the diagonal by the total."""
        return ops.divide_no_nan(ops.trace(matrix), ops.sum(matrix))


class BalancedAccuracy(ConfusionMatrix):
    """Mean recall over the classes that occur."""

    def score(self, matrix: keras.KerasTensor) -> keras.KerasTensor:
        """Average the recall of the rows that are not empty."""
        counts = ops.sum(matrix, axis=1)
        recall = ops.divide_no_nan(ops.diagonal(matrix), counts)
        return ops.divide_no_nan(ops.sum(recall), ops.sum(ops.cast(counts > 0, "float32")))


class QuadraticKappa(ConfusionMatrix):
    """Cohen's kappa with quadratic weights (Cohen 1968).

    kappa = 1 - sum(w O) / sum(w E), with w = (true - predicted)^2, O the matrix, and E the matrix expected from its
    margins.

    It is 0 if a single class is all that was seen and predicted. scikit-learn returns NaN there, by which no epoch can
    be selected.
    """

    def score(self, matrix: keras.KerasTensor) -> keras.KerasTensor:
        """Compute kappa from the matrix."""
        classes = ops.arange(matrix.shape[0], dtype="float32")
        weights = ops.square(classes[:, None] - classes[None, :])
        expected = ops.sum(matrix, axis=1)[:, None] * ops.sum(matrix, axis=0)[None, :]
        expected = ops.divide_no_nan(ops.sum(weights * expected), ops.sum(matrix))
        return ops.where(expected > 0, 1 - ops.divide_no_nan(ops.sum(weights * matrix), expected), 0.0)


class Recall(ConfusionMatrix):
    """Recall of one class. Of two classes, sensitivity is the recall of class 1 and specificity that of class 0.

    Args:
        classes: Number of classes.
        class_number: The class.
        **options: The other options of `ConfusionMatrix`.
    """

    def __init__(self, classes: int, *, class_number: int, **options: Any):
        super().__init__(classes, **options)
        self._class_number = class_number

    def score(self, matrix: keras.KerasTensor) -> keras.KerasTensor:
        """Divide the correct predictions of the class by its total."""
        return ops.divide_no_nan(matrix[self._class_number, self._class_number], ops.sum(matrix[self._class_number]))
