"""Prediction modes: named methods to compute class probabilities from images.

"plain" is the output that decides, "tta4" averages four test-time augmentations of it, "knn" and "knn_majority" let the
nearest training images vote. Of a network of both eyes, "one_eye" is the left eye alone (the right one where it is
absent), "mean_eye" the mean over the eyes, each alone, and "worse_eye" the higher probability of both. The name of another
output with the same classes is a mode, too, and "plain+knn" is the mean of two modes. Each mode has its own link and
calibration, because averages and votes are distributions that the head's link may not be able to represent. All modes of a
run are calibrated for the same prior.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.grades import EYES
from dr_tf.inference.network import ImageBatch, Network
from dr_tf.inference.single_eyes import COMBINATIONS, eye_probabilities
from dr_tf.inference.test_time_augmentation import VIEW_COUNTS, augmented_view
from dr_tf.models.links import MIN_PROBABILITY, MIN_VOTE_SHARE, link_for_averages, probabilities_to_scores

if TYPE_CHECKING:
    from dr_tf.inference.nearest_neighbours import Neighbours
    from dr_tf.models.heads.head import Head

PLAIN = "plain"


@dataclasses.dataclass(frozen=True)
class ModeDefinition:
    """How a mode computes class probabilities: from views of an output, from single eyes, votes or other modes.

    Attributes:
        output: the output to take; empty for the one that decides.
        views: the number of augmented views whose probabilities are averaged.
        vote: a name in `nearest_neighbours.VOTES`; empty for no vote.
        mean: the modes to average; empty for no mean.
        eyes: a name in `single_eyes.COMBINATIONS`, which combines the predictions for each eye alone; empty for both eyes
            at once.
    """

    output: str = ""
    views: int = 1
    vote: str = ""
    mean: tuple[str, ...] = ()
    eyes: str = ""


MODES = {
    PLAIN: ModeDefinition(),
    **{f"tta{count}": ModeDefinition(views=count) for count in VIEW_COUNTS if count > 1},
    **{name: ModeDefinition(eyes=name) for name in COMBINATIONS},
    "knn": ModeDefinition(vote="ordinal"),
    "knn_majority": ModeDefinition(vote="majority"),
}


def mode_definition(name: str, heads: Mapping[str, Head], decides: str) -> ModeDefinition:
    """Return the definition of a mode.

    Args:
        name: a name in MODES, an output with the same classes as the one that decides, or such names joined by "+".
        heads: {output: head}.
        decides: the output that decides.

    Raises:
        UserError: there is no such mode; the message lists the known ones.
    """
    if name in MODES:
        return MODES[name]
    outputs = [output for output, head in heads.items() if head.classes == heads[decides].classes and output != decides]
    if name in outputs:
        return ModeDefinition(output=name)
    parts = tuple(name.split("+"))
    if len(set(parts)) == len(parts) > 1 and all(part in MODES or part in outputs for part in parts):
        return ModeDefinition(mean=parts)
    raise UserError(
        f"unknown mode {name!r}; known: {', '.join([*MODES, *outputs])}, or a mean of several, such as plain+knn"
    )


def with_parts(names: Iterable[str], definitions: Mapping[str, ModeDefinition]) -> tuple[str, ...]:
    """Return the modes that have scores of their own: a mean is replaced by the modes that it averages."""
    return tuple(dict.fromkeys(part for name in names for part in (definitions[name].mean or (name,))))


def mode_link(definition: ModeDefinition, heads: Mapping[str, Head], decides: str, *, ensemble: bool = False) -> str:
    """Return the name of the link of a mode's scores.

    Args:
        definition: of the mode.
        heads: {output: head}.
        decides: the output that decides.
        ensemble: whether the network is an ensemble, whose outputs are averages.
    """
    head = heads[definition.output or decides]
    averaged = definition.views > 1 or definition.eyes or definition.vote or definition.mean or ensemble
    return link_for_averages(head) if averaged else head.link


@dataclasses.dataclass(frozen=True)
class ModeScores:
    """Scores of n cases, before calibration. Averaged probabilities are encoded as scores by the mode's link.

    Attributes:
        scores: {mode: [n, scores]}; of a mean there are the scores of its parts.
        outputs: {output: logits of the plain view}.
        features: [n, width].
        view_probabilities: of the output that decides, [views, n, classes].
        eye_probabilities: of the output that decides for each eye alone, {eye: [n, classes]}, NaN for an absent eye; empty
            if no mode needs them.
        member_probabilities: of the output that decides, [members, n, classes]; None for a single network.
    """

    scores: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    features: np.ndarray
    view_probabilities: np.ndarray
    eye_probabilities: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    member_probabilities: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class RequestedModes:
    """The modes to score, with the heads that decode the network's outputs.

    Attributes:
        heads: {output: head}.
        decides: the output that decides.
        modes: {mode: (its definition, the name of its link)}.
    """

    heads: Mapping[str, Head]
    decides: str
    modes: Mapping[str, tuple[ModeDefinition, str]]

    @classmethod
    def from_names(
        cls, names: Iterable[str], heads: Mapping[str, Head], decides: str, *, ensemble: bool = False
    ) -> RequestedModes:
        """Look up modes by name; see `mode_definition` and `mode_link`."""
        names = tuple(names)
        definitions = {name: mode_definition(name, heads, decides) for name in names}
        scored = with_parts(names, definitions)
        definitions |= {name: mode_definition(name, heads, decides) for name in scored}
        links = {name: mode_link(definitions[name], heads, decides, ensemble=ensemble) for name in scored}
        return cls(heads, decides, {name: (definitions[name], links[name]) for name in scored})

    @property
    def head(self) -> Head:
        """The head that decides."""
        return self.heads[self.decides]

    @property
    def views(self) -> int:
        """The number of augmented views that the network has to process."""
        return max((definition.views for definition, _ in self.modes.values()), default=1)

    @property
    def single_eyes(self) -> bool:
        """Whether the network has to process each eye alone."""
        return any(definition.eyes for definition, _ in self.modes.values())

    @property
    def passes(self) -> int:
        """How many times the network runs for a batch; the first time on the original images."""
        return self.views + (len(EYES) if self.single_eyes else 0)

    @property
    def votes(self) -> set[str]:
        """The voting schemes that need the nearest neighbours."""
        return {definition.vote for definition, _ in self.modes.values() if definition.vote}


def score_images(
    network: Network, requested: RequestedModes, images: ImageBatch, *, neighbours: Neighbours | None = None
) -> ModeScores:
    """Score one batch of images by every requested mode. The network processes each view once, for all modes.

    Args:
        network: the trained network.
        requested: the modes.
        images: a batch as the network takes it.
        neighbours: needed if a mode votes.
    """
    by_view = [network(augmented_view(images, index)) for index in range(requested.views)]
    outputs, features = by_view[0]
    view_probabilities = np.stack([requested.head.probabilities(logits[requested.decides]) for logits, _ in by_view])
    by_eye = eye_probabilities(network, images, requested.head, requested.decides) if requested.single_eyes else {}
    votes = _vote_probabilities(neighbours, features, requested.votes)
    scores = _all_scores(requested, outputs, view_probabilities, by_eye, votes)
    return ModeScores(scores, outputs, features, view_probabilities, by_eye)


def score_batches(
    network: Network,
    requested: RequestedModes,
    batches: Iterable[Sequence[Any]],
    *,
    neighbours: Neighbours | None = None,
) -> ModeScores:
    """Score all batches of a dataset by every requested mode.

    Args:
        network: the trained network.
        requested: the modes.
        batches: tuples whose first element is a batch of images. Without any batch the result has no rows.
        neighbours: needed if a mode votes.
    """
    parts = [score_images(network, requested, element[0], neighbours=neighbours) for element in batches]
    if not parts:
        return _no_scores(network, requested)
    features = np.concatenate([part.features for part in parts])
    members = network.members(features)
    member_probabilities = None
    if members is not None:
        member_probabilities = np.stack([requested.head.probabilities(logits) for logits in members[requested.decides]])
    return ModeScores(
        scores=_concatenate([part.scores for part in parts]),
        outputs=_concatenate([part.outputs for part in parts]),
        features=features,
        view_probabilities=np.concatenate([part.view_probabilities for part in parts], axis=1),
        eye_probabilities=_concatenate([part.eye_probabilities for part in parts]),
        member_probabilities=member_probabilities,
    )


def _no_scores(network, requested):
    classes = len(requested.head.classes)
    outputs = {name: np.zeros((0, head.outputs)) for name, head in requested.heads.items()}
    view_probabilities = np.zeros((requested.views, 0, classes))
    votes = dict.fromkeys(requested.votes, np.zeros((0, classes)))
    by_eye = dict.fromkeys(EYES, np.zeros((0, classes)))
    scores = _all_scores(requested, outputs, view_probabilities, by_eye, votes)
    return ModeScores(scores, outputs, np.zeros((0, network.width)), view_probabilities)


def _concatenate(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _all_scores(requested, outputs, view_probabilities, by_eye, votes):
    return {
        name: _mode_scores(requested, definition, link, outputs, view_probabilities, by_eye, votes)
        for name, (definition, link) in requested.modes.items()
    }


def _mode_scores(requested, definition, link, outputs, view_probabilities, by_eye, votes):
    if definition.vote:
        return probabilities_to_scores(link, votes[definition.vote], minimum=MIN_VOTE_SHARE)
    if definition.eyes:
        combined = COMBINATIONS[definition.eyes](by_eye, requested.head)
        return probabilities_to_scores(link, combined, minimum=MIN_PROBABILITY)
    output = definition.output or requested.decides
    if definition.views > 1:
        mean = view_probabilities[: definition.views].mean(axis=0)
        return probabilities_to_scores(link, mean, minimum=MIN_PROBABILITY)
    head = requested.heads[output]
    if link == head.link:
        return outputs[output]
    return probabilities_to_scores(link, head.probabilities(outputs[output]), minimum=MIN_PROBABILITY)


def _vote_probabilities(neighbours, features, votes):
    """{vote: class probabilities}; NaN for rows whose features are not finite."""
    if not votes:
        return {}
    finite = np.isfinite(features).all(axis=1)
    probabilities = {vote: np.full((len(features), neighbours.one_hot_labels.shape[1]), np.nan) for vote in votes}
    if finite.any():
        distances, rows = neighbours.nearest(features[finite])
        for vote in votes:
            probabilities[vote][finite] = neighbours.vote_probabilities(distances, rows, vote)
    return probabilities
