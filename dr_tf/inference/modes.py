"""Modes: the ways from photographs to class probabilities, by name.

"plain" reads the output that decides, "tta4" averages four views of it, "knn" and "knn_majority" ask the nearest training
photographs; the name of another output with the same classes reads that one, and "plain+knn" is the mean of two modes.
Each has a link and a calibration of its own, so that what it says stays the distribution that it is; all of a run are read
under one prior.
"""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.test_time_augmentation import COUNTS, view
from dr_tf.models.links import LEAST_MEAN, LEAST_SHARE, encoded, of_distribution

PLAIN = "plain"


@dataclasses.dataclass(frozen=True)
class ModeDefinition:
    """What a mode reads: views of an output, the votes of neighbours, or other modes."""

    output: str = ""  # empty: the one that decides
    views: int = 1  # whose probabilities are averaged
    vote: str = ""  # of the nearest training photographs, by a name in `neighbours.VOTES`
    mean: tuple[str, ...] = ()  # of these modes


MODES = {
    PLAIN: ModeDefinition(),
    **{f"tta{count}": ModeDefinition(views=count) for count in COUNTS if count > 1},
    "knn": ModeDefinition(vote="ordinal"),
    "knn_majority": ModeDefinition(vote="majority"),
}


def mode_definition(name, heads, decides):
    """The ModeDefinition of a mode's name.

    Raises:
        UserError: where nothing is called that, with what is.
    """
    if name in MODES:
        return MODES[name]
    alike = [output for output, head in heads.items() if head.classes == heads[decides].classes and output != decides]
    if name in alike:
        return ModeDefinition(output=name)
    parts = tuple(name.split("+"))
    if len(set(parts)) == len(parts) > 1 and all(part in MODES or part in alike for part in parts):
        return ModeDefinition(mean=parts)
    raise UserError(
        f"unknown mode {name!r}; known: {', '.join([*MODES, *alike])}, or the mean of some, such as plain+knn"
    )


def needed(names, ways):
    """The modes that have to be requested for these: of a mean its parts."""
    return tuple(dict.fromkeys(part for name in names for part in (ways[name].mean or (name,))))


def link_of(way, heads, decides, *, ensemble=False):
    """The link that a mode's scores have."""
    head = heads[way.output or decides]
    averaged = way.views > 1 or way.vote or way.mean or ensemble
    return of_distribution(head) if averaged else head.link


@dataclasses.dataclass(frozen=True)
class ModeScores:
    """Of n cases. Of what was averaged there are the class probabilities, before any calibration."""

    scores: dict[str, np.ndarray]  # mode -> [n, scores]; of a mean there are those of its parts
    outputs: dict[str, np.ndarray]  # output -> logits of the one plain look
    features: np.ndarray
    by_view: np.ndarray  # [views, n, classes] of the output that decides
    by_member: np.ndarray | None = None  # [members, n, classes] of an ensemble


@dataclasses.dataclass(frozen=True)
class RequestedModes:
    """Which modes are requested of a network: {name: (way, link)}, with the heads that decode its outputs."""

    heads: dict[str, object]
    decides: str
    modes: dict[str, tuple[ModeDefinition, str]]

    @classmethod
    def named(cls, names, heads, decides, *, ensemble=False):
        ways = {name: mode_definition(name, heads, decides) for name in names}
        ways |= {part: mode_definition(part, heads, decides) for part in needed(names, ways)}
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


def score_images(network, requested, images, *, neighbours=None):
    """The ModeScores of one batch; the network looks at each view once, however many modes share it."""
    seen = [network(view(images, number)) for number in range(requested.views)]
    outputs, features = seen[0]
    by_view = np.stack([requested.head.probabilities(of[requested.decides]) for of, _ in seen])
    votes = _votes(neighbours, features, requested.votes)
    scores = {
        name: _scores(requested, way, link, outputs, by_view, votes) for name, (way, link) in requested.modes.items()
    }
    return ModeScores(scores, outputs, features, by_view)


def score_batches(network, requested, batches, *, neighbours=None):
    """The ModeScores of all batches of a dataset whose elements begin with the images; of none there are no rows."""
    parts = [score_images(network, requested, element[0], neighbours=neighbours) for element in batches]
    if not parts:
        return _none(network, requested)
    features = np.concatenate([part.features for part in parts])
    members = network.members(features)
    return ModeScores(
        scores=_joined([part.scores for part in parts]),
        outputs=_joined([part.outputs for part in parts]),
        features=features,
        by_view=np.concatenate([part.by_view for part in parts], axis=1),
        by_member=members and np.stack([requested.head.probabilities(logits) for logits in members[requested.decides]]),
    )


def _none(network, requested):
    classes = len(requested.head.classes)
    outputs = {name: np.zeros((0, head.outputs)) for name, head in requested.heads.items()}
    by_view, votes = np.zeros((requested.views, 0, classes)), dict.fromkeys(requested.votes, np.zeros((0, classes)))
    scores = {
        name: _scores(requested, way, link, outputs, by_view, votes) for name, (way, link) in requested.modes.items()
    }
    return ModeScores(scores, outputs, np.zeros((0, network.width)), by_view)


def _joined(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _scores(requested, way, link, outputs, by_view, votes):
    if way.vote:
        return encoded(link, votes[way.vote], least=LEAST_SHARE)
    output = way.output or requested.decides
    if way.views > 1:
        return encoded(link, by_view[: way.views].mean(axis=0), least=LEAST_MEAN)
    if link == requested.heads[output].link:
        return outputs[output]
    return encoded(link, requested.heads[output].probabilities(outputs[output]), least=LEAST_MEAN)


def _votes(neighbours, features, wanted):
    """{vote: class probabilities}; no number where the features are none."""
    if not wanted:
        return {}
    finite = np.isfinite(features).all(axis=1)
    shares = {vote: np.full((len(features), neighbours.ballots.shape[1]), np.nan) for vote in wanted}
    if finite.any():
        nearest = neighbours.nearest(features[finite])
        for vote in wanted:
            shares[vote][finite] = neighbours.shares(*nearest, vote)
    return shares
