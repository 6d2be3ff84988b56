"""Link functions: convert the scores of an output (logits, log vote shares) to class probabilities, and back.

A network outputs unbounded scores. A link function, as in a generalized linear model, defines which class probabilities
these scores stand for: softmax, sigmoid, cumulative (CORAL) or conditional (CORN). `LINKS` is the only table of links.
For each of them it contains everything that depends on the link:

- decoding of scores to probabilities, and encoding of probabilities to scores;
- what calibration needs: the 0/1 target of each score, the loss, and whether all scores share one slope;
- how an ensemble averages the logits of its members.

NumPy only, except that averaging inside an ensemble's graph imports Keras when it is called.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

    from dr_tf.models.heads.head import Head

# Probabilities are clipped from below before they become scores. A vote share may be exactly 0. A mean of predicted
# probabilities never is, and very small ones have to keep their rank.
MIN_VOTE_SHARE, MIN_PROBABILITY = 1e-4, 1e-12
# The slope of an uncalibrated regression: a grade's probability exceeds 0.5 within half a grade of it.
REGRESSION_SLOPE = 4.0


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Compute the logistic function in float64 without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64)))  # exp overflows, tanh does not


@dataclasses.dataclass(frozen=True)
class Link:
    """A link function with its targets and loss for calibration.

    Attributes:
        decode: Maps scores `[n, scores]` to probabilities `[n, classes]`.
        encode: Maps (probabilities, minimum) to scores that decode to these probabilities, clipped from below.
        targets: Maps (true classes, number of scores) to the 0/1 target of each score, and a mask of the known ones.
        loss: Maps (scores, targets) to the loss of each score, and the gradient of the loss.
        member_mean: Maps a Keras tensor `[n, members, scores]` of an ensemble's logits to logits `[n, scores]` that
            decode to the mean of the members' probabilities. For a regression: the mean of the predicted grades.
        shared_slope: Whether calibration fits one slope for all scores.
        latent: Whether all scores are one latent number plus descending biases, as in CORAL.
        expand: Maps (scores, number of classes) to the scores that `decode` takes. Only a regression needs it: its one
            number becomes a logit per grade threshold.
        missing_scores: Number of classes minus number of scores.
    """

    decode: Callable[[np.ndarray], np.ndarray]
    encode: Callable[[np.ndarray, float], np.ndarray]
    targets: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
    loss: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    member_mean: Callable[[keras.KerasTensor], keras.KerasTensor]
    shared_slope: bool
    latent: bool = False
    expand: Callable[[np.ndarray, int], np.ndarray] = lambda scores, classes: scores
    missing_scores: int = 1


# Decoding.


def _softmax(scores):
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def _sigmoid_pair(scores):
    return np.concatenate([sigmoid(-scores), sigmoid(scores)], axis=-1)


def _classes_from_exceedance(exceedance):
    """P(class > k) for every k but the last -> P(class = k)."""
    ends = [(0, 0)] * (exceedance.ndim - 1)
    exceedance = np.pad(np.pad(exceedance, [*ends, (1, 0)], constant_values=1.0), [*ends, (0, 1)])
    return exceedance[..., :-1] - exceedance[..., 1:]


# Encoding.


def _exceedance(probabilities):
    """P(class = k) -> P(class > k) for every k but the last."""
    return np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1][:, 1:]


def _clipped_logit(probabilities, minimum):
    clipped = np.clip(probabilities, minimum, 1 - minimum)
    return np.log(clipped) - np.log1p(-clipped)


def _conditional_logits(probabilities, minimum):
    """P(class = k) -> logits of P(class > k | class >= k)."""
    exceedance = _exceedance(probabilities)
    at_least = np.hstack([np.ones((len(exceedance), 1)), exceedance[:, :-1]])
    return _clipped_logit(exceedance / np.maximum(at_least, 1e-12), minimum)


def _expected_grade(probabilities, _):
    return (probabilities @ np.arange(probabilities.shape[1]))[:, None]


# Losses: (loss of each score, its gradient).


def _softmax_loss(scores, targets):
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(targets * log_probabilities), np.exp(log_probabilities) - targets


def _sigmoid_loss(scores, targets):
    return np.logaddexp(0, scores) - targets * scores, sigmoid(scores) - targets


# Targets: (0/1 target of each score, mask of the known targets).


def _is_known(true_classes, scores):
    return np.repeat(true_classes[:, None] >= 0, scores, axis=1)


def _one_hot_targets(true_classes, scores):
    """Score k: is the class k?"""
    return true_classes[:, None] == np.arange(scores), _is_known(true_classes, scores)


def _label_targets(true_labels, scores):
    """Score k: is label k present?"""
    true_labels = true_labels.reshape(len(true_labels), scores)
    return true_labels == 1, true_labels >= 0


def _exceedance_targets(true_classes, scores):
    """Score k: is the class greater than k?"""
    return true_classes[:, None] > np.arange(scores), _is_known(true_classes, scores)


def _conditional_exceedance_targets(true_classes, scores):
    """Score k: is the class greater than k, given that it is at least k?"""
    return true_classes[:, None] > np.arange(scores), true_classes[:, None] >= np.arange(scores)


# Means over the members of an ensemble. They are computed from logarithms, so that probabilities near 0 and 1 keep
# their # digits.


def _log_mean(logarithms):
    from keras import ops

    return ops.logsumexp(logarithms, axis=1) - math.log(logarithms.shape[1])


def _mean_of_softmax(logits):
    from keras import ops

    return _log_mean(ops.log_softmax(logits, axis=-1))


def _mean_of_sigmoid(logits):
    from keras import ops

    return _log_mean(ops.log_sigmoid(logits)) - _log_mean(ops.log_sigmoid(-logits))


def _mean_of_conditional(logits):
    """Average P(class > k), not the conditional probabilities P(class > k | class >= k)."""
    from keras import ops

    log_exceedance = ops.cumsum(ops.log_sigmoid(logits), axis=-1)
    log_exactly_k = log_exceedance - ops.log_sigmoid(logits) + ops.log_sigmoid(-logits)
    return _log_mean(log_exceedance) - _log_mean(log_exactly_k)


def _mean_of_grades(logits):
    from keras import ops

    return ops.mean(logits, axis=1)


def _threshold_logits(grades, classes):
    """A predicted grade -> one logit per threshold between two neighbouring grades, for being above it."""
    grades = np.asarray(grades, np.float64).reshape(-1, 1)
    return REGRESSION_SLOPE * (grades - np.arange(0.5, classes - 1))


_CORAL = Link(
    decode=lambda scores: _classes_from_exceedance(sigmoid(scores)),
    encode=lambda p, minimum: _clipped_logit(_exceedance(p), minimum),
    targets=_exceedance_targets,
    loss=_sigmoid_loss,
    member_mean=_mean_of_sigmoid,
    shared_slope=True,
    latent=True,
)

# Name, as in `head.link` -> Link.
LINKS = {
    "softmax": Link(
        decode=_softmax,
        encode=lambda p, minimum: np.log(np.maximum(p, minimum)),
        targets=_one_hot_targets,
        loss=_softmax_loss,
        member_mean=_mean_of_softmax,
        shared_slope=True,
        missing_scores=0,
    ),
    "binary": Link(
        decode=_sigmoid_pair,
        encode=lambda p, minimum: _clipped_logit(p[:, 1:], minimum),
        targets=_label_targets,
        loss=_sigmoid_loss,
        member_mean=_mean_of_sigmoid,
        shared_slope=False,
    ),
    "labels": Link(
        decode=sigmoid,
        encode=_clipped_logit,
        targets=_label_targets,
        loss=_sigmoid_loss,
        member_mean=_mean_of_sigmoid,
        shared_slope=False,
        missing_scores=0,
    ),
    "coral": _CORAL,  # Cao et al., Pattern Recognition Letters 2020
    "corn": Link(  # Shi et al., Pattern Analysis and Applications 2023
        decode=lambda scores: _classes_from_exceedance(np.cumprod(sigmoid(scores), axis=-1)),
        encode=_conditional_logits,
        targets=_conditional_exceedance_targets,
        loss=_sigmoid_loss,
        member_mean=_mean_of_conditional,
        shared_slope=False,
    ),
    "regression": dataclasses.replace(
        _CORAL, encode=_expected_grade, member_mean=_mean_of_grades, expand=_threshold_logits
    ),
}


def get_link(name: str) -> Link:
    """Return the link of this name.

    Raises:
        ValueError: There is no such link.
    """
    if name not in LINKS:
        raise ValueError(f"unknown link {name!r}; known: {', '.join(LINKS)}")
    return LINKS[name]


def scores_to_probabilities(name: str, scores: np.ndarray, classes: int) -> np.ndarray:
    """Decode scores to class probabilities, without calibration.

    Args:
        name: Name of the link.
        scores: Scores `[n, scores]`.
        classes: Number of classes or labels.

    Returns:
        Probabilities float64 `[n, classes]`.
    """
    link = get_link(name)
    return link.decode(np.asarray(link.expand(np.asarray(scores, np.float64), classes), np.float64))


def probabilities_to_scores(name: str, probabilities: np.ndarray, *, minimum: float = MIN_VOTE_SHARE) -> np.ndarray:
    """Encode class probabilities `[n, classes]` as scores that decode to them.

    Args:
        name: Name of the link.
        probabilities: Class probabilities `[n, classes]`.
        minimum: Smaller probabilities are clipped to this value.

    Returns:
        Scores float64 `[n, scores]`.
    """
    return get_link(name).encode(np.asarray(probabilities, np.float64), minimum)


def score_count(name: str, classes: int) -> int:
    """Return the number of scores that calibration takes for this many classes or labels."""
    return classes - get_link(name).missing_scores


def link_for_averages(head: Head) -> str:
    """Return the name of the link for averaged or voted probabilities.

    It has to represent any distribution. The link of an ordinal head cannot: CORAL's calibration sees one latent
    number, which very different vote shares have in common.
    """
    if not head.exclusive:
        return "labels"
    return "softmax" if len(head.classes) > 2 else "binary"
