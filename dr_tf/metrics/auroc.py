"""Area under the ROC curve of a positive definition."""

import keras
from keras import ops


class AUROC(keras.metrics.AUC):
    """Keras' AUC over log-odds instead of probabilities.

    Keras counts between evenly spaced thresholds in [0, 1], where a confident network's scores fall into the two outer
    gaps and count as ties. Any rising function of the score has the same area: z / (1 + |z|) keeps log-odds of -40 and
    -10 apart. `positive` and `log_odds` turn targets and logits into 0 or 1 and z, each [n]; where `known` of the targets is
    False nothing is counted.
    """

    def __init__(self, *, positive, log_odds, known=None, thresholds=1000, name="auroc"):
        super().__init__(num_thresholds=thresholds, name=name)
        self._positive, self._log_odds, self._known = positive, log_odds, known

    def update_state(self, y_true, y_pred, sample_weight=None):
        score = (1 + ops.softsign(ops.cast(self._log_odds(y_pred), "float32"))) / 2
        positive = ops.cast(self._positive(y_true), "float32")
        if self._known is not None:
            counted = ops.cast(self._known(y_true), "float32")
            sample_weight = counted if sample_weight is None else counted * ops.reshape(sample_weight, (-1,))
        return super().update_state(ops.maximum(positive, 0), score, sample_weight)
