"""Keras metrics of several labels, each present or absent: macro F1 and macro AUROC. A negative target is unknown."""

from __future__ import annotations

import keras
from keras import ops

_BINS = 500


class F1Macro(keras.metrics.Metric):
    """Mean over labels of F1 = 2 TP / (2 TP + FP + FN), at a probability threshold of one half.

    A label that is never present counts as 0.

    Args:
        labels: Number of labels.
        name: Name of the metric.
    """

    def __init__(self, labels: int, name: str = "f1_macro"):
        super().__init__(name=name, dtype="float32")
        self.counts = self.add_variable(shape=(3, labels), initializer="zeros", name="counts")

    def update_state(
        self,
        y_true: keras.KerasTensor,
        y_pred: keras.KerasTensor,
        sample_weight: keras.KerasTensor | None = None,
    ) -> None:
        """Add a batch of targets and logits [n, labels]."""
        weight = _known(y_true) * _column(sample_weight)
        true, predicted = ops.cast(y_true > 0, "float32"), ops.cast(y_pred > 0, "float32")
        outcomes = [true * predicted, (1 - true) * predicted, true * (1 - predicted)]
        self.counts.assign_add(ops.stack([ops.sum(weight * outcome, axis=0) for outcome in outcomes]))

    def result(self) -> keras.KerasTensor:
        """Compute the metric of everything added so far."""
        true_positives, false_positives, false_negatives = ops.unstack(ops.convert_to_tensor(self.counts), 3)
        f1 = ops.divide_no_nan(2 * true_positives, 2 * true_positives + false_positives + false_negatives)
        return ops.mean(f1)


class AUROCMacro(keras.metrics.Metric):
    """Mean area under the ROC curve over the labels that are both present and absent in the data.

    Scores are counted in bins of z / (1 + |z|), as in `AUROC`. Positives and negatives in the same bin count as ties.

    Args:
        labels: Number of labels.
        name: Name of the metric.
    """

    def __init__(self, labels: int, name: str = "auroc_macro"):
        super().__init__(name=name, dtype="float32")
        self.counts = self.add_variable(shape=(2, labels, _BINS), initializer="zeros", name="counts")

    def update_state(
        self,
        y_true: keras.KerasTensor,
        y_pred: keras.KerasTensor,
        sample_weight: keras.KerasTensor | None = None,
    ) -> None:
        """Add a batch of targets and logits [n, labels]."""
        weight = _known(y_true) * _column(sample_weight)
        positions = (1 + ops.softsign(ops.cast(y_pred, "float32"))) / 2 * _BINS
        bins = ops.one_hot(ops.cast(ops.clip(positions, 0, _BINS - 1), "int32"), _BINS, dtype="float32")
        true = ops.cast(y_true > 0, "float32")
        counts = [ops.sum((weight * is_value)[..., None] * bins, axis=0) for is_value in (1 - true, true)]
        self.counts.assign_add(ops.stack(counts))

    def result(self) -> keras.KerasTensor:
        """Compute the metric of everything added so far."""
        negatives, positives = ops.unstack(ops.convert_to_tensor(self.counts), 2)
        negatives_below = ops.cumsum(negatives, axis=-1) - negatives / 2
        pairs = ops.sum(positives, axis=-1) * ops.sum(negatives, axis=-1)
        areas = ops.divide_no_nan(ops.sum(positives * negatives_below, axis=-1), pairs)
        return ops.divide_no_nan(ops.sum(areas), ops.sum(ops.cast(pairs > 0, "float32")))


def _known(y_true):
    return ops.cast(y_true >= 0, "float32")


def _column(sample_weight):
    return 1.0 if sample_weight is None else ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
