"""Confidence intervals of AUROC, for one image per patient (DeLong) and for several (Obuchowski).

An AUROC is the mean over positives of V10, the share of negatives that score lower (a tie counts one half). It is also
the mean over negatives of V01, the share of positives that score higher. Its variance is estimated from the spread of
the two.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.evaluation.statistics.proportions import Z95, wilson


def placements(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute V10 [positives] and V01 [negatives] from ranks (Sun and Xu, IEEE Signal Processing Letters 2014)."""
    from scipy.stats import rankdata

    positive = truth.astype(bool)
    m, n = positive.sum(), (~positive).sum()
    ranks = rankdata(scores)
    v10 = (ranks[positive] - rankdata(scores[positive])) / n
    v01 = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
    return v10, v01


def auroc_covariance(scores: ArrayLike, truth: ArrayLike, patients: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Compute AUROCs and their covariance with images clustered by patient (Obuchowski, Biometrics 1997).

    With one image per patient the covariance equals DeLong's.

    S10 = I10 / ((I10 - 1) m) sum over patients of (V10 summed over the patient's positives - their number * AUROC)^2,
    S01 likewise over negatives, S11 = I / (I - 1) sum of the products; variance S10 / m + S01 / n + 2 S11 / (m n).

    Args:
        scores: [k, n], the scores of k models for the same n images; [n] for one model.
        truth: [n], whether each image is positive.
        patients: [n], the patient of each image.

    Returns:
        (AUROCs [k], covariance [k, k]).
    """
    truth = np.asarray(truth).astype(bool)
    scores = np.atleast_2d(scores)
    codes = np.unique(patients, return_inverse=True)[1]
    by_model = [placements(row, truth) for row in scores]
    areas = np.array([v10.mean() for v10, _ in by_model])
    m, n = truth.sum(), (~truth).sum()
    over_positives, i10 = _sum_by_patient([v10 - v10.mean() for v10, _ in by_model], codes, truth)
    over_negatives, i01 = _sum_by_patient([v01 - v01.mean() for _, v01 in by_model], codes, ~truth)
    n_patients = codes.max() + 1
    s10 = i10 / max(i10 - 1, 1) / m * over_positives @ over_positives.T
    s01 = i01 / max(i01 - 1, 1) / n * over_negatives @ over_negatives.T
    s11 = n_patients / max(n_patients - 1, 1) * over_positives @ over_negatives.T
    return areas, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def _sum_by_patient(deviations: Sequence[np.ndarray], codes: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the deviations summed over each patient's `rows` [k, patients], and how many patients have any."""
    size = codes.max() + 1
    sums = np.stack([np.bincount(codes[rows], d, minlength=size) for d in deviations])
    return sums, len(np.unique(codes[rows]))


def delong_covariance(scores: ArrayLike, truth: ArrayLike, patients: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Compute AUROCs and DeLong's covariance, as `auroc_covariance` returns them.

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988, is for independent images only.

    Raises:
        ValueError: if a patient has several images.
    """
    if len(np.unique(patients)) < len(np.asarray(patients)):
        raise ValueError("DeLong's variance is for one image per patient; use auroc_covariance")
    return auroc_covariance(scores, truth, patients)


def auroc_interval(scores: ArrayLike, truth: ArrayLike, patients: ArrayLike) -> tuple[float, float, float, str]:
    """Compute AUROC with its 95 % confidence interval, which is made on the logit scale to stay within (0, 1).

    Returns:
        (AUROC, low, high, name of the method). All numbers are NaN where a class is empty.
    """
    truth = np.asarray(truth).astype(bool)
    if truth.all() or not truth.any():
        return math.nan, math.nan, math.nan, "undefined: one of the two classes is empty"
    clustered = len(np.unique(patients)) < len(truth)
    (area,), covariance = (auroc_covariance if clustered else delong_covariance)(scores, truth, patients)
    if not 0 < area < 1 or covariance[0, 0] < 1e-12:
        return area, *_interval_without_variance(area, truth, np.asarray(patients))
    half = Z95 * math.sqrt(covariance[0, 0]) / (area * (1 - area))
    low, high = (_logistic(math.log(area / (1 - area)) + sign * half) for sign in (-1, 1))
    return area, low, high, "Obuchowski, by patient" if clustered else "DeLong"


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _interval_without_variance(area: float, truth: np.ndarray, patients: np.ndarray) -> tuple[float, float, str]:
    """Return (low, high, method) where the estimated variance is 0.

    Where all pairs agree, pairs that share no patient are independent trials of "the positive scores higher". Wilson's
    interval on the largest possible number of such pairs is then valid.
    """
    if 0 < area < 1:
        return math.nan, math.nan, "none: the variance is 0"
    with_positive, with_negative = np.unique(patients[truth]), np.unique(patients[~truth])
    either = len(np.union1d(with_positive, with_negative))
    pairs = min(len(with_positive), len(with_negative), either // 2)
    return *wilson(round(area) * pairs, pairs), f"Wilson on {pairs} independent pairs: all pairs agree"


def auroc_difference(
    first: np.ndarray, second: np.ndarray, truth: np.ndarray, patients: np.ndarray
) -> tuple[float, float, float, str]:
    """Compute the paired difference of two AUROCs, first minus second, with its 95 % confidence interval.

    Args:
        first: [n], scores of one model.
        second: [n], scores of another model for the same images.
        truth: [n], whether each image is positive.
        patients: [n], the patient of each image.

    Returns:
        (difference, low, high, name of the method).
    """
    clustered = len(np.unique(patients)) < len(patients)
    areas, covariance = auroc_covariance([first, second], truth, patients)
    difference = areas[0] - areas[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance < 1e-15:
        return difference, math.nan, math.nan, "none: the variance of the difference is 0"
    half = Z95 * math.sqrt(variance)
    method = "Obuchowski, paired, by patient" if clustered else "DeLong, paired"
    return difference, max(-1.0, difference - half), min(1.0, difference + half), method
