"""Figures that follow from counts of (true, predicted) classes, exact over batches of any size and weights."""

import keras
from keras import ops


class ConfusionMatrix(keras.metrics.Metric):
    """Base: `matrix` [true, predicted] sums weights; `score(matrix)` of a subclass makes one figure of it.

    `true` and `predicted` turn targets and logits into class numbers [n]; a head knows how.
    """

    def __init__(self, classes, *, true, predicted, name=None):
        super().__init__(name=name, dtype="float32")
        self._classes, self._true, self._predicted = classes, true, predicted
        self.matrix = self.add_variable(shape=(classes, classes), initializer="zeros", name="matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        true = self._one_hot(self._true(y_true))
        predicted = self._one_hot(self._predicted(y_pred))
        if sample_weight is not None:
            true *= ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        self.matrix.assign_add(ops.matmul(ops.transpose(true), predicted))

    def _one_hot(self, numbers):
        return ops.one_hot(ops.cast(numbers, "int32"), self._classes, dtype="float32")

    def result(self):
        return self.score(ops.convert_to_tensor(self.matrix))


class Accuracy(ConfusionMatrix):
    """The share on the diagonal."""

    @staticmethod
    def score(matrix):
        return ops.divide_no_nan(ops.trace(matrix), ops.sum(matrix))


class BalancedAccuracy(ConfusionMatrix):
    """Mean recall of the classes that occur."""

    @staticmethod
    def score(matrix):
        occur = ops.sum(matrix, axis=1)
        recall = ops.divide_no_nan(ops.diagonal(matrix), occur)
        return ops.divide_no_nan(ops.sum(recall), ops.sum(ops.cast(occur > 0, "float32")))


class QuadraticKappa(ConfusionMatrix):
    """1 - sum(w O) / sum(w E), with w = (true - predicted)^2 and E what the margins alone would give (Cohen 1968).

    0 where nothing but one class was seen and predicted: scikit-learn gives NaN, which no epoch can be chosen by.
    """

    @staticmethod
    def score(matrix):
        classes = ops.arange(matrix.shape[0], dtype="float32")
        weights = ops.square(classes[:, None] - classes[None, :])
        expected = ops.sum(matrix, axis=1)[:, None] * ops.sum(matrix, axis=0)[None, :]
        expected = ops.divide_no_nan(ops.sum(weights * expected), ops.sum(matrix))
        return ops.where(expected > 0, 1 - ops.divide_no_nan(ops.sum(weights * matrix), expected), 0.0)


class Recall(ConfusionMatrix):
    """Recall of one class: of two, sensitivity is that of class 1 and specificity that of class 0."""

    def __init__(self, classes, *, of, **kwargs):
        super().__init__(classes, **kwargs)
        self._of = of

    def score(self, matrix):
        return ops.divide_no_nan(matrix[self._of, self._of], ops.sum(matrix[self._of]))
