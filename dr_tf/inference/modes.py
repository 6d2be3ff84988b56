"""The ways from photographs to logits, by name: one look, several views, the votes of the nearest training photographs.

Each gives logits that the head decodes, so that all are calibrated alike, each by itself, and read under one prior.
"""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.calibration import LEAST_MEAN, logits_of
from dr_tf.inference.rule import PLAIN
from dr_tf.inference.views import COUNTS, view


@dataclasses.dataclass(frozen=True)
class Way:
    views: int = 1  # whose probabilities are averaged
    vote: str | None = None  # of the nearest training photographs, by a name in `neighbours.VOTES`


WAYS = {
    PLAIN: Way(),
    **{f"tta{count}": Way(views=count) for count in COUNTS if count > 1},
    "knn": Way(vote="ordinal"),
    "knn_majority": Way(vote="majority"),
}


@dataclasses.dataclass(frozen=True)
class Answers:
    """Of n photographs. Of what was averaged there are the class probabilities, before any calibration."""

    logits: dict[str, np.ndarray]  # mode -> [n, outputs]
    features: np.ndarray
    by_view: np.ndarray  # [views, n, classes]
    by_member: np.ndarray | None = None  # [members, n, classes] of an ensemble


def check(modes):
    for mode in modes:
        if mode not in WAYS:
            raise UserError(f"unknown mode {mode!r}; known: {', '.join(WAYS)}")


def by_neighbours(modes):
    """Whether one of them takes a bank."""
    check(modes)
    return any(WAYS[mode].vote for mode in modes)


def answers(network, head, modes, x, *, bank=None):
    """The Answers of one batch; the network looks at each view once, however many modes share it."""
    check(modes)
    seen = [network(view(x, number)) for number in range(max(WAYS[mode].views for mode in modes))]
    features = seen[0][1]
    by_view = np.stack([head.probabilities(logits) for logits, _ in seen])
    votes = _votes(bank, features, {WAYS[mode].vote for mode in modes if WAYS[mode].vote})
    logits = {mode: _logits(head, WAYS[mode], seen[0][0], by_view, votes) for mode in modes}
    return Answers(logits, features, by_view)


def answers_over(network, head, modes, batches, *, bank=None):
    """The Answers of all batches of a dataset whose elements begin with x; of none there are no logits [0, outputs]."""
    parts = [answers(network, head, modes, element[0], bank=bank) for element in batches]
    if not parts:
        nothing = np.zeros((0, head.outputs))
        return Answers(dict.fromkeys(modes, nothing), np.zeros((0, network.width)), head.probabilities(nothing)[None])
    features = np.concatenate([part.features for part in parts])
    members = network.members(features)
    return Answers(
        logits={mode: np.concatenate([part.logits[mode] for part in parts]) for mode in modes},
        features=features,
        by_view=np.concatenate([part.by_view for part in parts], axis=1),
        by_member=None if members is None else np.stack([head.probabilities(logits) for logits in members]),
    )


def _logits(head, way, plain, by_view, votes):
    if way.vote:
        return logits_of(head.calibration, votes[way.vote], head.outputs)
    if way.views == 1:
        return plain
    return logits_of(head.calibration, by_view[: way.views].mean(axis=0), head.outputs, least=LEAST_MEAN)


def _votes(bank, features, wanted):
    """{vote: class probabilities}; no number where the features are none."""
    if not wanted:
        return {}
    finite = np.isfinite(features).all(axis=1)
    shares = {vote: np.full((len(features), bank.ballots.shape[1]), np.nan) for vote in wanted}
    if finite.any():
        nearest = bank.nearest(features[finite])
        for vote in wanted:
            shares[vote][finite] = bank.shares(*nearest, vote)
    return shares
