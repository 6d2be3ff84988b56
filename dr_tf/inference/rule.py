"""The rule from a network's answers to decisions: all that is fitted after training, kept in `decision.json`."""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.gradability import GRADABLE
from dr_tf.inference import priors
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.decision import Decision, LabelDecision, uncertainty
from dr_tf.inference.grade_thresholds import grades_from
from dr_tf.inference.modes import MODES, PLAIN, ModeDefinition, RequestedModes, needed
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.models.links import LEAST_MEAN, encoded

UNLIKE = "unlike the photographs that the network learned from"


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way to class probabilities with its own fit; all are read under the same prior."""

    calibration: Calibration
    fitted_prior: tuple[float, ...]  # that its calibrated probabilities speak under
    points: dict[str, dict[str, OperatingPoint]]  # {definition: {operating point: its threshold}}
    way: ModeDefinition = MODES[PLAIN]
    cuts: tuple[float, ...] | None = None  # of the expected grade; the head's own reading where None
    under: tuple[float, ...] | None = None  # of a mean: the prior under which its parts are averaged
    report: dict = dataclasses.field(default_factory=dict)  # what the fit was measured to do


@dataclasses.dataclass(frozen=True)
class OtherOutput:
    """An output that is told beside the one that decides: its calibration, and the prior that it is read under."""

    calibration: Calibration
    fitted_prior: tuple[float, ...]
    prior: tuple[float, ...]
    report: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Rule:
    """`heads`: {output: head}; `decides` names the one that decides. `no_guarantee`: why nothing is guaranteed."""

    heads: dict[str, object]
    decides: str
    prior: tuple[float, ...]
    prior_name: str
    point: str  # the operating point that decides
    modes: dict[str, Mode]
    others: dict[str, OtherOutput] = dataclasses.field(default_factory=dict)
    gradable_from: float = GRADABLE
    distance_limit: float | None = None
    no_guarantee: str = ""

    def __post_init__(self):
        for mode in self.modes.values():
            for points in mode.points.values():
                if self.point not in points:
                    raise UserError(f"unknown operating point {self.point!r}; known: {', '.join(points)}")

    @property
    def head(self):
        return self.heads[self.decides]

    def mode(self, name):
        if name not in self.modes:
            raise UserError(f"nothing was fitted for the mode {name!r}; known: {', '.join(self.modes)}")
        return self.modes[name]

    def requested(self, name=PLAIN):
        """What has to be requested of the network to decide by this mode."""
        self.mode(name)
        names = needed((name,), {key: mode.way for key, mode in self.modes.items()})
        modes = {key: (self.mode(key).way, self.mode(key).calibration.link) for key in names}
        return RequestedModes(self.heads, self.decides, modes)

    def thresholds(self, name=PLAIN, point=None):
        """The threshold of each definition that is decided, [definitions]."""
        points = self.mode(name).points
        return np.array([points[definition][point or self.point].threshold for definition in self.head.decided])

    def operating_point(self, name=PLAIN):
        """The OperatingPoint that says whether to refer."""
        return self.mode(name).points[self.head.positive][self.point]

    def probabilities(self, scores, mode=PLAIN, prior=None):
        """Calibrated class probabilities float64 [n, classes], under the rule's prior or another; `scores`: {mode: scores}."""
        fit, classes = self.mode(mode), len(self.head.classes)
        if fit.way.mean:
            parts = [self.probabilities(scores, part, fit.under) for part in fit.way.mean]
            own = encoded(fit.calibration.link, np.mean(parts, axis=0), least=LEAST_MEAN)
        else:
            own = scores[mode]
        calibrated = fit.calibration.probabilities(own, classes)
        return priors.shift(
            calibrated, fit.fitted_prior, self.prior if prior is None else prior, exclusive=self.head.exclusive
        )

    def other_probabilities(self, output, logits):
        """Calibrated class probabilities of an output that does not decide."""
        other, head = self.others[output], self.heads[output]
        calibrated = other.calibration.probabilities(logits, len(head.classes))
        return priors.shift(calibrated, other.fitted_prior, other.prior, exclusive=head.exclusive)

    def grades(self, probabilities, others, mode=PLAIN):
        """[n], or None where no head gives grades; those of another output where the one that decides has none."""
        cuts = self.mode(mode).cuts
        if cuts is not None:
            return grades_from(cuts, probabilities)
        found = [self.head.grade(probabilities)]
        found += [self.heads[output].grade(of) for output, of in others.items()]
        return next((grades for grades in found if grades is not None), None)

    def decide(self, scores, *, cases, outputs=None, mode=PLAIN, images=None, distances=None):
        """A Decision for each case.

        Args:
            scores: {mode: scores [n, ...]}, or those of the one mode that is requested.
            cases: the name of each.
            outputs: {output: logits} of the outputs that are told besides; what lacks is not told.
            images: of each case {eye: ImageInfo}; distances: how far its features lie from those of training.
        """
        scores = scores if isinstance(scores, dict) else {mode: np.asarray(scores)}
        probabilities = self.probabilities(scores, mode)
        told = {name: logits for name, logits in (outputs or {}).items() if name in self.others}
        others = {name: self.other_probabilities(name, logits) for name, logits in told.items()}
        n, grades = len(cases), self.grades(probabilities, others, mode)
        each = zip(
            cases,
            probabilities,
            self.head.scores(probabilities),
            [None] * n if grades is None else grades,
            uncertainty(probabilities, exclusive=self.head.exclusive),
            [{}] * n if images is None else images,
            [None] * n if distances is None else distances,
            strict=True,
        )
        thresholds = self.thresholds(mode)
        return [
            self._decision(thresholds, *one, {name: of[i] for name, of in others.items()}) for i, one in enumerate(each)
        ]

    def _decision(self, thresholds, case, probabilities, values, grade, unsure, images, distance, others):
        images = {eye: self._judged(image) for eye, image in images.items()}
        known = all(np.isfinite(numbers).all() for numbers in (values, *others.values()))
        reason = self._why_not(known, images, distance)
        answers = {
            definition: LabelDecision(float(p), float(threshold), bool(p >= threshold))
            for definition, p, threshold in zip(self.head.decided, values, thresholds, strict=True)
        }
        referred = "refer" if known and answers[self.head.positive].yes else "clear"
        return Decision(
            case=str(case),
            positive=self.head.positive,
            action="retake" if reason else referred,
            gradable=not reason,
            reason=reason,
            grade=None if reason or grade is None else int(grade),
            label_decisions=answers if known else {},
            probabilities=dict(zip(self.head.classes, probabilities.tolist(), strict=True)) if known else {},
            others={}
            if reason
            else {name: dict(zip(self.heads[name].classes, p.tolist(), strict=True)) for name, p in others.items()},
            uncertainty=float(unsure) if known else None,
            distance=None if distance is None or not np.isfinite(distance) else float(distance),
            images=images,
        )

    def _judged(self, image):
        """With the reason only where it is too bad for this rule."""
        if image.gradability is None:
            return image
        bad = image.gradability < self.gradable_from
        said = image.reason or f"gradability {image.gradability:.2f} is below {self.gradable_from:.2f}"
        return dataclasses.replace(image, reason=said if bad else "")

    def _why_not(self, known, images, distance):
        bad = [f"{eye} eye: {image.reason}" if eye else image.reason for eye, image in images.items() if image.reason]
        if bad:
            return "; ".join(bad)
        if not known:
            return "the network gave no number"
        # Not "distance > limit": what is no number is not near.
        if self.distance_limit is not None and distance is not None and not distance <= self.distance_limit:
            return UNLIKE
        return ""

    def at_prevalence(self, prevalence):
        """The rule for a clinic where `head.positive` is as common as that.

        Positive and negative classes are each scaled as one, so that p_positive moves by one rising function, its
        thresholds with it, and who is referred stays the same but for rounding: operating points keep their guarantees.
        Grades move.
        """
        head = self.head
        positive = priors.positive_classes(head)
        moved = priors.at_prevalence(self.prior, prevalence, positive, exclusive=head.exclusive)
        before, after = (
            dict(zip(head.decided, head.scores(np.asarray([p]))[0], strict=True)) for p in (self.prior, moved)
        )

        def follow(mode):
            points = {
                definition: {
                    name: dataclasses.replace(
                        point, threshold=_moved(point.threshold, before[definition], after[definition])
                    )
                    for name, point in points.items()
                }
                for definition, points in mode.points.items()
            }
            return dataclasses.replace(mode, points=points)

        modes = {name: follow(mode) for name, mode in self.modes.items()}
        return dataclasses.replace(self, prior=tuple(moved.tolist()), prior_name=f"{prevalence:g}", modes=modes)


def _moved(threshold, before, after):
    if threshold > 1 or before == after:  # nobody is positive, whatever the prevalence
        return threshold
    return float(priors.shift([threshold], [before], [after], exclusive=False)[0])
