"""Fits the rule on the calibration split, once a network is trained. Serving needs nothing of this."""

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference import calibration, priors
from dr_tf.inference.cross_fitting import cross_fitted, expected_calibration_error, patient_folds
from dr_tf.inference.gate import distance_limit
from dr_tf.inference.grade_cuts import fit_cuts, grades_from, quadratic_kappa
from dr_tf.inference.operating_points import CRITERIA, name_of, operating_point, per_patient
from dr_tf.inference.rule import PLAIN, Mode, Rule

POINTS = (("sensitivity", 0.9), ("sensitivity", 0.95), ("specificity", 0.9), ("youden", None))


class Truth:
    """Of the photographs of the calibration split.

    `strata`: the class [n], or 0/1 of each label [n, labels], as `head.strata` gives them; `positive` [n]; -1 is not known.
    """

    def __init__(self, strata, positive, patients):
        self.strata, self.positive, self.patients = np.asarray(strata), np.asarray(positive), np.asarray(patients)
        single = self.strata.ndim == 1
        self.known = self.strata >= 0 if single else (self.strata >= 0).any(axis=1)
        worst = self.strata if single else self.positive
        self.folds = patient_folds(self.patients[self.known], worst[self.known])  # of the known ones


def fit_rule(
    head,
    modes,
    truth,
    *,
    train_prior,
    learned_prior=None,
    prior="train",
    points=POINTS,
    point="sensitivity_0.9",
    distances=None,
):
    """`modes`: {name: logits [n, outputs]} of the calibration split; `prior` as in `priors.target_prior`.

    `learned_prior`, that of the batches, is what logits speak under where there is nothing to calibrate them on.
    `distances` of the calibration photographs from the training ones set the gate's limit.
    """
    if PLAIN not in modes:
        raise ValueError(f"the mode {PLAIN!r} is always fitted")
    _check(points, point)
    fitted = train_prior if learned_prior is None else learned_prior
    if truth.known.any():
        fitted = priors.class_prior(truth.strata[truth.known], len(head.classes))
    target = priors.target_prior(prior, fitted=fitted, train=train_prior, head=head)
    return Rule(
        head=head,
        prior=tuple(np.asarray(target).tolist()),
        prior_name=_name(prior),
        point=point,
        modes={name: _mode(head, np.asarray(x), truth, (fitted, target), points) for name, x in modes.items()},
        distance_limit=None if distances is None else distance_limit(distances),
    )


def _name(prior):
    return "table" if isinstance(prior, dict) else str(prior)


def _check(points, point):
    names = [name_of(*wanted) for wanted in points]
    if point not in names:
        raise UserError(f"unknown operating point {point!r}; known: {', '.join(names)}")
    for criterion, target in points:
        if criterion not in CRITERIA:
            raise UserError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
        if criterion != "youden" and not (target and 0 < target < 1):
            raise UserError(f"a {criterion} to hold lies between 0 and 1, not at {target}")


def _mode(head, logits, truth, prior, points):
    """One mode's fit: calibration, then what is read off its probabilities under the target prior."""
    fit = calibration.Calibration()
    if truth.known.any():
        fit = calibration.fit(head.calibration, logits[truth.known], truth.strata[truth.known])
    probabilities = _read(head, fit.apply(logits), prior)
    scores, positive = per_patient(head.p_positive(probabilities), truth.positive, truth.patients)
    report = {
        "photographs": int(truth.known.sum()),
        "patients": len(np.unique(truth.patients[truth.known])),
        "positive_patients": int((positive == 1).sum()),
        "negative_patients": int((positive == 0).sum()),
    }
    cuts = None
    if report["patients"] > 1:
        held = _held_out(head, logits, truth)
        report["ece"] = {when: _errors(head, x, truth) for when, x in (("before", logits), ("after", held))}
        cuts, report["kappa"] = _cuts(head, probabilities, _read(head, held, prior), truth)
    fits = {name_of(*wanted): operating_point(*wanted, scores, positive) for wanted in points}
    return Mode(fit, tuple(np.asarray(prior[0]).tolist()), fits, cuts, report)


def _read(head, calibrated, prior):
    return priors.shift(head.probabilities(calibrated), *prior, exclusive=head.exclusive)


def _held_out(head, logits, truth):
    """Logits calibrated by a fit that has not seen the patient; as they are where nothing is known."""
    held = np.array(logits, np.float64)
    held[truth.known] = cross_fitted(
        lambda rows, right: calibration.fit(head.calibration, rows, right),
        lambda fitted, rows, _: fitted.apply(rows),
        truth.folds,
        held[truth.known],
        truth.strata[truth.known],
    )
    return held


def _errors(head, logits, truth):
    """Expected calibration errors of p_positive and of the most probable class."""
    probabilities, judged = head.probabilities(logits), truth.positive >= 0
    p_positive = np.asarray(head.p_positive(probabilities))
    errors = {"p_positive": expected_calibration_error(p_positive[judged], truth.positive[judged])}
    if head.exclusive:
        right = probabilities.argmax(axis=1) == truth.strata
        errors["class"] = expected_calibration_error(probabilities.max(axis=1)[truth.known], right[truth.known])
    return errors


def _cuts(head, probabilities, held, truth):
    """(cuts or None, quadratic kappas): cuts are taken where patients that they were not set on grade better by them."""
    if head.grade(probabilities) is None or len(head.classes) < 3:
        return None, None
    known, folds, strata = truth.known, truth.folds, truth.strata[truth.known]
    by_cuts = cross_fitted(fit_cuts, lambda cuts, p, _: grades_from(cuts, p), folds, held[known], strata)
    kappa = {
        "plain": quadratic_kappa(strata, np.asarray(head.grade(held))[known]),
        "cuts": quadratic_kappa(strata, by_cuts),
    }
    if kappa["cuts"] <= kappa["plain"]:
        return None, kappa
    each = [fit_cuts(probabilities[known][folds != fold], strata[folds != fold]) for fold in np.unique(folds)]
    return tuple(np.median(each, axis=0).tolist()), kappa
