"""Calibration: logits in, logits out, so that what a head decodes from them is as often right as it says.

Every kind is `slope * x + bias`. What differs is data: whether the logits share a slope, which 0/1 question each logit
answers, and that CORAL's x is the mean of its logits: the one latent that all its thresholds share.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

# A normal prior on log(slope) and on each bias, of these widths. Without it a class that the calibration split does not
# hold is ruled out for good, and a split that the network separates asks for an infinite slope.
_SLOPE_WIDTH, _BIAS_WIDTH = 1.0, 3.0
_LEAST_GAP = 1e-3  # between CORAL's biases: the grade between two equal ones could never be given
# Where probabilities become logits: a share of votes may be 0, a mean of what networks say is not, and keeps its rank.
_LEAST_SHARE, LEAST_MEAN = 1e-4, 1e-12


def sigmoid(logits):
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64)))  # exp overflows, tanh does not


def _softmax_loss(logits, answers):
    """Loss of each row, and its gradient in the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(answers * logarithms), np.exp(logarithms) - answers


def _sigmoid_loss(logits, answers):
    return np.logaddexp(0, logits) - answers * logits, sigmoid(logits) - answers


def _which(truth, outputs):
    """One question: which class."""
    known = np.repeat(truth[:, None] >= 0, outputs, axis=1)
    return truth[:, None] == np.arange(outputs), known


def _each(truth, outputs):
    truth = truth.reshape(len(truth), outputs)
    return truth == 1, truth >= 0


def _above(truth, outputs):
    known = np.repeat(truth[:, None] >= 0, outputs, axis=1)
    return truth[:, None] > np.arange(outputs), known


def _above_if_reached(truth, outputs):
    return truth[:, None] > np.arange(outputs), truth[:, None] >= np.arange(outputs)


def _logit(shares, least):
    shares = np.clip(shares, least, 1 - least)
    return np.log(shares) - np.log1p(-shares)


def _cumulative(probabilities):
    """P(class > k) for every k but the last."""
    return np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1][:, 1:]


def _conditional_logits(probabilities, outputs, least):
    above = _cumulative(probabilities)
    reached = np.hstack([np.ones((len(above), 1)), above[:, :-1]])
    return _logit(above / np.maximum(reached, 1e-12), least)


@dataclasses.dataclass(frozen=True)
class Kind:
    shared: bool  # one slope for all logits
    answers: Callable  # (truth, outputs) -> the right answer of each logit, and where there is one
    loss: Callable
    logits: Callable  # (class probabilities, outputs, the least of them) -> logits that decode to them
    latent: bool = False  # one latent behind all logits, with biases that descend


# What a head names as `head.calibration`.
KINDS = {
    "softmax": Kind(True, _which, _softmax_loss, lambda p, _, least: np.log(np.maximum(p, least))),
    "sigmoid": Kind(False, _each, _sigmoid_loss, lambda p, outputs, least: _logit(p[:, -outputs:], least)),
    "coral": Kind(True, _above, _sigmoid_loss, lambda p, _, least: _logit(_cumulative(p), least), latent=True),
    "corn": Kind(False, _above_if_reached, _sigmoid_loss, _conditional_logits),
}
NONE = "none"  # logits as the network gives them


def kind_named(name):
    if name not in KINDS:
        raise ValueError(f"unknown kind of calibration {name!r}; known: {', '.join(KINDS)}")
    return KINDS[name]


def logits_of(kind, probabilities, outputs, *, least=_LEAST_SHARE):
    """Logits that the head decodes to these class probabilities: means over views or members, shares of votes."""
    return kind_named(kind).logits(np.asarray(probabilities, np.float64), outputs, least)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """`slope` holds one number for all logits or one for each; the temperature is its inverse."""

    kind: str = NONE
    slope: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()

    def __post_init__(self):
        if self.kind == NONE:
            return
        kind = kind_named(self.kind)
        numbers = np.array([*self.slope, *self.bias], np.float64)
        right = len(self.slope) == (1 if kind.shared else len(self.bias)) and len(self.bias) > 0
        if not right or not np.isfinite(numbers).all() or min(self.slope) <= 0:
            raise ValueError(f"a {self.kind} calibration has positive slopes and as many biases as logits")
        if kind.latent and (np.diff(self.bias) >= 0).any():
            raise ValueError(f"the biases of a {self.kind} calibration descend")

    def apply(self, logits):
        logits = np.asarray(logits, np.float64)
        if self.kind == NONE:
            return logits
        if logits.shape[1:] != (len(self.bias),):
            raise ValueError(f"calibrated for {len(self.bias)} logits, not for {logits.shape[1:]}")
        return _inputs(KINDS[self.kind], logits) * self.slope + self.bias


def _inputs(kind, logits):
    return logits.mean(axis=1, keepdims=True) if kind.latent else logits


def fit(kind, logits, truth, weights=None):
    """The most probable calibration given `truth`: classes [n], or 0/1 of each label [n, labels]; -1 is not known.

    A photograph of weight 2 counts like two.
    """
    kind_name, kind, logits = kind, kind_named(kind), np.asarray(logits, np.float64)
    outputs, x = logits.shape[1], _inputs(kind, logits)
    answers, known = kind.answers(np.asarray(truth), outputs)
    weights = np.ones(len(logits)) if weights is None else np.asarray(weights, np.float64)
    # CORAL's own biases are where its calibration starts from; for the others x is the logits, and this is 0.
    own = (logits - x).mean(axis=0)
    theta = _descend(kind, x, answers * 1.0, known * weights[:, None], own)
    slopes = 1 if kind.shared else outputs
    bias = _biases(kind, outputs) @ theta[slopes:]
    return Calibration(kind_name, tuple(np.exp(theta[:slopes]).tolist()), tuple(bias.tolist()))


def _biases(kind, outputs):
    """The matrix from free parameters to biases. A latent's are the first one and the gaps down from it."""
    if not kind.latent:
        return np.eye(outputs)
    return np.tril(np.hstack([np.ones((outputs, 1)), -np.ones((outputs, outputs - 1))]))


def _descend(kind, x, answers, weights, own):
    """[log slopes, free parameters of the biases] at the least of loss and prior together."""
    from scipy.optimize import minimize  # only who fits needs it

    slopes = 1 if kind.shared else len(own)
    matrix = _biases(kind, len(own))

    def objective(theta):
        slope, bias = np.exp(theta[:slopes]), matrix @ theta[slopes:]
        losses, gradients = kind.loss(x * slope + bias, answers)
        gradients = gradients * weights
        by_slope = (gradients * x * slope).sum(axis=0)
        by_slope = by_slope.sum(keepdims=True) if kind.shared else by_slope
        by_bias = gradients.sum(axis=0) + (bias - own) / _BIAS_WIDTH**2
        value = (losses * weights).sum() + (theta[:slopes] ** 2).sum() / 2 / _SLOPE_WIDTH**2
        value += ((bias - own) ** 2).sum() / 2 / _BIAS_WIDTH**2
        gradient = np.concatenate([by_slope + theta[:slopes] / _SLOPE_WIDTH**2, matrix.T @ by_bias])
        return value / len(x), gradient / len(x)

    least = [None, *[_LEAST_GAP] * (len(own) - 1)] if kind.latent else [None] * len(own)
    bounds = [(-5, 5)] * slopes + [(low, None) for low in least]
    start = np.concatenate([np.zeros(slopes), np.linalg.solve(matrix, own)])
    # L-BFGS-B solves its tiny systems by threaded BLAS, which takes seconds where other processes hold the cores.
    options = {"maxfun": 5000, "ftol": 1e-12, "gtol": 1e-8, "xtol": 1e-10}
    return minimize(objective, start, jac=True, method="TNC", bounds=bounds, options=options).x
