"""Fits the rule on the calibration split, once a network is trained. Serving needs nothing of this."""

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference import calibration, priors
from dr_tf.inference.cross_fitting import cross_fitted, expected_calibration_error, patient_folds
from dr_tf.inference.gate import distance_limit
from dr_tf.inference.grade_thresholds import fit_cuts, grades_from, quadratic_kappa
from dr_tf.inference.modes import PLAIN, link_of, mode_definition, needed
from dr_tf.inference.operating_points import CRITERIA, name_of, operating_point, per_patient
from dr_tf.inference.rule import Mode, OtherOutput, Rule
from dr_tf.models.heads.head import decided_truth
from dr_tf.models.links import LEAST_MEAN, encoded

POINTS = (("sensitivity", 0.9), ("sensitivity", 0.95), ("specificity", 0.9), ("youden", None))
UNKNOWN_PATIENTS = "nobody says which calibration photographs are of one patient"
OTHER_NETWORKS = "thresholds were set on the answers of the folds' networks, and another network decides"


class CalibrationLabels:
    """Of the photographs of the calibration split.

    `strata`: the class [n], or 0/1 of each label [n, labels], as `head.strata` gives them; `decided` [n, definitions] says
    whether each definition that the head decides holds; -1 is not known. `others`: {output: strata} of other heads.
    """

    def __init__(self, strata, decided, patients, others=None):
        self.strata, self.patients, self.others = np.asarray(strata), np.asarray(patients), others or {}
        decided = np.asarray(decided)
        self.decided = decided if decided.ndim == 2 else decided[:, None]
        single = self.strata.ndim == 1
        self.known = self.strata >= 0 if single else (self.strata >= 0).any(axis=1)
        worst = self.strata if single else self.decided.max(axis=1, initial=-1)
        self.folds = patient_folds(self.patients[self.known], worst[self.known])  # of the known ones

    @classmethod
    def of_rows(cls, heads, decides, columns, rows):
        """That of rows of a record set, for {output: head} of which `decides` names the one that decides."""
        head = heads[decides]
        return cls(
            head.strata(columns)[rows],
            decided_truth(head, columns)[rows],
            np.asarray(columns["patient_id"])[rows],
            {output: other.strata(columns)[rows] for output, other in heads.items() if output != decides},
        )


def fit_rule(
    heads,
    decides,
    scores,
    truth,
    *,
    modes=None,
    train_prior,
    learned_prior=None,
    prior="train",
    points=POINTS,
    point="sensitivity_0.9",
    distances=None,
    outputs=None,
    other_priors=None,
    ensemble=False,
    no_guarantee="",
):
    """The Rule fitted on `scores`, {mode: [n, scores]} of the calibration split.

    Args:
        heads: {output: head}, of which `decides` names the one that decides.
        modes: the names of the modes to fit, those of `scores` where left out; a mean has no scores of its own.
        prior: as in `priors.target_prior`.
        learned_prior: that of the batches, under which scores speak where there is nothing to calibrate them on.
        distances: of the calibration photographs from the training ones; they set the gate's limit.
        outputs: {output: logits} of the other outputs; other_priors: {output: its training prior}.
        no_guarantee: why no operating point is guaranteed; empty where calibration photographs are exchangeable with those
            to come, of known patients, and scored by the network that decides.
    """
    head = heads[decides]
    if PLAIN not in scores:
        raise ValueError(f"the mode {PLAIN!r} is always fitted")
    check_points(points, point)
    fitted = train_prior if learned_prior is None else learned_prior
    if truth.known.any():
        fitted = priors.class_prior(truth.strata[truth.known], len(head.classes))
    target = priors.target_prior(prior, fitted=fitted, train=train_prior, head=head)
    fitter = _Fitter(head, truth, fitted, target, points, no_guarantee)
    fits = {}
    for name, way in _means_last(scores if modes is None else modes, heads, decides):
        link = link_of(way, heads, decides, ensemble=ensemble)
        fits[name] = fitter.mean(link, way, fits, scores) if way.mean else fitter.mode(link, way, scores[name])
    return Rule(
        heads=heads,
        decides=decides,
        prior=tuple(np.asarray(target).tolist()),
        prior_name="table" if isinstance(prior, dict) else str(prior),
        point=point,
        modes=fits,
        others=_others(heads, outputs or {}, truth, other_priors or {}),
        distance_limit=None if distances is None else distance_limit(distances),
        no_guarantee=no_guarantee,
    )


def no_guarantee(columns, rows, by_others):
    """Why nothing that is set on these rows can be guaranteed; empty where it can.

    Args:
        by_others: other networks than the one that decides scored to them.
    """
    known = np.asarray(columns.get("patient_known", np.ones(len(columns["patient_id"]), bool)))[rows]
    reasons = ([] if known.all() else [UNKNOWN_PATIENTS]) + ([OTHER_NETWORKS] if by_others else [])
    return "; ".join(reasons)


def check_points(points, point):
    """Refuses, before anything is trained, what no fit could give."""
    names = [name_of(*wanted) for wanted in points]
    if point not in names:
        raise UserError(f"unknown operating point {point!r}; known: {', '.join(names)}")
    for criterion, target in points:
        if criterion not in CRITERIA:
            raise UserError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
        if criterion != "youden" and not (target and 0 < target < 1):
            raise UserError(f"a {criterion} to hold lies between 0 and 1, not at {target}")


def _means_last(names, heads, decides):
    """(name, way) of each mode, after those that it is made of, which are fitted whether they were requested for or not."""
    ways = {name: mode_definition(name, heads, decides) for name in names}
    parts = needed(names, ways)
    return [(name, mode_definition(name, heads, decides)) for name in dict.fromkeys((*parts, *names))]


class _Fitter:
    """Fits one mode after another under the same truth and prior."""

    def __init__(self, head, truth, fitted, target, points, no_guarantee):
        self.head, self.truth, self.points, self.no_guarantee = head, truth, points, no_guarantee
        self.fitted, self.target = fitted, target
        self.classes = len(head.classes)

    def mean(self, link, way, fits, scores):
        """Of other modes' calibrated probabilities under the target prior."""
        under = tuple(np.asarray(self.target).tolist())
        parts = Rule({"": self.head}, "", under, "", name_of(*self.points[0]), {name: fits[name] for name in way.mean})
        mean = np.mean([parts.probabilities(scores, name) for name in way.mean], axis=0)
        own = encoded(link, mean, least=LEAST_MEAN)
        return self.mode(link, way, own, under=under)

    def mode(self, link, way, scores, under=None):
        """Calibration, then what is read off the probabilities under the target prior."""
        truth, scores = self.truth, np.asarray(scores, np.float64)
        fit, fitted = calibration.Calibration(link), self.fitted if under is None else under
        if truth.known.any():
            fit = calibration.fit(link, scores[truth.known], truth.strata[truth.known], self.classes)
            fitted = self.fitted
        prior = fitted, self.target
        probabilities = self._read(fit.probabilities(scores, self.classes), prior)
        points, report = self._points(probabilities)
        cuts = None
        if report["patients"] > 1:
            before = calibration.Calibration(link).probabilities(scores, self.classes)
            held = self._held_out(link, scores)
            report["ece"] = {"before": self._errors(before), "after": self._errors(held)}
            cuts, report["kappa"] = self._cuts(probabilities, self._read(held, prior))
        return Mode(fit, tuple(np.asarray(fitted).tolist()), points, way, cuts, under, report)

    def _read(self, calibrated, prior):
        return priors.shift(calibrated, *prior, exclusive=self.head.exclusive)

    def _points(self, probabilities):
        """({definition: {point: OperatingPoint}}, how many there were to set them on)."""
        head, truth = self.head, self.truth
        points = {}
        for i, definition in enumerate(head.decided):
            scores, positive = per_patient(head.scores(probabilities)[:, i], truth.decided[:, i], truth.patients)
            points[definition] = {
                name_of(*wanted): operating_point(*wanted, scores, positive, no_guarantee=self.no_guarantee)
                for wanted in self.points
            }
            if definition == head.positive:
                counts = {"positive_patients": positive == 1, "negative_patients": positive == 0}
        return points, {
            "photographs": int(truth.known.sum()),
            "patients": len(np.unique(truth.patients[truth.known])),
            **{name: int(rows.sum()) for name, rows in counts.items()},
        }

    def _held_out(self, link, scores):
        """Probabilities calibrated by a fit that has not seen the patient; as they are where nothing is known."""
        truth = self.truth
        held = calibration.Calibration(link).probabilities(scores, self.classes)
        held[truth.known] = cross_fitted(
            lambda rows, right: calibration.fit(link, rows, right, self.classes),
            lambda fitted, rows, _: fitted.probabilities(rows, self.classes),
            truth.folds,
            scores[truth.known],
            truth.strata[truth.known],
        )
        return held

    def _errors(self, probabilities):
        """Expected calibration errors of p_positive and of the most probable class."""
        head, truth = self.head, self.truth
        positive = truth.decided[:, head.decided.index(head.positive)]
        judged, p_positive = positive >= 0, np.asarray(head.p_positive(probabilities))
        errors = {"p_positive": expected_calibration_error(p_positive[judged], positive[judged])}
        if head.exclusive:
            right = probabilities.argmax(axis=1) == truth.strata
            errors["class"] = expected_calibration_error(probabilities.max(axis=1)[truth.known], right[truth.known])
        return errors

    def _cuts(self, probabilities, held):
        """(cuts or None, quadratic kappas): cuts are taken where patients that they were not set on grade better by them."""
        head, known, folds = self.head, self.truth.known, self.truth.folds
        if head.grade(probabilities) is None or len(head.classes) < 3:
            return None, None
        strata = self.truth.strata[known]
        by_cuts = cross_fitted(fit_cuts, lambda cuts, p, _: grades_from(cuts, p), folds, held[known], strata)
        kappa = {
            "plain": quadratic_kappa(strata, np.asarray(head.grade(held))[known]),
            "cuts": quadratic_kappa(strata, by_cuts),
        }
        if kappa["cuts"] <= kappa["plain"]:
            return None, kappa
        each = [fit_cuts(probabilities[known][folds != fold], strata[folds != fold]) for fold in np.unique(folds)]
        return tuple(np.median(each, axis=0).tolist()), kappa


def _others(heads, outputs, truth, train_priors):
    """The fit of every output that does not decide: calibrated where its label is known, read under its training prior."""
    return {
        name: _other(heads[name], np.asarray(logits), truth.others[name], train_priors[name])
        for name, logits in outputs.items()
    }


def _other(head, logits, strata, prior):
    known = strata >= 0 if strata.ndim == 1 else (strata >= 0).any(axis=1)
    prior = tuple(np.asarray(prior).tolist())
    if not known.any():
        return OtherOutput(calibration.Calibration(head.link), prior, prior, {"photographs": 0})
    fit = calibration.fit(head.link, logits[known], strata[known], len(head.classes))
    fitted = priors.class_prior(strata[known], len(head.classes))
    return OtherOutput(fit, tuple(fitted.tolist()), prior, {"photographs": int(known.sum())})
