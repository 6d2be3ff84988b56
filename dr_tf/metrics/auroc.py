"""Keras metric: area under the ROC curve of a positive definition."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops

_THRESHOLDS = 1000
_ToVector = Callable[[keras.KerasTensor], keras.KerasTensor]


class AUROC(keras.metrics.AUC):
    """AUC of log-odds instead of probabilities.

    `keras.metrics.AUC` counts between evenly spaced thresholds in [0, 1]. The scores of a confident network all fall
    into the two outer bins and count as ties. Any increasing function of the score has the same area, so the log-odds z
    are mapped by z / (1 + |z|), which still separates -40 from -10.

    Args:
        positive: Maps targets to 0 or 1, [n].
        log_odds: Maps logits to the log-odds of the positive class, [n].
        known: Maps targets to whether the label is known, [n]; unknown ones do not count. None: all are known.
        name: Name of the metric.
    """

    def __init__(
        self,
        *,
        positive: _ToVector,
        log_odds: _ToVector,
        known: _ToVector | None = None,
        name: str = "auroc",
    ):
        super().__init__(num_thresholds=_THRESHOLDS, name=name)
        self._positive, self._log_odds, self._known = positive, log_odds, known

    def update_state(
        self,
        y_true: keras.KerasTensor,
        y_pred: keras.KerasTensor,
        sample_weight: keras.KerasTensor | None = None,
    ) -> None:
        """Add a batch of targets and logits."""
        score = (1 + ops.softsign(ops.cast(self._log_odds(y_pred), "float32"))) / 2
        positive = ops.cast(self._positive(y_true), "float32")
        if self._known is not None:
            known = ops.cast(self._known(y_true), "float32")
            sample_weight = known if sample_weight is None else known * ops.reshape(sample_weight, (-1,))
        return super().update_state(ops.maximum(positive, 0), score, sample_weight)
