"""Operating points: thresholds on p_positive with a distribution-free guarantee of sensitivity or specificity.

A case is positive if its score is at or above the threshold.

Guarantee: sort the scores of the n positive calibration patients. The share of all positive patients below the m-th
smallest score is distributed as Beta(m, n + 1 - m). With that score as the threshold, the sensitivity is therefore
below s with probability P(Bin(n, 1 - s) <= m - 1) (Wilks 1941; ties only help). The threshold is the m-th smallest
score for the largest m where this probability is at most 5 %. Specificity is treated the same way from above. Images of
one patient are not independent, so each patient counts once, with the highest score of their images.

The guarantee needs patients who are exchangeable with those of the calibration split, known patient IDs, and the same
network for calibration and prediction. If one of these is missing, the same threshold is set without a guarantee. In a
simulation, counting images as patients broke the guarantee in 7 to 9 % of draws, and thresholds from cross-validation
folds used by a refitted network broke it in 1 to 13 %, depending on the learner (`benchmarks/guarantee.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

FAILURE_PROBABILITY = 0.05  # of a guarantee, over draws of the calibration split


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the probability of positive.

    Attributes:
        threshold: positive from this probability on.
        guaranteed: whether the target sensitivity or specificity is guaranteed.
        note: what is guaranteed, or why nothing is.
        sensitivity: on the calibration patients; None if none of them is positive.
        specificity: on the calibration patients; None if none of them is negative.
    """

    threshold: float
    guaranteed: bool
    note: str
    sensitivity: float | None = None
    specificity: float | None = None


def patient_scores(scores: ArrayLike, labels: ArrayLike, patients: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Aggregate images to patients.

    Args:
        scores: the score of each image [n].
        labels: 1, 0, or -1 for unknown [n].
        patients: the patient of each image [n].

    Returns:
        (highest score, label) of each patient. A patient with a positive image is positive. Without one, an image of
        unknown label makes the patient's label unknown.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    names, patient_of = np.unique(np.asarray(patients), return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, patient_of, scores)
    positive, unknown = np.zeros(len(names), bool), np.zeros(len(names), bool)
    np.logical_or.at(positive, patient_of, labels == 1)
    np.logical_or.at(unknown, patient_of, labels < 0)
    return highest, np.where(positive, 1, np.where(unknown, -1, 0))


def guaranteed_rank(n: int, share: float, failure_probability: float = FAILURE_PROBABILITY) -> int:
    """Return the rank of the highest guaranteed threshold.

    Args:
        n: the number of scores.
        share: the share of the population that has to lie at or above the threshold.
        failure_probability: how often the guarantee may fail.

    Returns:
        The largest m for which the m-th smallest of n scores is such a threshold; 0 if n is too small.
    """
    from scipy.stats import binom  # needed for fitting only: prediction runs without SciPy

    return int(np.searchsorted(binom.cdf(np.arange(n), n, 1 - share), failure_probability, side="right"))


def patients_needed(share: float, failure_probability: float = FAILURE_PROBABILITY) -> int:
    """Return the smallest number of patients for which a threshold that keeps `share` can be guaranteed."""
    return int(np.ceil(np.log(failure_probability) / np.log(share)))


# (threshold or None, whether it is guaranteed, note)
_Threshold = tuple[float | None, bool, str]


def _threshold_below(scores: np.ndarray, share: float, metric: str) -> _Threshold:
    """A threshold that keeps `share` of the scores at or above it."""
    n, target = len(scores), f"{metric} at least {share:g}"
    if n == 0:
        return None, False, f"not guaranteed: the calibration split has no patient to set {metric} on"
    rank = guaranteed_rank(n, share)
    if rank:
        return (
            np.sort(scores)[rank - 1],
            True,
            f"{target} with {1 - FAILURE_PROBABILITY:.0%} confidence, from {n} patients",
        )
    # The lowest score, so that a higher target never gets a higher threshold than a lower, guaranteed one.
    needed = patients_needed(share)
    note = (
        f"not guaranteed: {target} needs {needed} patients, the calibration split has {n}; the threshold keeps all {n}"
    )
    return np.min(scores), False, note


def _at_sensitivity(positives: np.ndarray, negatives: np.ndarray, target: float) -> _Threshold:
    return _threshold_below(positives, target, "sensitivity")


def _at_specificity(positives: np.ndarray, negatives: np.ndarray, target: float) -> _Threshold:
    threshold, guaranteed, note = _threshold_below(-negatives, target, "specificity")
    # Just above that score, because a score at the threshold is positive.
    return threshold if threshold is None else np.nextafter(-threshold, np.inf), guaranteed, note


def _youden(positives: np.ndarray, negatives: np.ndarray, target: None) -> _Threshold:
    """Maximize sensitivity + specificity - 1 (Youden 1950). Ties are resolved to the lowest threshold."""
    if not len(positives) or not len(negatives):
        return None, False, "not guaranteed: Youden's index needs positive and negative patients"
    candidates = np.unique(positives)
    sensitivity = _share_at_or_above(positives, candidates)
    gain = sensitivity - _share_at_or_above(negatives, candidates)
    note = "not guaranteed: the highest sensitivity + specificity on the calibration patients"
    return candidates[np.argmax(gain)], False, note


def _f1(positives: np.ndarray, negatives: np.ndarray, target: None) -> _Threshold:
    """Maximize F1. Ties are resolved to the lowest threshold."""
    if not len(positives):
        return None, False, "not guaranteed: F1 needs positive patients"
    candidates = np.unique(positives)
    found = len(positives) * _share_at_or_above(positives, candidates)
    f1 = 2 * found / (found + len(negatives) * _share_at_or_above(negatives, candidates) + len(positives))
    return candidates[np.argmax(f1)], False, "not guaranteed: the highest F1 on the calibration patients"


def _share_at_or_above(scores, thresholds):
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="left") / max(1, len(scores))


CRITERIA: dict[str, Callable[..., _Threshold]] = {
    "sensitivity": _at_sensitivity,
    "specificity": _at_specificity,
    "youden": _youden,
    "f1": _f1,
}
WITHOUT_TARGET = ("youden", "f1")


def operating_point_name(criterion: str, target: float | None = None) -> str:
    """Return the name of an operating point, such as "sensitivity_0.9" or "youden"."""
    return criterion if target is None else f"{criterion}_{target:g}"


def fit_operating_point(
    criterion: str, target: float | None, scores: np.ndarray, labels: np.ndarray, *, no_guarantee: str = ""
) -> OperatingPoint:
    """Set the threshold of an operating point on calibration patients.

    Args:
        criterion: a name in CRITERIA.
        target: the sensitivity or specificity to keep; None for the others.
        scores: one for each patient [n].
        labels: 1, 0, or -1 for unknown, one for each patient [n]. Unknown patients are left out.
        no_guarantee: the reason why nothing can be guaranteed; empty if something can.

    Returns:
        The OperatingPoint. Its threshold is 0.5 if there is no patient to set it on.

    Raises:
        ValueError: the criterion is unknown, or the target is not between 0 and 1.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
    if criterion not in WITHOUT_TARGET and not (target is not None and 0 < target < 1):
        raise ValueError(f"a target {criterion} must be between 0 and 1, not {target}")
    positives, negatives = scores[labels == 1], scores[labels == 0]
    threshold, guaranteed, note = CRITERIA[criterion](positives, negatives, target)
    if guaranteed and no_guarantee:
        guaranteed, note = False, f"set for {note.split(' with ')[0]}, not guaranteed: {no_guarantee}"
    if threshold is None:
        threshold, note = 0.5, f"{note}; the threshold is 0.5 instead"
    return OperatingPoint(
        threshold=float(threshold),
        guaranteed=guaranteed,
        note=note,
        sensitivity=float(_share_at_or_above(positives, threshold)) if len(positives) else None,
        specificity=float(1 - _share_at_or_above(negatives, threshold)) if len(negatives) else None,
    )
