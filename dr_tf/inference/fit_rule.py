"""Fit the decision rule on the calibration split, after training. Prediction does not need this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.console import UserError
from dr_tf.inference import priors
from dr_tf.inference.calibration import Calibration, fit_calibration
from dr_tf.inference.calibration_error import expected_calibration_error
from dr_tf.inference.conformal import Conformal, fit_conformal
from dr_tf.inference.cross_fitting import cross_fit, patient_folds
from dr_tf.inference.gate import distance_limit
from dr_tf.inference.grade_thresholds import apply_grade_thresholds, fit_grade_thresholds, quadratic_kappa
from dr_tf.inference.modes import PLAIN, ModeDefinition, mode_definition, mode_link, with_parts
from dr_tf.inference.operating_points import (
    CRITERIA,
    WITHOUT_TARGET,
    fit_operating_point,
    operating_point_name,
    patient_scores,
)
from dr_tf.inference.rule import Mode, OtherOutput, Rule
from dr_tf.models.heads.head import definition_labels
from dr_tf.models.links import MIN_PROBABILITY, probabilities_to_scores

if TYPE_CHECKING:
    from dr_tf.models.heads.head import Head

OPERATING_POINTS = (("sensitivity", 0.9), ("sensitivity", 0.95), ("specificity", 0.9), ("youden", None), ("f1", None))
UNKNOWN_PATIENTS = "the patients of the calibration photographs are unknown"
OTHER_NETWORKS = "thresholds were set on out-of-fold predictions, by other networks than the one that decides"


class CalibrationLabels:
    """The labels and patients of the calibration split.

    Args:
        true_classes: the class of each example [n], or 0/1 of each label [n, labels]; -1 where unknown.
        definition_labels: whether each definition of positive that the head decides holds, 1 or 0 [n, definitions] or
            [n]; -1 where unknown.
        patients: the patient of each example [n].
        other_classes: {output: true classes} of the outputs that do not decide.

    Attributes:
        known: bool [n]: the examples with a known class, or with a known label.
        folds: of the known examples, for cross-fitting by patient.
    """

    def __init__(
        self,
        true_classes: ArrayLike,
        definition_labels: ArrayLike,
        patients: ArrayLike,
        other_classes: Mapping[str, np.ndarray] | None = None,
    ):
        self.true_classes, self.patients = np.asarray(true_classes), np.asarray(patients)
        self.other_classes = other_classes or {}
        by_definition = np.asarray(definition_labels)
        self.definition_labels = by_definition if by_definition.ndim == 2 else by_definition[:, None]
        self.known = _is_known(self.true_classes)
        single_label = self.true_classes.ndim == 1
        severity = self.true_classes if single_label else self.definition_labels.max(axis=1, initial=-1)
        self.folds = patient_folds(self.patients[self.known], severity[self.known])

    @classmethod
    def from_records(
        cls, heads: Mapping[str, Head], decides: str, columns: Mapping[str, np.ndarray], rows: np.ndarray
    ) -> CalibrationLabels:
        """Read the labels of rows of a record set.

        Args:
            heads: {output: head}.
            decides: the output that decides.
            columns: of the record set.
            rows: the rows of the calibration split.
        """
        head = heads[decides]
        return cls(
            head.true_classes(columns)[rows],
            definition_labels(head, columns)[rows],
            np.asarray(columns["patient_id"])[rows],
            {output: other.true_classes(columns)[rows] for output, other in heads.items() if output != decides},
        )


def _is_known(true_classes):
    return true_classes >= 0 if true_classes.ndim == 1 else (true_classes >= 0).any(axis=1)


def fit_rule(
    heads: Mapping[str, Head],
    decides: str,
    scores: Mapping[str, np.ndarray],
    labels: CalibrationLabels,
    *,
    modes: Sequence[str] | None = None,
    train_prior: ArrayLike,
    batch_prior: ArrayLike | None = None,
    prior: priors.PriorConfig = "train",
    operating_points: Sequence[tuple[str, float | None]] = OPERATING_POINTS,
    operating_point: str = "sensitivity_0.9",
    distances: ArrayLike | None = None,
    foreign_limit: float | None = None,
    outputs: Mapping[str, np.ndarray] | None = None,
    other_priors: Mapping[str, ArrayLike] | None = None,
    ensemble: bool = False,
    no_guarantee: str = "",
) -> Rule:
    """Fit the decision rule on the calibration split.

    Args:
        heads: {output: head}.
        decides: the output that decides.
        scores: {mode: scores [n, ...]} of the calibration split; "plain" is required.
        labels: of the calibration split.
        modes: the modes to fit, by default those of `scores`. A mean of modes has no scores of its own.
        train_prior: class prior of the training split.
        batch_prior: class prior of the training batches, by default `train_prior`. Uncalibrated scores are assumed to
            hold for it if no calibration label is known.
        prior: the prior to predict for, as in `priors.target_prior`.
        operating_points: (criterion, target) of each operating point to fit.
        operating_point: the name of the one that decides.
        distances: feature distances of the calibration images, which set the limit of the gate; None for no limit.
        foreign_limit: limit of the distances of sources that a distribution was not fitted on. It becomes the limit of the
            gate, and beyond that of the calibration images a case gets a warning. None for no warnings.
        outputs: {output: logits} of the outputs that do not decide.
        other_priors: {output: class prior of the training split} of these outputs.
        ensemble: whether the network is an ensemble.
        no_guarantee: the reason why no operating point can be guaranteed; empty if the calibration images come from
            known patients, exchangeable with future ones, and were scored by the network that decides.

    Raises:
        UserError: a mode, operating point or prior is unknown.
    """
    head = heads[decides]
    if PLAIN not in scores:
        raise ValueError(f"scores of the mode {PLAIN!r} are required")
    check_operating_points(operating_points, operating_point)
    fitted_prior = np.asarray(train_prior if batch_prior is None else batch_prior)
    if labels.known.any():
        fitted_prior = priors.class_prior(labels.true_classes[labels.known], len(head.classes))
    target = priors.target_prior(prior, fitted=fitted_prior, train=train_prior, head=head)
    fitter = _ModeFitter(head, labels, fitted_prior, target, operating_points, no_guarantee)
    fitted: dict[str, Mode] = {}
    for name, definition in _means_last(scores if modes is None else modes, heads, decides):
        link = mode_link(definition, heads, decides, ensemble=ensemble)
        if definition.mean:
            fitted[name] = fitter.fit_mean(link, definition, fitted, scores)
        else:
            fitted[name] = fitter.fit(link, definition, scores[name])
    limit = None if distances is None else distance_limit(distances)
    return Rule(
        heads=heads,
        decides=decides,
        prior=_as_tuple(target),
        prior_name="table" if isinstance(prior, Mapping) else str(prior),
        operating_point_name=operating_point,
        modes=fitted,
        other_outputs={
            name: _fit_other(heads[name], np.asarray(logits), labels.other_classes[name], (other_priors or {})[name])
            for name, logits in (outputs or {}).items()
        },
        distance_limit=limit if limit is None or foreign_limit is None else max(limit, foreign_limit),
        warning_limit=None if foreign_limit is None else limit,
        no_guarantee=no_guarantee,
    )


def reason_for_no_guarantee(columns: Mapping[str, np.ndarray], rows: np.ndarray, other_networks: bool) -> str:
    """Return why thresholds set on rows of a record set cannot be guaranteed; empty if they can.

    Args:
        columns: of the record set.
        rows: the rows of the calibration split.
        other_networks: whether these rows were scored by other networks than the one that decides.
    """
    known = np.asarray(columns.get("patient_known", np.ones(len(columns["patient_id"]), bool)))[rows]
    reasons = ([] if known.all() else [UNKNOWN_PATIENTS]) + ([OTHER_NETWORKS] if other_networks else [])
    return "; ".join(reasons)


def check_operating_points(operating_points: Sequence[tuple[str, float | None]], operating_point: str) -> None:
    """Raise a UserError before training if the operating points cannot be fitted.

    Args:
        operating_points: (criterion, target) of each.
        operating_point: the name of the one that decides.
    """
    names = [operating_point_name(*point) for point in operating_points]
    if operating_point not in names:
        raise UserError(f"unknown operating point {operating_point!r}; known: {', '.join(names)}")
    for criterion, target in operating_points:
        if criterion not in CRITERIA:
            raise UserError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
        if criterion not in WITHOUT_TARGET and not (target and 0 < target < 1):
            raise UserError(f"a target {criterion} must be between 0 and 1, not {target}")


def _means_last(names, heads, decides):
    """(name, definition) of each mode. The parts of a mean come before it, even if they are not in `names`."""
    definitions = {name: mode_definition(name, heads, decides) for name in names}
    parts = with_parts(names, definitions)
    return [(name, mode_definition(name, heads, decides)) for name in dict.fromkeys((*parts, *names))]


def _as_tuple(values):
    return tuple(np.asarray(values).tolist())


class _ModeFitter:
    """Fits modes one by one, all on the same labels and for the same prior."""

    def __init__(self, head, labels, fitted_prior, target_prior, operating_points, no_guarantee):
        self.head, self.labels = head, labels
        self.fitted_prior, self.target_prior = fitted_prior, target_prior
        self.operating_points, self.no_guarantee = operating_points, no_guarantee
        self.classes = len(head.classes)

    def fit_mean(
        self, link: str, definition: ModeDefinition, fitted: Mapping[str, Mode], scores: Mapping[str, np.ndarray]
    ) -> Mode:
        """Fit the mean of other modes' calibrated probabilities at the target prior."""
        averaging_prior = _as_tuple(self.target_prior)
        modes = {name: fitted[name] for name in definition.mean}
        parts = Rule({"": self.head}, "", averaging_prior, "", operating_point_name(*self.operating_points[0]), modes)
        mean = np.mean([parts.probabilities(scores, name) for name in definition.mean], axis=0)
        own_scores = probabilities_to_scores(link, mean, minimum=MIN_PROBABILITY)
        return self.fit(link, definition, own_scores, averaging_prior=averaging_prior)

    def fit(
        self,
        link: str,
        definition: ModeDefinition,
        scores: np.ndarray,
        averaging_prior: tuple[float, ...] | None = None,
    ) -> Mode:
        """Fit the calibration, then operating points and grade thresholds on calibrated probabilities."""
        labels, scores = self.labels, np.asarray(scores, np.float64)
        calibration = Calibration(link)
        fitted_prior = self.fitted_prior if averaging_prior is None else averaging_prior
        if labels.known.any():
            calibration = fit_calibration(link, scores[labels.known], labels.true_classes[labels.known], self.classes)
            fitted_prior = self.fitted_prior
        probabilities = self._at_target_prior(calibration.probabilities(scores, self.classes), fitted_prior)
        operating_points, report = self._fit_operating_points(probabilities)
        grade_thresholds = None
        if report["patients"] > 1:
            before = Calibration(link).probabilities(scores, self.classes)
            held_out = self._cross_fitted_probabilities(link, scores)
            report["ece"] = {"before": self._calibration_errors(before), "after": self._calibration_errors(held_out)}
            grade_thresholds, report["kappa"] = self._fit_grade_thresholds(
                probabilities, self._at_target_prior(held_out, fitted_prior)
            )
        return Mode(
            calibration=calibration,
            fitted_prior=_as_tuple(fitted_prior),
            operating_points=operating_points,
            definition=definition,
            grade_thresholds=grade_thresholds,
            averaging_prior=averaging_prior,
            conformal=self._fit_conformal(probabilities),
            report=report,
        )

    def _at_target_prior(self, probabilities, fitted_prior):
        return priors.shift_prior(probabilities, fitted_prior, self.target_prior, exclusive=self.head.exclusive)

    def _fit_operating_points(self, probabilities):
        """({definition: {name: OperatingPoint}}, the sample sizes)."""
        head, labels = self.head, self.labels
        operating_points, counts = {}, {}
        for i, definition in enumerate(head.definitions):
            scores, positive = patient_scores(
                head.definition_probabilities(probabilities)[:, i], labels.definition_labels[:, i], labels.patients
            )
            operating_points[definition] = {
                operating_point_name(*point): fit_operating_point(
                    *point, scores, positive, no_guarantee=self.no_guarantee
                )
                for point in self.operating_points
            }
            if definition == head.positive:
                counts = {"positive_patients": positive == 1, "negative_patients": positive == 0}
        report: dict[str, Any] = {
            "images": int(labels.known.sum()),
            "patients": len(np.unique(labels.patients[labels.known])),
            **{name: int(rows.sum()) for name, rows in counts.items()},
        }
        return operating_points, report

    def _fit_conformal(self, probabilities: np.ndarray) -> Conformal | None:
        """Of ordered classes, the predictor of ranges of classes."""
        labels, known = self.labels, self.labels.known
        if self.classes < 3 or not self.head.exclusive or not known.any():
            return None
        return fit_conformal(
            probabilities[known], labels.true_classes[known], labels.patients[known], no_guarantee=self.no_guarantee
        )

    def _cross_fitted_probabilities(self, link, scores):
        """Probabilities by a calibration fitted on other patients; uncalibrated ones for examples of unknown class."""
        labels = self.labels
        probabilities = Calibration(link).probabilities(scores, self.classes)
        probabilities[labels.known] = cross_fit(
            lambda rows, true_classes: fit_calibration(link, rows, true_classes, self.classes),
            lambda calibration, rows, _: calibration.probabilities(rows, self.classes),
            labels.folds,
            scores[labels.known],
            labels.true_classes[labels.known],
        )
        return probabilities

    def _calibration_errors(self, probabilities):
        """Expected calibration errors of p_positive and of the most probable class."""
        head, labels = self.head, self.labels
        positive = labels.definition_labels[:, head.definitions.index(head.positive)]
        known, p_positive = positive >= 0, np.asarray(head.p_positive(probabilities))
        errors = {"p_positive": expected_calibration_error(p_positive[known], positive[known])}
        if head.exclusive:
            correct = probabilities.argmax(axis=1) == labels.true_classes
            confidence = probabilities.max(axis=1)
            errors["class"] = expected_calibration_error(confidence[labels.known], correct[labels.known])
        return errors

    def _fit_grade_thresholds(self, probabilities, held_out):
        """(thresholds or None, quadratic kappas).

        Thresholds are kept only if they improve the kappa of patients that they were not fitted on.
        """
        head, known, folds = self.head, self.labels.known, self.labels.folds
        if head.grade(probabilities) is None or len(head.classes) < 3:
            return None, None
        true_classes = self.labels.true_classes[known]
        grades = cross_fit(
            fit_grade_thresholds,
            lambda thresholds, p, _: apply_grade_thresholds(thresholds, p),
            folds,
            held_out[known],
            true_classes,
        )
        kappa = {
            "plain": quadratic_kappa(true_classes, np.asarray(head.grade(held_out))[known]),
            "grade_thresholds": quadratic_kappa(true_classes, grades),
        }
        if kappa["grade_thresholds"] <= kappa["plain"]:
            return None, kappa
        by_fold = [
            fit_grade_thresholds(probabilities[known][folds != fold], true_classes[folds != fold])
            for fold in np.unique(folds)
        ]
        return _as_tuple(np.median(by_fold, axis=0)), kappa


def _fit_other(head, logits, true_classes, prior):
    """Fit an output that does not decide: calibrated where its class is known, for the prior of the training split."""
    known = _is_known(true_classes)
    prior = _as_tuple(prior)
    if not known.any():
        return OtherOutput(Calibration(head.link), prior, prior, {"images": 0})
    calibration = fit_calibration(head.link, logits[known], true_classes[known], len(head.classes))
    fitted_prior = priors.class_prior(true_classes[known], len(head.classes))
    return OtherOutput(calibration, _as_tuple(fitted_prior), prior, {"images": int(known.sum())})
