"""Thresholds on p_positive that keep a promise: positive is who scores at or above.

With n positive calibration patients whose scores are sorted, the share of all positives below the m-th smallest is
Beta(m, n + 1 - m), so that this threshold falls short of sensitivity s with probability P(Bin(n, 1 - s) <= m - 1)
(Wilks 1941; ties only help). The largest m where that is at most 5 % is taken. Specificity is the same from above.
A patient counts once, with the worse eye: photographs of one patient are not independent.

The promise is for patients exchangeable with those of calibration, whose photographs are known to be theirs, and for the
very network that scored then. Where one of these is not so the same threshold is set, and nothing is promised: in a
simulation photographs that count as patients broke the promise in 7 to 9 % of draws, and thresholds that folds set for a
refit in 1 to 13 %, which depends on the learner (`benchmarks/guarantee.py`).
"""

import dataclasses

import numpy as np

RISK = 0.05  # how often the promise may be broken


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """`sensitivity` and `specificity` are those of the calibration patients, where there are any."""

    threshold: float
    guaranteed: bool
    note: str
    sensitivity: float | None = None
    specificity: float | None = None


def per_patient(scores, truth, patients):
    """(highest score, truth) of each patient: positive with one positive photograph, -1 while that may yet be."""
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth)
    names, of = np.unique(np.asarray(patients), return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, of, scores)
    positive, unknown = np.zeros(len(names), bool), np.zeros(len(names), bool)
    np.logical_or.at(positive, of, truth == 1)
    np.logical_or.at(unknown, of, truth < 0)
    return highest, np.where(positive, 1, np.where(unknown, -1, 0))


def guaranteed_rank(n, share, risk=RISK):
    """The largest m whose m-th smallest of n scores has at least `share` of all above it, but for `risk`; 0 for none."""
    from scipy.stats import binom  # only who fits needs it

    return int(np.searchsorted(binom.cdf(np.arange(n), n, 1 - share), risk, side="right"))


def patients_needed(share, risk=RISK):
    return int(np.ceil(np.log(risk) / np.log(share)))


def _from_below(scores, share, what):
    """(threshold, whether it is guaranteed, note) that leaves `share` of `scores` at or above."""
    n, promise = len(scores), f"{what} at least {share:g}"
    if n == 0:
        return None, False, f"not guaranteed: the calibration split has no patient to set {what} on"
    m = guaranteed_rank(n, share)
    if m:
        return np.sort(scores)[m - 1], True, f"{promise} with {1 - RISK:.0%} confidence, from {n} patients"
    # All of them: as much as so few can do, and never less than where a smaller share is requested for and guaranteed.
    needed = patients_needed(share)
    note = f"not guaranteed: {promise} takes {needed} patients, the calibration split has {n}; all of these are kept"
    return np.min(scores), False, note


def at_sensitivity(positives, negatives, target):
    return _from_below(positives, target, "sensitivity")


def at_specificity(positives, negatives, target):
    threshold, guaranteed, note = _from_below(-negatives, target, "specificity")
    # Above the score found, as whoever scores at the threshold is positive.
    return threshold if threshold is None else np.nextafter(-threshold, np.inf), guaranteed, note


def youden(positives, negatives, _):
    """The most sensitivity + specificity - 1 (Youden 1950); of equals the lowest, which is the more sensitive."""
    if not len(positives) or not len(negatives):
        return None, False, "not guaranteed: Youden's index takes positive and negative patients"
    candidates = np.unique(positives)
    sensitivity = _share_from(positives, candidates)
    gain = sensitivity - _share_from(negatives, candidates)
    return candidates[np.argmax(gain)], False, "not guaranteed: the most sensitivity + specificity on these patients"


def _share_from(scores, thresholds):
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)


CRITERIA = {"sensitivity": at_sensitivity, "specificity": at_specificity, "youden": youden}


def name_of(criterion, target=None):
    """ "sensitivity_0.9", "youden": how a point is requested for."""
    return criterion if target is None else f"{criterion}_{target:g}"


def operating_point(criterion, target, scores, truth, *, no_guarantee=""):
    """`scores` and `truth` (1, 0, or -1: left out), one a patient; `no_guarantee`: why nothing can be guaranteed, if so."""
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
    if criterion != "youden" and not (target is not None and 0 < target < 1):
        raise ValueError(f"a {criterion} to hold lies between 0 and 1, not at {target}")
    positives, negatives = scores[truth == 1], scores[truth == 0]
    threshold, guaranteed, note = CRITERIA[criterion](positives, negatives, target)
    if guaranteed and no_guarantee:
        guaranteed, note = False, f"set for {note.split(' with ')[0]}, not guaranteed: {no_guarantee}"
    if threshold is None:
        threshold, note = 0.5, f"{note}; 0.5 stands in"
    return OperatingPoint(
        threshold=float(threshold),
        guaranteed=guaranteed,
        note=note,
        sensitivity=float(_share_from(positives, threshold)) if len(positives) else None,
        specificity=float(1 - _share_from(negatives, threshold)) if len(negatives) else None,
    )
