"""Calibration of scores by slope (temperature) and bias, so that predicted probabilities match observed frequencies.

Every calibration is `slope * score + bias`. The links in `dr_tf.models.links` define how many slopes and biases there
are and how calibrated scores decode to class probabilities.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.models.links import Link, get_link

# Standard deviations of the normal priors on log(slope) and on each bias. Without these priors a class that is absent
# from the calibration split would get probability 0, and perfectly separated scores an infinite slope.
_LOG_SLOPE_SD, _BIAS_SD = 1.0, 3.0
_MIN_BIAS_GAP = 1e-3  # between CORAL's biases: with two equal biases the grade between them is never predicted
_MAX_LOG_SLOPE = 5
_MAX_SLOPE = np.exp(_MAX_LOG_SLOPE)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A fitted calibration of one output's scores.

    Attributes:
        link: a name in `dr_tf.models.links.LINKS`.
        slope: one slope, the inverse of the temperature, for all scores or for each score. Empty: not fitted, scores
            stay as they are.
        bias: one bias for each score. Empty: not fitted.
    """

    link: str
    slope: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        link = get_link(self.link)
        if not self.slope and not self.bias:
            return
        numbers = np.array([*self.slope, *self.bias], np.float64)
        counts_match = len(self.slope) == (1 if link.shared_slope else len(self.bias)) and len(self.bias) > 0
        if (
            not counts_match
            or not np.isfinite(numbers).all()
            or min(self.slope) <= 0
            or max(self.slope) > 1.01 * _MAX_SLOPE
        ):
            raise ValueError(
                f"a {self.link} calibration needs positive slopes up to {_MAX_SLOPE:.0f} and one bias for each score"
            )
        if link.latent and (np.diff(self.bias) >= 0).any():
            raise ValueError(f"the biases of a {self.link} calibration must descend")

    def probabilities(self, scores: ArrayLike, classes: int) -> np.ndarray:
        """Compute the calibrated class probabilities of scores.

        Args:
            scores: [n, scores].
            classes: the number of classes.

        Returns:
            [n, classes].
        """
        return get_link(self.link).decode(self.apply(scores, classes))

    def apply(self, scores: ArrayLike, classes: int) -> np.ndarray:
        """Compute calibrated scores. The one score of a regression is first expanded to one for each threshold.

        Args:
            scores: [n, scores].
            classes: the number of classes.

        Returns:
            [n, scores], or [n, classes - 1] of a regression.
        """
        link = get_link(self.link)
        scores = np.asarray(link.expand(np.asarray(scores, np.float64), classes), np.float64)
        if not self.bias:
            return scores
        if scores.shape[1:] != (len(self.bias),):
            raise ValueError(f"the calibration is for {len(self.bias)} scores, not for {scores.shape[1:]}")
        return _linear_inputs(link, scores) * self.slope + self.bias


def _linear_inputs(link: Link, scores: np.ndarray) -> np.ndarray:
    """The input of the linear calibration: the scores, or their mean where one latent variable underlies them all."""
    return scores.mean(axis=1, keepdims=True) if link.latent else scores


def fit_calibration(name: str, scores: ArrayLike, labels: ArrayLike, classes: int) -> Calibration:
    """Fit the calibration with the highest posterior probability given the labels.

    Args:
        name: a name in `dr_tf.models.links.LINKS`.
        scores: [n, scores] of the calibration split.
        labels: true classes [n], or 0/1 of each label [n, labels]; -1 where unknown.
        classes: the number of classes.

    Returns:
        The fitted Calibration.
    """
    link = get_link(name)
    scores = np.asarray(link.expand(np.asarray(scores, np.float64), classes), np.float64)
    outputs, x = scores.shape[1], _linear_inputs(link, scores)
    targets, known = link.targets(np.asarray(labels), outputs)
    # The prior on the biases is centred on CORAL's own biases. For all other links x is the scores, and this is 0.
    own_bias = (scores - x).mean(axis=0)
    parameters = _maximize_posterior(link, x, targets * 1.0, known * 1.0, own_bias)
    slopes = 1 if link.shared_slope else outputs
    bias = _bias_matrix(link, outputs) @ parameters[slopes:]
    return Calibration(name, tuple(np.exp(parameters[:slopes]).tolist()), tuple(bias.tolist()))


def _bias_matrix(link, outputs):
    """The matrix from free parameters to biases. A latent link has its first bias and the gaps below as parameters."""
    if not link.latent:
        return np.eye(outputs)
    return np.tril(np.hstack([np.ones((outputs, 1)), -np.ones((outputs, outputs - 1))]))


def _maximize_posterior(link, x, targets, known, own_bias):
    """[log slopes, free parameters of the biases] that minimize the sum of loss and negative log prior."""
    from scipy.optimize import minimize  # needed for fitting only: prediction runs without SciPy

    slopes = 1 if link.shared_slope else len(own_bias)
    matrix = _bias_matrix(link, len(own_bias))

    def objective(parameters):
        slope, bias = np.exp(parameters[:slopes]), matrix @ parameters[slopes:]
        losses, gradients = link.loss(x * slope + bias, targets)
        gradients = gradients * known
        by_slope = (gradients * x * slope).sum(axis=0)
        by_slope = by_slope.sum(keepdims=True) if link.shared_slope else by_slope
        by_bias = gradients.sum(axis=0) + (bias - own_bias) / _BIAS_SD**2
        value = (losses * known).sum() + (parameters[:slopes] ** 2).sum() / 2 / _LOG_SLOPE_SD**2
        value += ((bias - own_bias) ** 2).sum() / 2 / _BIAS_SD**2
        gradient = np.concatenate([by_slope + parameters[:slopes] / _LOG_SLOPE_SD**2, matrix.T @ by_bias])
        return value / len(x), gradient / len(x)

    lower = [None, *[_MIN_BIAS_GAP] * (len(own_bias) - 1)] if link.latent else [None] * len(own_bias)
    bounds = [(-_MAX_LOG_SLOPE, _MAX_LOG_SLOPE)] * slopes + [(low, None) for low in lower]
    start = np.concatenate([np.zeros(slopes), np.linalg.solve(matrix, own_bias)])
    # L-BFGS-B solves its tiny systems by threaded BLAS, which takes seconds where other processes use the cores.
    options = {"maxfun": 5000, "ftol": 1e-12, "gtol": 1e-8, "xtol": 1e-10}
    return minimize(objective, start, jac=True, method="TNC", bounds=bounds, options=options).x
