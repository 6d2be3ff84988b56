"""Link functions: from the scores of an output (logits, log shares of votes) to class probabilities, and back.

A link also says how its scores are calibrated: which 0/1 question each of them answers, and whether they share a slope.
Numpy only; whoever decodes, calibrates or averages takes the link from this one table.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

# Where probabilities become scores: a share of votes may be 0; a mean of what networks say is not, and keeps its rank.
LEAST_SHARE, LEAST_MEAN = 1e-4, 1e-12
_STEEPNESS = 4.0  # of an uncalibrated regression: a grade's probability is above one half within half a grade of it


def sigmoid(logits):
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(logits, np.float64)))  # exp overflows, tanh does not


@dataclasses.dataclass(frozen=True)
class Link:
    """One way to read class probabilities off scores.

    Attributes:
        decode: `[n, outputs]` scores -> `[n, classes]` probabilities.
        encode: (probabilities, the least of them) -> scores that decode to them.
        answers: (truth, outputs) -> the right answer to each score's question, and where there is one.
        loss: (scores, answers) -> the loss of each score, and its gradient.
        shared: one slope for all scores.
        latent: one latent number behind all scores, with biases that descend (CORAL).
        expand: (scores, classes) -> the scores that `decode` takes; a regression gives one number for all thresholds.
    """

    decode: Callable
    encode: Callable
    answers: Callable
    loss: Callable
    shared: bool
    latent: bool = False
    expand: Callable = lambda scores, classes: scores


def _softmax(scores):
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def _binary(scores):
    return np.concatenate([sigmoid(-scores), sigmoid(scores)], axis=-1)


def _from_cumulative(above):
    ends = [(0, 0)] * (above.ndim - 1)
    above = np.pad(np.pad(above, [*ends, (1, 0)], constant_values=1.0), [*ends, (0, 1)])
    return above[..., :-1] - above[..., 1:]


def _cumulative(probabilities):
    """P(class > k) for every k but the last."""
    return np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1][:, 1:]


def _logit(shares, least):
    shares = np.clip(shares, least, 1 - least)
    return np.log(shares) - np.log1p(-shares)


def _conditional_logits(probabilities, least):
    above = _cumulative(probabilities)
    reached = np.hstack([np.ones((len(above), 1)), above[:, :-1]])
    return _logit(above / np.maximum(reached, 1e-12), least)


def _softmax_loss(scores, answers):
    shifted = scores - scores.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(answers * logarithms), np.exp(logarithms) - answers


def _sigmoid_loss(scores, answers):
    return np.logaddexp(0, scores) - answers * scores, sigmoid(scores) - answers


def _known(truth, outputs):
    return np.repeat(truth[:, None] >= 0, outputs, axis=1)


def _which(truth, outputs):
    return truth[:, None] == np.arange(outputs), _known(truth, outputs)


def _each(truth, outputs):
    truth = truth.reshape(len(truth), outputs)
    return truth == 1, truth >= 0


def _above(truth, outputs):
    return truth[:, None] > np.arange(outputs), _known(truth, outputs)


def _above_if_reached(truth, outputs):
    return truth[:, None] > np.arange(outputs), truth[:, None] >= np.arange(outputs)


def _thresholds(scores, classes):
    """A grade as a number -> the logit of being above each threshold half way between two grades."""
    return _STEEPNESS * (np.asarray(scores, np.float64).reshape(-1, 1) - np.arange(0.5, classes - 1))


def _expected(probabilities, _):
    return (probabilities @ np.arange(probabilities.shape[1]))[:, None]


_CORAL = Link(
    decode=lambda scores: _from_cumulative(sigmoid(scores)),
    encode=lambda p, least: _logit(_cumulative(p), least),
    answers=_above, loss=_sigmoid_loss, shared=True, latent=True,
)  # fmt: skip

# What a head names as `head.link`.
LINKS = {
    "softmax": Link(_softmax, lambda p, least: np.log(np.maximum(p, least)), _which, _softmax_loss, shared=True),
    "binary": Link(_binary, lambda p, least: _logit(p[:, 1:], least), _each, _sigmoid_loss, shared=False),
    "labels": Link(sigmoid, _logit, _each, _sigmoid_loss, shared=False),
    "coral": _CORAL,
    "corn": Link(
        lambda scores: _from_cumulative(np.cumprod(sigmoid(scores), axis=-1)),
        _conditional_logits, _above_if_reached, _sigmoid_loss, shared=False,
    ),
    "regression": dataclasses.replace(_CORAL, encode=_expected, expand=_thresholds),
}  # fmt: skip


def link_named(name):
    if name not in LINKS:
        raise ValueError(f"unknown link {name!r}; known: {', '.join(LINKS)}")
    return LINKS[name]


def decoded(name, scores, classes):
    """Class probabilities float64 `[n, classes]` of scores as they are."""
    link = link_named(name)
    return link.decode(np.asarray(link.expand(np.asarray(scores, np.float64), classes), np.float64))


def encoded(name, probabilities, *, least=LEAST_SHARE):
    """Scores that decode to these class probabilities."""
    return link_named(name).encode(np.asarray(probabilities, np.float64), least)


def width(name, classes):
    """How many calibrated scores a link has for so many classes or labels."""
    fewer = {"softmax": 0, "labels": 0, "binary": 1}
    return classes - fewer.get(name, 1)


def of_distribution(head):
    """The link for probabilities that were averaged or voted for: any distribution can be told by it.

    An ordinal head's own link cannot: CORAL's calibration sees one latent number, and very different votes share it.
    """
    if not head.exclusive:
        return "labels"
    return "softmax" if len(head.classes) > 2 else "binary"
