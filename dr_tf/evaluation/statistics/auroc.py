"""Variance of areas under ROC curves, for one photograph a patient (DeLong) and for several (Obuchowski).

An AUROC is the mean over positives of V10, the share of negatives that score lower (a tie counts one half), and the
mean over negatives of V01, the share of positives that score higher. Its variance comes from the spread of the two.
"""

import math

import numpy as np

from dr_tf.evaluation.statistics.proportions import Z95, wilson


def placements(scores, truth):
    """V10 [positives] and V01 [negatives] by ranks (Sun and Xu, IEEE Signal Processing Letters 2014)."""
    from scipy.stats import rankdata

    positive = truth.astype(bool)
    m, n = positive.sum(), (~positive).sum()
    ranks = rankdata(scores)
    v10 = (ranks[positive] - rankdata(scores[positive])) / n
    v01 = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
    return v10, v01


def auroc_covariance(scores, truth, patients):
    """AUROCs [k] of `scores` [k, n] on the same photographs, and their covariance [k, k], photographs of a patient
    being alike (Obuchowski, Biometrics 1997). With one photograph a patient it equals DeLong's.

    S10 = I10 / ((I10 - 1) m) sum over patients of (V10 summed over the patient's positives - their number * AUROC)^2,
    S01 likewise over negatives, S11 = I / (I - 1) sum of the products; variance S10 / m + S01 / n + 2 S11 / (m n).
    """
    truth = np.asarray(truth).astype(bool)
    scores = np.atleast_2d(scores)
    codes = np.unique(patients, return_inverse=True)[1]
    each = [placements(row, truth) for row in scores]
    areas = np.array([v10.mean() for v10, _ in each])
    m, n = truth.sum(), (~truth).sum()
    over_positives, i10 = _by_patient([v10 - v10.mean() for v10, _ in each], codes, truth)
    over_negatives, i01 = _by_patient([v01 - v01.mean() for _, v01 in each], codes, ~truth)
    patients = codes.max() + 1
    s10 = i10 / max(i10 - 1, 1) / m * over_positives @ over_positives.T
    s01 = i01 / max(i01 - 1, 1) / n * over_negatives @ over_negatives.T
    s11 = patients / max(patients - 1, 1) * over_positives @ over_negatives.T
    return areas, s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def _by_patient(deviations, codes, rows):
    """Deviations summed over each patient's `rows` [k, patients], and how many patients have any."""
    size = codes.max() + 1
    sums = np.stack([np.bincount(codes[rows], d, minlength=size) for d in deviations])
    return sums, len(np.unique(codes[rows]))


def delong_covariance(scores, truth, patients):
    """As DeLong, DeLong and Clarke-Pearson, Biometrics 1988, which is for independent photographs only."""
    if len(np.unique(patients)) < len(patients):
        raise ValueError("DeLong's variance is for one photograph a patient; use auroc_covariance")
    return auroc_covariance(scores, truth, patients)


def auroc_interval(scores, truth, patients):
    """(AUROC, low, high, method). The interval is made on the logit, which keeps it within (0, 1)."""
    truth = np.asarray(truth).astype(bool)
    if truth.all() or not truth.any():
        return math.nan, math.nan, math.nan, "undefined: one of the two classes is empty"
    clustered = len(np.unique(patients)) < len(patients)
    (area,), covariance = (auroc_covariance if clustered else delong_covariance)(scores, truth, patients)
    if not 0 < area < 1 or covariance[0, 0] < 1e-12:
        return area, *_extreme(area, truth, patients)
    half = Z95 * math.sqrt(covariance[0, 0]) / (area * (1 - area))
    low, high = (_logistic(math.log(area / (1 - area)) + sign * half) for sign in (-1, 1))
    return area, low, high, "Obuchowski, by patient" if clustered else "DeLong"


def _logistic(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _extreme(area, truth, patients):
    """Where all pairs agree the variance is estimated as 0. Pairs that share no patient are independent trials of
    "the positive scores higher", so that Wilson's interval on as many pairs as can be made holds."""
    if 0 < area < 1:
        return math.nan, math.nan, "none: the variance is 0"
    with_positive, with_negative = np.unique(patients[truth]), np.unique(patients[~truth])
    either = len(np.union1d(with_positive, with_negative))
    pairs = min(len(with_positive), len(with_negative), either // 2)
    return *wilson(round(area) * pairs, pairs), f"Wilson on {pairs} independent pairs: all pairs agree"


def auroc_difference(first, second, truth, patients):
    """(difference of AUROCs, low, high, method) of two scores of the same photographs."""
    clustered = len(np.unique(patients)) < len(patients)
    areas, covariance = auroc_covariance([first, second], truth, patients)
    difference = areas[0] - areas[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance < 1e-15:
        return difference, math.nan, math.nan, "none: the variance of the difference is 0"
    half = Z95 * math.sqrt(variance)
    method = "Obuchowski, paired, by patient" if clustered else "DeLong, paired"
    return difference, max(-1.0, difference - half), min(1.0, difference + half), method
