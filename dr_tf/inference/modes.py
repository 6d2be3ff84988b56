"""Modes: the ways from photographs to class probabilities, by name.

"plain" reads the output that decides, "tta4" averages four views of it, "knn" and "knn_majority" ask the nearest training
photographs; the name of another output with the same classes reads that one, and "plain+knn" is the mean of two modes.
Each has a link and a calibration of its own, so that what it says stays the distribution that it is; all of a run are read
under one prior.
"""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.views import COUNTS, view
from dr_tf.models.links import LEAST_MEAN, LEAST_SHARE, encoded, of_distribution

PLAIN = "plain"


@dataclasses.dataclass(frozen=True)
class Way:
    """What a mode reads: views of an output, the votes of neighbours, or other modes."""

    output: str = ""  # empty: the one that decides
    views: int = 1  # whose probabilities are averaged
    vote: str = ""  # of the nearest training photographs, by a name in `neighbours.VOTES`
    mean: tuple[str, ...] = ()  # of these modes


WAYS = {
    PLAIN: Way(),
    **{f"tta{count}": Way(views=count) for count in COUNTS if count > 1},
    "knn": Way(vote="ordinal"),
    "knn_majority": Way(vote="majority"),
}


def way_named(name, heads, decides):
    """The Way of a mode's name.

    Raises:
        UserError: where nothing is called that, with what is.
    """
    if name in WAYS:
        return WAYS[name]
    alike = [output for output, head in heads.items() if head.classes == heads[decides].classes and output != decides]
    if name in alike:
        return Way(output=name)
    parts = tuple(name.split("+"))
    if len(set(parts)) == len(parts) > 1 and all(part in WAYS or part in alike for part in parts):
        return Way(mean=parts)
    raise UserError(
        f"unknown mode {name!r}; known: {', '.join([*WAYS, *alike])}, or the mean of some, such as plain+knn"
    )


def needed(names, ways):
    """The modes that have to be asked for these: of a mean its parts."""
    return tuple(dict.fromkeys(part for name in names for part in (ways[name].mean or (name,))))


def link_of(way, heads, decides, *, ensemble=False):
    """The link that a mode's scores have."""
    head = heads[way.output or decides]
    averaged = way.views > 1 or way.vote or way.mean or ensemble
    return of_distribution(head) if averaged else head.link


@dataclasses.dataclass(frozen=True)
class Answers:
    """Of n cases. Of what was averaged there are the class probabilities, before any calibration."""

    scores: dict[str, np.ndarray]  # mode -> [n, scores]; of a mean there are those of its parts
    outputs: dict[str, np.ndarray]  # output -> logits of the one plain look
    features: np.ndarray
    by_view: np.ndarray  # [views, n, classes] of the output that decides
    by_member: np.ndarray | None = None  # [members, n, classes] of an ensemble


@dataclasses.dataclass(frozen=True)
class Asked:
    """Which modes are asked of a network: {name: (way, link)}, with the heads that decode its outputs."""

    heads: dict[str, object]
    decides: str
    modes: dict[str, tuple[Way, str]]

    @classmethod
    def named(cls, names, heads, decides, *, ensemble=False):
        ways = {name: way_named(name, heads, decides) for name in names}
        ways |= {part: way_named(part, heads, decides) for part in needed(names, ways)}
        links = {name: link_of(way, heads, decides, ensemble=ensemble) for name, way in ways.items()}
        return cls(heads, decides, {name: (ways[name], links[name]) for name in needed(names, ways)})

    @property
    def head(self):
        return self.heads[self.decides]

    @property
    def views(self):
        return max((way.views for way, _ in self.modes.values()), default=1)

    @property
    def votes(self):
        return {way.vote for way, _ in self.modes.values() if way.vote}


def answers(network, asked, images, *, bank=None):
    """The Answers of one batch; the network looks at each view once, however many modes share it."""
    seen = [network(view(images, number)) for number in range(asked.views)]
    outputs, features = seen[0]
    by_view = np.stack([asked.head.probabilities(of[asked.decides]) for of, _ in seen])
    votes = _votes(bank, features, asked.votes)
    scores = {name: _scores(asked, way, link, outputs, by_view, votes) for name, (way, link) in asked.modes.items()}
    return Answers(scores, outputs, features, by_view)


def answers_over(network, asked, batches, *, bank=None):
    """The Answers of all batches of a dataset whose elements begin with the images; of none there are no rows."""
    parts = [answers(network, asked, element[0], bank=bank) for element in batches]
    if not parts:
        return _none(network, asked)
    features = np.concatenate([part.features for part in parts])
    members = network.members(features)
    return Answers(
        scores=_joined([part.scores for part in parts]),
        outputs=_joined([part.outputs for part in parts]),
        features=features,
        by_view=np.concatenate([part.by_view for part in parts], axis=1),
        by_member=members and np.stack([asked.head.probabilities(logits) for logits in members[asked.decides]]),
    )


def _none(network, asked):
    classes = len(asked.head.classes)
    outputs = {name: np.zeros((0, head.outputs)) for name, head in asked.heads.items()}
    by_view, votes = np.zeros((asked.views, 0, classes)), dict.fromkeys(asked.votes, np.zeros((0, classes)))
    scores = {name: _scores(asked, way, link, outputs, by_view, votes) for name, (way, link) in asked.modes.items()}
    return Answers(scores, outputs, np.zeros((0, network.width)), by_view)


def _joined(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _scores(asked, way, link, outputs, by_view, votes):
    if way.vote:
        return encoded(link, votes[way.vote], least=LEAST_SHARE)
    output = way.output or asked.decides
    if way.views > 1:
        return encoded(link, by_view[: way.views].mean(axis=0), least=LEAST_MEAN)
    if link == asked.heads[output].link:
        return outputs[output]
    return encoded(link, asked.heads[output].probabilities(outputs[output]), least=LEAST_MEAN)


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
