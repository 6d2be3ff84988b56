"""The rule from a network's logits to decisions: all that is fitted after training, kept in `decision.json`."""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.gradability import GRADABLE
from dr_tf.inference import priors
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.decision import Decision, uncertainty
from dr_tf.inference.grade_cuts import grades_from
from dr_tf.inference.operating_points import OperatingPoint

PLAIN = "plain"  # the mode with one view, one network and no neighbours


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way to logits (plain, tta4, an ensemble, knn) with its own fit; all are read under the same prior."""

    calibration: Calibration
    fitted_prior: tuple[float, ...]  # that its calibrated probabilities speak under
    points: dict[str, OperatingPoint]
    cuts: tuple[float, ...] | None = None  # of the expected grade; the head's own reading where None
    report: dict = dataclasses.field(default_factory=dict)  # what the fit was measured to do


@dataclasses.dataclass(frozen=True)
class Rule:
    head: object
    prior: tuple[float, ...]
    prior_name: str
    point: str  # the operating point that decides
    modes: dict[str, Mode]
    gradable_from: float = GRADABLE
    distance_limit: float | None = None

    def __post_init__(self):
        for mode in self.modes.values():
            if self.point not in mode.points:
                raise UserError(f"unknown operating point {self.point!r}; known: {', '.join(mode.points)}")

    def mode(self, name):
        if name not in self.modes:
            raise UserError(f"nothing was fitted for the mode {name!r}; known: {', '.join(self.modes)}")
        return self.modes[name]

    def probabilities(self, logits, mode=PLAIN):
        """Calibrated, under the rule's prior: float64 [n, classes]."""
        mode, exclusive = self.mode(mode), self.head.exclusive
        calibrated = self.head.probabilities(mode.calibration.apply(logits))
        return priors.shift(calibrated, mode.fitted_prior, self.prior, exclusive=exclusive)

    def grades(self, probabilities, mode=PLAIN):
        """[n], or None where the head gives none."""
        cuts = self.mode(mode).cuts
        return self.head.grade(probabilities) if cuts is None else grades_from(cuts, probabilities)

    def decide(self, logits, *, photographs, mode=PLAIN, qualities=None, distances=None, geometries=None):
        """A Decision for each photograph; `qualities` are Gradability objects, the rest one entry a photograph, or None."""
        absent = [None] * len(photographs)
        probabilities = self.probabilities(logits, mode)
        grades = self.grades(probabilities, mode)
        each = zip(
            photographs,
            probabilities,
            np.asarray(self.head.p_positive(probabilities)),
            absent if grades is None else grades,
            uncertainty(probabilities, exclusive=self.head.exclusive),
            absent if qualities is None else qualities,
            absent if distances is None else distances,
            absent if geometries is None else geometries,
            strict=True,
        )
        threshold = self.mode(mode).points[self.point].threshold
        return [self._decision(threshold, *one) for one in each]

    def _decision(self, threshold, photograph, probabilities, p_positive, grade, unsure, quality, distance, geometry):
        reason = self._why_not(p_positive, quality, distance)
        known = bool(np.isfinite(p_positive))
        referred = "refer" if p_positive >= threshold else "clear"
        return Decision(
            photograph=str(photograph),
            positive=self.head.positive,
            action="retake" if reason else referred,
            gradable=not reason,
            reason=reason,
            grade=None if reason or grade is None else int(grade),
            p_positive=float(p_positive) if known else None,
            threshold=threshold,
            probabilities=dict(zip(self.head.classes, probabilities.tolist(), strict=True)) if known else {},
            uncertainty=float(unsure) if known else None,
            distance=None if distance is None or not np.isfinite(distance) else float(distance),
            geometry=geometry,
        )

    def _why_not(self, p_positive, quality, distance):
        if quality is not None and quality.score < self.gradable_from:
            return quality.reason or f"gradability {quality.score:.2f} is below {self.gradable_from:.2f}"
        if not np.isfinite(p_positive):
            return "the network gave no number"
        # Not "distance > limit": what is no number is not near.
        if self.distance_limit is not None and distance is not None and not distance <= self.distance_limit:
            return "unlike the photographs that the network learned from"
        return ""

    def at_prevalence(self, prevalence):
        """The rule for a clinic where `head.positive` is as common as that.

        Positive and negative classes are each scaled as one, so that p_positive moves by one rising function, its
        thresholds with it, and who is referred stays the same but for rounding: operating points keep their guarantees.
        Grades move.
        """
        positive, exclusive = priors.positive_classes(self.head), self.head.exclusive
        moved = priors.at_prevalence(self.prior, prevalence, positive, exclusive=exclusive)
        before, after = (float(np.asarray(prior)[positive].sum()) for prior in (self.prior, moved))

        def follow(point):
            return dataclasses.replace(point, threshold=_moved(point.threshold, before, after))

        modes = {
            name: dataclasses.replace(mode, points={key: follow(point) for key, point in mode.points.items()})
            for name, mode in self.modes.items()
        }
        return dataclasses.replace(self, prior=tuple(moved.tolist()), prior_name=f"{prevalence:g}", modes=modes)


def _moved(threshold, before, after):
    if threshold > 1:  # nobody is positive, whatever the prevalence
        return threshold
    return float(priors.shift([threshold], [before], [after], exclusive=False)[0])
