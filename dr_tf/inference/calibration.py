"""Calibration: scores in, scores out, so that what a link decodes from them is as often right as it says.

Every kind is `slope * x + bias`; what differs between them stands in `dr_tf.models.links`.
"""

import dataclasses

import numpy as np

from dr_tf.models.links import link_named

# A normal prior on log(slope) and on each bias, of these widths. Without it a class that the calibration split does not
# hold is ruled out for good, and a split that the network separates asks for an infinite slope.
_SLOPE_WIDTH, _BIAS_WIDTH = 1.0, 3.0
_LEAST_GAP = 1e-3  # between CORAL's biases: the grade between two equal ones could never be given
_LARGEST_SLOPE = np.exp(5)  # that a fit can give


@dataclasses.dataclass(frozen=True)
class Calibration:
    """`slope` holds one number for all scores or one for each; the temperature is its inverse. Empty: nothing was fitted."""

    link: str
    slope: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()

    def __post_init__(self):
        link = link_named(self.link)
        if not self.slope and not self.bias:
            return
        numbers = np.array([*self.slope, *self.bias], np.float64)
        right = len(self.slope) == (1 if link.shared else len(self.bias)) and len(self.bias) > 0
        if (
            not right
            or not np.isfinite(numbers).all()
            or min(self.slope) <= 0
            or max(self.slope) > 1.01 * _LARGEST_SLOPE
        ):
            raise ValueError(
                f"a {self.link} calibration has positive slopes up to {_LARGEST_SLOPE:.0f} and as many biases as scores"
            )
        if link.latent and (np.diff(self.bias) >= 0).any():
            raise ValueError(f"the biases of a {self.link} calibration descend")

    def probabilities(self, scores, classes):
        """Calibrated class probabilities [n, classes]."""
        return link_named(self.link).decode(self.apply(scores, classes))

    def apply(self, scores, classes):
        """Calibrated scores; those of a regression are expanded to one for each threshold."""
        link = link_named(self.link)
        scores = np.asarray(link.expand(np.asarray(scores, np.float64), classes), np.float64)
        if not self.bias:
            return scores
        if scores.shape[1:] != (len(self.bias),):
            raise ValueError(f"calibrated for {len(self.bias)} scores, not for {scores.shape[1:]}")
        return _inputs(link, scores) * self.slope + self.bias


def _inputs(link, scores):
    return scores.mean(axis=1, keepdims=True) if link.latent else scores


def fit(name, scores, truth, classes, weights=None):
    """The most probable calibration given `truth`: classes [n], or 0/1 of each label [n, labels]; -1 is not known.

    A photograph of weight 2 counts like two.
    """
    link = link_named(name)
    scores = np.asarray(link.expand(np.asarray(scores, np.float64), classes), np.float64)
    outputs, x = scores.shape[1], _inputs(link, scores)
    answers, known = link.answers(np.asarray(truth), outputs)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    # CORAL's own biases are where its calibration starts from; for the others x is the scores, and this is 0.
    own = (scores - x).mean(axis=0)
    theta = _descend(link, x, answers * 1.0, known * weights[:, None], own)
    slopes = 1 if link.shared else outputs
    bias = _biases(link, outputs) @ theta[slopes:]
    return Calibration(name, tuple(np.exp(theta[:slopes]).tolist()), tuple(bias.tolist()))


def _biases(link, outputs):
    """The matrix from free parameters to biases. A latent's are the first one and the gaps down from it."""
    if not link.latent:
        return np.eye(outputs)
    return np.tril(np.hstack([np.ones((outputs, 1)), -np.ones((outputs, outputs - 1))]))


def _descend(link, x, answers, weights, own):
    """[log slopes, free parameters of the biases] at the least of loss and prior together."""
    from scipy.optimize import minimize  # only who fits needs it

    slopes = 1 if link.shared else len(own)
    matrix = _biases(link, len(own))

    def objective(theta):
        slope, bias = np.exp(theta[:slopes]), matrix @ theta[slopes:]
        losses, gradients = link.loss(x * slope + bias, answers)
        gradients = gradients * weights
        by_slope = (gradients * x * slope).sum(axis=0)
        by_slope = by_slope.sum(keepdims=True) if link.shared else by_slope
        by_bias = gradients.sum(axis=0) + (bias - own) / _BIAS_WIDTH**2
        value = (losses * weights).sum() + (theta[:slopes] ** 2).sum() / 2 / _SLOPE_WIDTH**2
        value += ((bias - own) ** 2).sum() / 2 / _BIAS_WIDTH**2
        gradient = np.concatenate([by_slope + theta[:slopes] / _SLOPE_WIDTH**2, matrix.T @ by_bias])
        return value / len(x), gradient / len(x)

    least = [None, *[_LEAST_GAP] * (len(own) - 1)] if link.latent else [None] * len(own)
    bounds = [(-5, 5)] * slopes + [(low, None) for low in least]
    start = np.concatenate([np.zeros(slopes), np.linalg.solve(matrix, own)])
    # L-BFGS-B solves its tiny systems by threaded BLAS, which takes seconds where other processes hold the cores.
    options = {"maxfun": 5000, "ftol": 1e-12, "gtol": 1e-8, "xtol": 1e-10}
    return minimize(objective, start, jac=True, method="TNC", bounds=bounds, options=options).x
