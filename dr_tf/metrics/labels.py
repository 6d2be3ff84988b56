"""Metrics of several labels, each present or absent; a target below 0 is not known and does not count."""

import keras
from keras import ops

_THRESHOLDS = 500


class F1Macro(keras.metrics.Metric):
    """Mean over labels of 2 TP / (2 TP + FP + FN) at a probability of one half; a label that nobody has counts as 0."""

    def __init__(self, labels, name="f1_macro"):
        super().__init__(name=name, dtype="float32")
        self.counts = self.add_variable(shape=(3, labels), initializer="zeros", name="counts")

    def update_state(self, y_true, y_pred, sample_weight=None):
        weight = _known(y_true) * _weights(sample_weight)
        true, decided = ops.cast(y_true > 0, "float32"), ops.cast(y_pred > 0, "float32")
        each = [true * decided, (1 - true) * decided, true * (1 - decided)]
        self.counts.assign_add(ops.stack([ops.sum(weight * cells, axis=0) for cells in each]))

    def result(self):
        hits, alarms, misses = ops.unstack(ops.convert_to_tensor(self.counts), 3)
        return ops.mean(ops.divide_no_nan(2 * hits, 2 * hits + alarms + misses))


class AUROCMacro(keras.metrics.Metric):
    """Mean area under the ROC curve over the labels that are both present and absent somewhere.

    Scores are counted in bins of z / (1 + |z|), as in `AUROC`; within a bin positives and negatives tie.
    """

    def __init__(self, labels, name="auroc_macro"):
        super().__init__(name=name, dtype="float32")
        self.counts = self.add_variable(shape=(2, labels, _THRESHOLDS), initializer="zeros", name="counts")

    def update_state(self, y_true, y_pred, sample_weight=None):
        weight = _known(y_true) * _weights(sample_weight)
        places = (1 + ops.softsign(ops.cast(y_pred, "float32"))) / 2 * _THRESHOLDS
        bins = ops.one_hot(ops.cast(ops.clip(places, 0, _THRESHOLDS - 1), "int32"), _THRESHOLDS, dtype="float32")
        true = ops.cast(y_true > 0, "float32")
        each = [ops.sum((weight * of)[..., None] * bins, axis=0) for of in (1 - true, true)]
        self.counts.assign_add(ops.stack(each))

    def result(self):
        negatives, positives = ops.unstack(ops.convert_to_tensor(self.counts), 2)
        below = ops.cumsum(negatives, axis=-1) - negatives / 2
        pairs = ops.sum(positives, axis=-1) * ops.sum(negatives, axis=-1)
        areas = ops.divide_no_nan(ops.sum(positives * below, axis=-1), pairs)
        return ops.divide_no_nan(ops.sum(areas), ops.sum(ops.cast(pairs > 0, "float32")))


def _known(y_true):
    return ops.cast(y_true >= 0, "float32")


def _weights(sample_weight):
    return 1.0 if sample_weight is None else ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
