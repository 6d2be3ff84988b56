"""Losses of several labels, of ordered grades and of ranking. They mask unknown labels, which Keras' own do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class MaskedBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy, focal loss, or a mean of both from logits, with a mask for unknown labels.

    loss = mean over labels of known * ((1 - s) * w_t + s * a_t * (1 - p_t)^gamma) * -log p_t

    p_t is the predicted probability of the true value of the label. A target below 0 is unknown. s is the share of the
    focal loss, w_t the weight of a positive label or 1, a_t is alpha for a positive and 1 - alpha for a negative label.

    Args:
        gamma: Gamma of the focal loss (Lin et al., ICCV 2017); None for cross-entropy alone.
        alpha: Alpha of the focal loss; None for a_t = 1.
        focal_share: The share s; of no effect without a gamma.
        positive_weights: Weight of each positive label in the cross-entropy; None for 1 each.
        **options: Options of `keras.losses.Loss`.
    """

    def __init__(
        self,
        gamma: float | None = None,
        *,
        alpha: float | None = None,
        focal_share: float = 1.0,
        positive_weights: Sequence[float] | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        self._gamma, self._alpha, self._share = gamma, alpha, 0.0 if gamma is None else focal_share
        self._positive_weights = np.asarray(1.0 if positive_weights is None else positive_weights, np.float32)

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the loss of each example, [n].

        Args:
            y_true: Targets [n, labels]: 1, 0, or negative if unknown.
            y_pred: Logits [n, labels].
        """
        known = ops.cast(y_true >= 0, y_pred.dtype)
        target = ops.cast(y_true > 0, y_pred.dtype)
        log_p_t = ops.log_sigmoid(ops.where(target > 0, y_pred, -y_pred))
        factors = (1 - self._share) * ops.where(target > 0, self._positive_weights, 1.0)
        if self._gamma is not None:
            alphas = 1.0 if self._alpha is None else ops.where(target > 0, self._alpha, 1 - self._alpha)
            factors += self._share * alphas * ops.power(1 - ops.exp(log_p_t), self._gamma)
        return ops.mean(known * factors * -log_p_t, axis=-1)


class _TaskLoss(keras.losses.Loss):
    """Base of the losses of binary tasks grade > k: the weighted sum of their cross-entropies, per example.

    Args:
        importance_weights: Weight of each task; None for 1 each.
        **options: Options of `keras.losses.Loss`.
    """

    def __init__(self, importance_weights: Sequence[float] | None = None, **options: Any):
        super().__init__(**options)
        self._weights = 1.0 if importance_weights is None else np.asarray(importance_weights, np.float32)

    def _sum(self, targets, mask, logits):
        losses = targets * ops.log_sigmoid(logits) + (1 - targets) * ops.log_sigmoid(-logits)
        return -ops.sum(self._weights * ops.where(mask, losses, 0.0), axis=-1)


class CoralLoss(_TaskLoss):
    """Loss of CORAL (Cao et al. 2020), with a mask for unknown grades.

    loss = - sum over k of w_k (t_k log P(grade > k) + (1 - t_k) log P(grade <= k)),  t_k = 1 if grade > k else 0

    With label smoothing s, t_k is (1 - s) t_k + s (K - 1 - k) / K: P(grade > k) of a grade of which a share s is spread
    evenly over all K classes.

    Args:
        importance_weights: Weight w_k of each task; None for 1 each.
        label_smoothing: The share s.
        **options: Options of `keras.losses.Loss`.
    """

    def __init__(self, importance_weights: Sequence[float] | None = None, label_smoothing: float = 0.0, **options: Any):
        super().__init__(importance_weights, **options)
        self._smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the loss of each example, [n].

        Args:
            y_true: Grades [n, 1], negative if unknown.
            y_pred: Logits of P(grade > k), [n, K - 1].
        """
        tasks = y_pred.shape[-1]
        thresholds = np.arange(tasks, dtype=np.float32)
        targets = ops.cast(y_true > thresholds, y_pred.dtype)
        targets = (1 - self._smoothing) * targets + self._smoothing * (tasks - thresholds) / (tasks + 1)
        return self._sum(targets, y_true >= 0, y_pred)


class CornLoss(_TaskLoss):
    """Loss of CORN (Shi et al. 2023), with a mask for unknown grades.

    loss = - sum over k <= grade of w_k log P(the grade passes k or stops there, as it does | grade >= k)

    The authors' code divides the sum over a batch by its number of pairs of example and task. Here it is the mean over
    examples: the loss of an example does not depend on the others of its batch, and several devices compute what one
    device does.
    """

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the loss of each example, [n].

        Args:
            y_true: Grades [n, 1], negative if unknown.
            y_pred: Logits of P(grade > k | grade >= k), [n, K - 1].
        """
        thresholds = np.arange(y_pred.shape[-1], dtype=np.float32)
        return self._sum(ops.cast(y_true > thresholds, y_pred.dtype), y_true >= thresholds, y_pred)


class GradeError(keras.losses.Loss):
    """Squared error or Huber loss of a predicted grade, with a mask for unknown grades.

    e = prediction - grade; loss = e^2, or with a delta d: e^2 / 2 if |e| <= d, else d (|e| - d / 2).

    Args:
        delta: Delta of the Huber loss (Huber 1964); None for the squared error.
        **options: Options of `keras.losses.Loss`.
    """

    def __init__(self, delta: float | None = None, **options: Any):
        super().__init__(**options)
        self._delta = delta

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the loss of each example, [n].

        Args:
            y_true: Grades [n, 1], negative if unknown.
            y_pred: Predicted grades [n, 1].
        """
        error = ops.where(y_true >= 0, y_pred - y_true, 0.0)
        if self._delta is None:
            return ops.mean(ops.square(error), axis=-1)
        clipped = ops.minimum(ops.abs(error), self._delta)
        return ops.mean(clipped * (ops.abs(error) - clipped / 2), axis=-1)


class DiceLoss(keras.losses.Loss):
    """Soft Dice loss of a map from logits (Milletari et al., 3DV 2016): 1 - 2 sum of p t / (sum of p + sum of t).

    p is the sigmoid of the map, t the share of each place that is lesion.

    Args:
        **options: Options of `keras.losses.Loss`.
    """

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the loss of each example, [n].

        Args:
            y_true: Shares of lesion [n, h, w].
            y_pred: Maps [n, h, w].
        """
        p = ops.sigmoid(y_pred)
        both, either = ops.sum(p * y_true, axis=(1, 2)), ops.sum(p + y_true, axis=(1, 2))
        return 1 - 2 * both / ops.maximum(either, keras.config.epsilon())


class WithRanking(keras.losses.Loss):
    """The loss of a head plus a pairwise ranking loss: an example of a higher class has to get a higher score.

    loss = own loss + weight * ranking

    ranking = sum over pairs of w_ij log(1 + exp(-(s_i - s_j))) / sum over pairs of w_ij

    The pairs are all examples i and j of a batch with class y_i > y_j, and w_ij = y_i - y_j. The score s is the slope of
    the class logits z_k over the class number k, by least squares: with centered numbers c_k it is
    sum of c_k z_k / sum of c_k^2. If the logits are linear in the features, so is the score. The logistic loss of pairs
    is that of RankNet (Burges et al., ICML 2005). An example of unknown class is in no pair.

    Args:
        own: Loss of the head.
        weight: Weight of the ranking loss.
        class_of_targets: Function of targets that returns class numbers [n], negative if unknown.
        class_logits: Function of the head's outputs that returns class logits [n, classes].
        **options: Options of `keras.losses.Loss`.
    """

    def __init__(
        self,
        own: keras.losses.Loss,
        weight: float,
        *,
        class_of_targets: Callable[[keras.KerasTensor], keras.KerasTensor],
        class_logits: Callable[[keras.KerasTensor], keras.KerasTensor],
        **options: Any,
    ):
        super().__init__(**options)
        self._own, self._weight = own, weight
        self._class_of_targets, self._class_logits = class_of_targets, class_logits

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the loss of each example, [n]. Each pair is shared by its two examples.

        Args:
            y_true: Targets, as the loss of the head takes them.
            y_pred: Outputs of the head.
        """
        classes = self._class_of_targets(y_true)
        ranking = pairwise_ranking_losses(classes, slope_over_classes(self._class_logits(y_pred)))
        return self._own.call(y_true, y_pred) + self._weight * ranking


def slope_over_classes(class_logits: keras.KerasTensor) -> keras.KerasTensor:
    """Compute the slope of class logits [n, classes] over the class number, by least squares: [n]."""
    numbers = np.arange(class_logits.shape[-1], dtype=np.float32)
    centered = numbers - numbers.mean()
    return ops.sum(class_logits * (centered / np.sum(centered**2)), axis=-1)


def pairwise_ranking_losses(classes: keras.KerasTensor, scores: keras.KerasTensor) -> keras.KerasTensor:
    """Compute losses [n] whose mean is the ranking loss in `WithRanking`; zeros if there is no pair.

    Args:
        classes: Class numbers [n], negative if unknown.
        scores: Scores [n].
    """
    classes = ops.cast(classes, scores.dtype)
    known = classes >= 0
    distance = ops.maximum(classes[:, None] - classes[None, :], 0)
    weights = ops.where(ops.logical_and(known[:, None], known[None, :]), distance, 0)
    losses = weights * ops.softplus(scores[None, :] - scores[:, None])
    n = ops.cast(ops.shape(classes)[0], scores.dtype)
    of_example = (ops.sum(losses, axis=0) + ops.sum(losses, axis=1)) / 2
    return n * of_example / ops.maximum(ops.sum(weights), 1)
