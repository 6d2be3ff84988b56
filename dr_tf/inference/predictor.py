"""The Predictor: decisions on images by a finished run, with the same code that evaluation measures."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus import subprocesses
from dr_tf.grades import EYES, PATIENT_FIELDS
from dr_tf.inference.case import SINGLE, Case, ImageSource, as_cases
from dr_tf.inference.decision import Decision
from dr_tf.inference.modes import PLAIN, score_images
from dr_tf.inference.nearest_neighbours import Neighbours
from dr_tf.inference.network import ImageBatch, Network
from dr_tf.inference.prepare_images import ImageReaders, PreparedImage, prepare_case
from dr_tf.inference.rule import Rule
from dr_tf.inference.run import Run, load_run, read_neighbours
from dr_tf.inference.single_eyes import WORSE_EYE
from dr_tf.safe_names import printable

_BATCH = 16


class CaseDecision(NamedTuple):
    """A case with its decision, and what the decision was made from.

    Attributes:
        case: the case.
        images: {eye: its prepared image}.
        decision: the decision.
        features: of the network [width]; None for a case without a usable image.
    """

    case: Case
    images: dict[str, PreparedImage]
    decision: Decision
    features: np.ndarray | None


class Predictor:
    """Decides on cases by a run.

    Args:
        run: the network, the decision rule and the image preparation.
        mode: the prediction mode, one of the rule's.
        neighbours: the nearest neighbours, for modes that vote.
        readers: the number of processes that read and prepare images; by default the number of CPU cores.
    """

    def __init__(
        self, run: Run, *, mode: str = PLAIN, neighbours: Neighbours | None = None, readers: int | None = None
    ):
        self.run, self.mode, self.neighbours = run, mode, neighbours
        single_eyes = [name for name in (WORSE_EYE,) if name in run.rule.modes]
        self.requested_modes = run.rule.requested_modes(mode, *single_eyes)
        self._readers = ImageReaders(run.preparation, readers)

    @classmethod
    def from_run(cls, run_dir: str | os.PathLike, mode: str = PLAIN, *, keras: bool = False) -> Predictor:
        """Load the Predictor of a run directory or an export.

        A run of unknown origin is safe to load: no code in it is run.

        Args:
            run_dir: of the finished run.
            mode: the prediction mode.
            keras: whether the run's Keras model predicts, also where an export of it is at hand.

        Raises:
            UserError: the run is not finished or cannot be read, or the mode was not fitted.
        """
        subprocesses.start_shared_worker()  # it starts while the network loads
        run = load_run(run_dir, keras=keras)
        return cls(run, mode=mode, neighbours=read_neighbours(run_dir, run.rule.requested_modes(mode), run.network))

    @property
    def rule(self) -> Rule:
        """The decision rule of the run."""
        return self.run.rule

    def change_rule(self, *, point: str | None = None, prevalence: float | None = None) -> None:
        """Decide by another operating point, or for a population with another prevalence of positives.

        Args:
            point: the name of an operating point of the run; None for its own.
            prevalence: the share of positive cases, between 0 and 1; None for the run's own.

        Raises:
            UserError: the run has no such point, or the prevalence is not between 0 and 1.
        """
        rule = self.rule if point is None else dataclasses.replace(self.rule, operating_point_name=point)
        rule = rule if prevalence is None else rule.at_prevalence(prevalence)
        self.run = dataclasses.replace(self.run, rule=rule)

    def with_rule(self, *, point: str | None = None, prevalence: float | None = None) -> Predictor:
        """Return a Predictor by the same network with another rule; arguments and errors are those of `change_rule`."""
        other = copy.copy(self)
        other.change_rule(point=point, prevalence=prevalence)
        return other

    def decisions(self, cases: Iterable[Case | ImageSource], *, batch_size: int = _BATCH) -> Iterator[Decision]:
        """Yield the Decision of each case in order, each batch as soon as it is done.

        Worker processes read the next images while the network is busy. At most three batches are in memory.

        Args:
            cases: cases, or images, each of which is a case by itself.
            batch_size: the number of cases that the network processes at a time.

        Raises:
            UserError: a case has not the eyes that the network takes.
        """
        for decided in self.decisions_with_images(cases, batch_size=batch_size):
            yield decided.decision

    def decisions_with_images(
        self, cases: Iterable[Case | ImageSource], *, batch_size: int = _BATCH
    ) -> Iterator[CaseDecision]:
        """Yield the CaseDecision of each case; see `decisions`."""
        cases, to_read = itertools.tee(self._checked(cases))
        prepared = zip(cases, self._readers.prepare_ahead(to_read, 3 * batch_size), strict=True)
        while batch := list(itertools.islice(prepared, batch_size)):
            yield from self.decide_prepared(batch)

    def decide(self, case: Case | ImageSource) -> Decision:
        """Return the Decision on one case. May be called from any thread."""
        return self.decide_with_images(case).decision

    def decide_with_images(self, case: Case | ImageSource) -> CaseDecision:
        """Return the CaseDecision of one case. May be called from any thread."""
        (checked,) = self._checked([case])
        return next(self.decide_prepared([(checked, prepare_case(self.run.preparation, checked))]))

    def _checked(self, cases):
        paired = self.run.network.paired
        for case in as_cases(cases):
            if paired and SINGLE in case.images:
                raise UserError(
                    f"{printable(case.name)}: this model takes both eyes of a patient; name the eye of the image"
                )
            if not paired and SINGLE not in case.images:
                raise UserError(f"{printable(case.name)}: this model takes one photograph, not both eyes of a patient")
            eyes = EYES if paired else (SINGLE,)
            if not case.images or not set(case.images) <= set(eyes) or not all(case.images.values()):
                expected = "the eyes 'left' and 'right'" if paired else "one eye"
                raise UserError(
                    f"{printable(case.name)}: this model takes images of {expected}, at least one image of each eye that is named"
                )
            yield case

    def decide_prepared(self, batch: Sequence[tuple[Case, dict[str, PreparedImage]]]) -> Iterator[CaseDecision]:
        """Yield the CaseDecision of each case of a batch, whose images `prepare_case` has prepared, in order."""
        usable = [(case, images) for case, images in batch if _has_usable_image(images)]
        decided = iter(self._predict(*zip(*usable, strict=True)) if usable else ())
        for case, images in batch:
            unusable = not _has_usable_image(images)
            yield CaseDecision(
                case, images, *((self._unusable(case.name, images), None) if unusable else next(decided))
            )

    def _unusable(self, name, images):
        """The decision on a case without a usable image."""
        infos = {eye: image.info for eye, image in images.items()}
        reason = "; ".join(f"{eye} eye: {info.reason}" if eye else info.reason for eye, info in infos.items())
        return Decision(name, self.rule.head.positive, "retake", gradable=False, reason=reason, images=infos)

    def _predict(
        self, cases: Sequence[Case], images: Sequence[Mapping[str, PreparedImage]]
    ) -> Iterable[tuple[Decision, np.ndarray]]:
        network, distribution = self.run.network, self.run.feature_distribution
        scored = score_images(network, self.requested_modes, _batch(cases, images, network), neighbours=self.neighbours)
        decisions = self.rule.decide(
            scored.scores,
            cases=[case.name for case in cases],
            outputs=scored.outputs,
            mode=self.mode,
            images=[{eye: image.info for eye, image in case.items()} for case in images],
            distances=None if distribution is None else distribution.distance(scored.features),
            eye_probabilities=scored.eye_probabilities,
        )
        return zip(decisions, scored.features, strict=True)


def _has_usable_image(images):
    return any(image.pixels is not None for image in images.values())


def _batch(cases: Sequence[Case], images: Sequence[Mapping[str, PreparedImage]], network: Network) -> ImageBatch:
    """A batch as the network takes it. An eye that is missing or cannot be used is black and marked as absent."""
    if not network.paired:
        return np.stack([np.asarray(of_case[SINGLE].pixels) for of_case in images])
    black = np.zeros((network.image_size, network.image_size, 3), np.uint8)
    pixels = {eye: [of_case[eye].pixels if eye in of_case else None for of_case in images] for eye in EYES}
    batch = {eye: np.stack([black if one is None else one for one in by_case]) for eye, by_case in pixels.items()}
    values = [case.patient_values() for case in cases]
    return (
        batch
        | {f"{eye}_present": np.array([one is not None for one in pixels[eye]]) for eye in EYES}
        | {name: np.array([of_case[name] for of_case in values], np.float32) for name in PATIENT_FIELDS}
    )
