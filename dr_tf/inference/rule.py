"""The decision rule: everything fitted after training that turns a network's scores into decisions.

A rule consists of calibrations, priors, operating points, grade thresholds and the limits of the gate. It is stored in
a run's `decision.json` (`dr_tf.inference.rule_file`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.console import UserError
from dr_tf.fundus.gradability import GRADABLE
from dr_tf.inference import priors
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.conformal import Conformal
from dr_tf.inference.decision import Decision, ImageInfo, LabelDecision, normalized_entropy
from dr_tf.inference.grade_thresholds import apply_grade_thresholds
from dr_tf.inference.modes import MODES, PLAIN, ModeDefinition, RequestedModes, with_parts
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.single_eyes import WORSE_EYE
from dr_tf.models.links import MIN_PROBABILITY, probabilities_to_scores

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

OUT_OF_DISTRIBUTION = "out of distribution: unlike the training photographs"
UNFAMILIAR = "unfamiliar: unlike the training photographs, as of another camera"
NOT_FINITE = "the network's output is not a finite number"


@dataclasses.dataclass(frozen=True)
class Mode:
    """What was fitted for one prediction mode.

    Attributes:
        calibration: of the mode's scores.
        fitted_prior: the class prior for which the calibrated probabilities hold.
        operating_points: {definition of positive: {name: OperatingPoint}}.
        definition: how the mode computes class probabilities.
        grade_thresholds: thresholds on the expected grade; None if the head's own grade is used.
        averaging_prior: of a mean of modes, the class prior under which its parts are averaged.
        conformal: of ordered classes, the predictor of ranges of classes; None for others, or without labels.
        report: sample sizes and metrics of the fit.
    """

    calibration: Calibration
    fitted_prior: tuple[float, ...]
    operating_points: dict[str, dict[str, OperatingPoint]]
    definition: ModeDefinition = MODES[PLAIN]
    grade_thresholds: tuple[float, ...] | None = None
    averaging_prior: tuple[float, ...] | None = None
    conformal: Conformal | None = None
    report: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class OtherOutput:
    """What was fitted for an output that is predicted beside the one that decides.

    Attributes:
        calibration: of the output's logits.
        fitted_prior: the class prior for which the calibrated probabilities hold.
        prior: the class prior to which they are shifted.
        report: sample sizes of the fit.
    """

    calibration: Calibration
    fitted_prior: tuple[float, ...]
    prior: tuple[float, ...]
    report: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Rule:
    """The decision rule of a run.

    Attributes:
        heads: {output: head}.
        decides: the output that decides.
        prior: the class prior for which the probabilities of all modes are calibrated.
        prior_name: how this prior was configured.
        operating_point_name: the operating point that decides.
        modes: {name: Mode}.
        other_outputs: {output: OtherOutput} of the outputs that do not decide.
        gradable_from: images with a lower gradability fail the gate.
        distance_limit: cases with a larger feature distance fail the gate; None for no limit.
        warning_limit: gradable cases with a larger feature distance are decided with a warning; None for no warnings.
        no_guarantee: the reason why no operating point is guaranteed; empty if they may be.
    """

    heads: Mapping[str, Head]
    decides: str
    prior: tuple[float, ...]
    prior_name: str
    operating_point_name: str
    modes: Mapping[str, Mode]
    other_outputs: Mapping[str, OtherOutput] = dataclasses.field(default_factory=dict)
    gradable_from: float = GRADABLE
    distance_limit: float | None = None
    warning_limit: float | None = None
    no_guarantee: str = ""

    def __post_init__(self) -> None:
        for mode in self.modes.values():
            for operating_points in mode.operating_points.values():
                if self.operating_point_name not in operating_points:
                    raise UserError(
                        f"unknown operating point {self.operating_point_name!r}; known: {', '.join(operating_points)}"
                    )

    @property
    def head(self) -> Head:
        """The head that decides."""
        return self.heads[self.decides]

    @property
    def prevalence(self) -> float:
        """The prevalence of positives for which the probabilities are calibrated."""
        return float(self.head.p_positive(np.asarray([self.prior]))[0])

    def mode(self, name: str) -> Mode:
        """Return the Mode of a name.

        Raises:
            UserError: the mode was not fitted.
        """
        if name not in self.modes:
            raise UserError(f"the mode {name!r} was not fitted; known: {', '.join(self.modes)}")
        return self.modes[name]

    def requested_modes(self, *names: str) -> RequestedModes:
        """Return the modes that have to be scored to decide by these modes; by "plain" if none is named."""
        names = names or (PLAIN,)
        for name in names:
            self.mode(name)
        names = with_parts(names, {key: mode.definition for key, mode in self.modes.items()})
        modes = {key: (self.mode(key).definition, self.mode(key).calibration.link) for key in names}
        return RequestedModes(self.heads, self.decides, modes)

    def thresholds(self, name: str = PLAIN, operating_point_name: str | None = None) -> np.ndarray:
        """Return the thresholds of all definitions of positive [definitions], by default at the rule's own point."""
        by_definition = self.mode(name).operating_points
        point = operating_point_name or self.operating_point_name
        return np.array([by_definition[definition][point].threshold for definition in self.head.definitions])

    def operating_point(self, name: str = PLAIN) -> OperatingPoint:
        """Return the OperatingPoint that decides about referral by a mode."""
        return self.mode(name).operating_points[self.head.positive][self.operating_point_name]

    def probabilities(
        self, scores: Mapping[str, ArrayLike], mode: str = PLAIN, prior: Sequence[float] | None = None
    ) -> np.ndarray:
        """Compute calibrated class probabilities by a mode.

        Args:
            scores: {mode: scores [n, ...]}.
            mode: the mode to predict by.
            prior: the class prior to calibrate for; by default the rule's.

        Returns:
            float64 [n, classes].
        """
        fitted, classes = self.mode(mode), len(self.head.classes)
        own_scores: ArrayLike
        if fitted.definition.mean:
            parts = [self.probabilities(scores, part, fitted.averaging_prior) for part in fitted.definition.mean]
            mean = np.mean(parts, axis=0)
            own_scores = probabilities_to_scores(fitted.calibration.link, mean, minimum=MIN_PROBABILITY)
        else:
            own_scores = scores[mode]
        calibrated = fitted.calibration.probabilities(own_scores, classes)
        return priors.shift_prior(
            calibrated, fitted.fitted_prior, self.prior if prior is None else prior, exclusive=self.head.exclusive
        )

    def other_probabilities(self, output: str, logits: ArrayLike) -> np.ndarray:
        """Compute calibrated class probabilities [n, classes] of an output that does not decide."""
        fitted, head = self.other_outputs[output], self.heads[output]
        calibrated = fitted.calibration.probabilities(logits, len(head.classes))
        return priors.shift_prior(calibrated, fitted.fitted_prior, fitted.prior, exclusive=head.exclusive)

    def grades(
        self, probabilities: np.ndarray, other_probabilities: Mapping[str, np.ndarray], mode: str = PLAIN
    ) -> np.ndarray | None:
        """Compute grades from class probabilities.

        Args:
            probabilities: of the output that decides [n, classes].
            other_probabilities: {output: class probabilities}. If the output that decides has no grades, the first of
                these with grades gives them.
            mode: whose grade thresholds to use.

        Returns:
            Grades [n]; None if no output has any.
        """
        thresholds = self.mode(mode).grade_thresholds
        if thresholds is not None:
            return apply_grade_thresholds(thresholds, probabilities)
        candidates = [self.head.grade(probabilities)]
        candidates += [self.heads[output].grade(p) for output, p in other_probabilities.items()]
        return next((grades for grades in candidates if grades is not None), None)

    def grade_ranges(self, probabilities: np.ndarray, mode: str = PLAIN) -> list[tuple[int, int] | None]:
        """Return the conformal range (lowest, highest) of the grade of each case; None if the output has no grades."""
        conformal = self.mode(mode).conformal
        if conformal is None or self.head.grade(probabilities) is None:
            return [None] * len(probabilities)
        return [(int(low), int(high)) for low, high in conformal.intervals(probabilities)]

    def decide(
        self,
        scores: Mapping[str, ArrayLike] | ArrayLike,
        *,
        cases: Sequence[Any],
        outputs: Mapping[str, ArrayLike] | None = None,
        mode: str = PLAIN,
        images: Sequence[Mapping[str, ImageInfo]] | None = None,
        distances: ArrayLike | None = None,
        eye_probabilities: Mapping[str, np.ndarray] | None = None,
    ) -> list[Decision]:
        """Decide on n cases.

        Args:
            scores: {mode: scores [n, ...]}, or the scores of `mode` alone.
            cases: the names of the cases [n].
            outputs: {output: logits} of the outputs that do not decide. Those left out are missing from the decisions.
            mode: the mode to predict by.
            images: {eye: ImageInfo} of each case, for the gate; without them gradability is not checked.
            distances: out-of-distribution distance of each case, for the gate; without them it is not checked.
            eye_probabilities: class probabilities for each eye alone, as `ModeScores` has them; they are calibrated as the
                mode "worse_eye" is.

        Returns:
            A Decision for each case.
        """
        by_mode = scores if isinstance(scores, Mapping) else {mode: np.asarray(scores)}
        probabilities = self.probabilities(by_mode, mode)
        other_probabilities = {
            name: self.other_probabilities(name, logits)
            for name, logits in (outputs or {}).items()
            if name in self.other_outputs
        }
        n, grades = len(cases), self.grades(probabilities, other_probabilities, mode)
        rows: Iterator[Any] = zip(
            cases,
            probabilities,
            self.grade_ranges(probabilities, mode),
            self.head.definition_probabilities(probabilities),
            [None] * n if grades is None else grades,
            normalized_entropy(probabilities, exclusive=self.head.exclusive),
            [{}] * n if images is None else images,
            [None] * n if distances is None else np.asarray(distances),
            strict=True,
        )
        thresholds = self.thresholds(mode)
        decisions = [
            self._decision(thresholds, {name: p[i] for name, p in other_probabilities.items()}, *row)
            for i, row in enumerate(rows)
        ]
        return self._with_eyes(decisions, eye_probabilities) if eye_probabilities else decisions

    def _decision(
        self,
        thresholds,
        other_probabilities,
        case,
        probabilities,
        grade_range,
        by_definition,
        grade,
        entropy,
        images,
        distance,
    ):
        images = {eye: self._with_reason(image) for eye, image in images.items()}
        finite = all(np.isfinite(values).all() for values in (by_definition, *other_probabilities.values()))
        reason = self._not_gradable_because(finite, images, distance)
        label_decisions = {
            definition: LabelDecision(float(p), float(threshold), bool(p >= threshold))
            for definition, p, threshold in zip(self.head.definitions, by_definition, thresholds, strict=True)
        }
        action = "refer" if finite and label_decisions[self.head.positive].yes else "clear"
        return Decision(
            case=str(case),
            positive=self.head.positive,
            action="retake" if reason else action,
            gradable=not reason,
            reason=reason,
            grade=None if reason or grade is None else int(grade),
            grade_range=None if reason else grade_range,
            label_decisions=label_decisions if finite else {},
            probabilities=_named(self.head, probabilities) if finite else {},
            other_outputs={}
            if reason
            else {name: _named(self.heads[name], p) for name, p in other_probabilities.items()},
            uncertainty=float(entropy) if finite else None,
            distance=None if distance is None or not np.isfinite(distance) else float(distance),
            images=images,
            warning=UNFAMILIAR if not reason and _is_beyond(self.warning_limit, distance) else "",
        )

    def _with_eyes(self, decisions, eye_probabilities):
        """The decisions with the calibrated probabilities of each eye that is present, of gradable cases."""
        if WORSE_EYE not in self.modes:
            return decisions
        link, calibrated = self.mode(WORSE_EYE).calibration.link, {}
        for eye, values in eye_probabilities.items():
            scores = probabilities_to_scores(link, values, minimum=MIN_PROBABILITY)
            calibrated[eye] = self.probabilities({WORSE_EYE: scores}, WORSE_EYE)
        return [
            dataclasses.replace(
                decision,
                eyes={eye: _named(self.head, p[i]) for eye, p in calibrated.items() if np.isfinite(p[i]).all()},
            )
            if decision.gradable
            else decision
            for i, decision in enumerate(decisions)
        ]

    def _with_reason(self, image):
        """The image with a reason only if its gradability is too low for this rule."""
        if image.gradability is None:
            return image
        too_low = image.gradability < self.gradable_from
        reason = image.reason or f"gradability {image.gradability:.2f} is below {self.gradable_from:.2f}"
        return dataclasses.replace(image, reason=reason if too_low else "")

    def _not_gradable_because(self, finite, images, distance):
        reasons = [
            f"{eye} eye: {image.reason}" if eye else image.reason for eye, image in images.items() if image.reason
        ]
        if reasons:
            return "; ".join(reasons)
        if not finite:
            return NOT_FINITE
        return OUT_OF_DISTRIBUTION if _is_beyond(self.distance_limit, distance) else ""

    def at_prevalence(self, prevalence: float) -> Rule:
        """Return the rule for a population with another prevalence of `head.positive`.

        The shares of all positive classes are scaled by one factor, those of all negative ones by another. p_positive
        then changes by a monotonic function, and the thresholds are moved by the same function. So the same cases are
        referred, except for rounding, and operating points keep their guarantees. Grades may change.

        Args:
            prevalence: the share of positive cases, between 0 and 1.

        Raises:
            UserError: the prevalence is not between 0 and 1.
        """
        head = self.head
        positive = priors.positive_classes(head)
        new_prior = priors.prior_at_prevalence(self.prior, prevalence, positive, exclusive=head.exclusive)
        before, after = (
            dict(zip(head.definitions, head.definition_probabilities(np.asarray([prior]))[0], strict=True))
            for prior in (self.prior, new_prior)
        )

        def move_thresholds(mode):
            operating_points = {
                definition: {
                    name: dataclasses.replace(
                        point, threshold=_shift_threshold(point.threshold, before[definition], after[definition])
                    )
                    for name, point in points.items()
                }
                for definition, points in mode.operating_points.items()
            }
            return dataclasses.replace(mode, operating_points=operating_points)

        modes = {name: move_thresholds(mode) for name, mode in self.modes.items()}
        return dataclasses.replace(self, prior=tuple(new_prior.tolist()), prior_name=f"{prevalence:g}", modes=modes)


def _is_beyond(limit, distance):
    # Not "distance > limit", which is False for NaN.
    return limit is not None and distance is not None and not distance <= limit


def _named(head, probabilities):
    return dict(zip(head.classes, probabilities.tolist(), strict=True))


def _shift_threshold(threshold, before, after):
    if threshold > 1 or before == after:  # a threshold above 1 is out of reach at any prevalence
        return threshold
    return float(priors.shift_prior([threshold], [before], [after], exclusive=False)[0])
