"""Calibration error of Predictions: of one outcome, of the most probable class, and averaged over classes.

`ece` of a multi-class prediction is of the probability of the most probable class (Guo et al., ICML 2017). Classwise
ECE is the mean of every class's own (Kull et al., NeurIPS 2019). Functions on per-image gaps serve the bootstrap.
"""

import numpy as np

from dr_tf.evaluation.statistics.bootstrap import SumMetric
from dr_tf.inference.calibration_error import BINS, bin_numbers, expected_calibration_error

NOTE = f"{BINS} bins of equal width"


def ece(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Compute the expected calibration error; NaN where there are no predictions."""
    error = expected_calibration_error(probabilities, outcomes)
    return np.nan if error is None else error


def gaps(probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Compute each image's outcome minus probability, in the column of its bin [n, bins]."""
    columns = np.zeros((len(probabilities), BINS))
    columns[np.arange(len(probabilities)), bin_numbers(probabilities)] = outcomes - probabilities
    return columns


def ece_from_gaps(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Compute the ECE from gaps summed over n images [..., bins]."""
    return np.abs(sums).sum(axis=-1) / n


def ece_of_column(name: str) -> SumMetric:
    """Return the function of {column: sums} that computes the ECE from the gaps in column `name` and the count in "n".

    For a single column of non-negative values, such as the Brier score, the result is their mean.
    """
    return lambda sums: ece_from_gaps(sums[name], sums["n"][:, 0])


def top_label(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of the most probable class [n], and whether it is the true class [n]."""
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == truth).astype(float)


def classwise_gaps(probabilities: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Compute the gaps of every class [n, classes * bins], of probabilities and 0/1 outcomes [n, classes]."""
    return np.concatenate([gaps(p, y) for p, y in zip(probabilities.T, outcomes.T, strict=True)], axis=1)


def classwise_ece(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
    """Compute the mean over classes of the ECE of each, of probabilities and 0/1 outcomes [n, classes]."""
    return float(np.mean([ece(p, y) for p, y in zip(probabilities.T, outcomes.T, strict=True)]))


def reliability(probabilities: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute a reliability diagram: the mean probability, the observed share and the count of each non-empty bin."""
    bins = bin_numbers(probabilities)
    n = np.bincount(bins, minlength=BINS)
    used = n > 0
    predicted, observed = (np.bincount(bins, values, minlength=BINS)[used] for values in (probabilities, outcomes))
    return predicted / n[used], observed / n[used], n[used]


def debiased_interval(value: float, bootstrap_values: np.ndarray) -> tuple[float, float]:
    """Compute a confidence interval of an ECE from its bootstrap distribution, corrected for the noise in the bins.

    Noise in a bin counts as error whatever its sign: once in the ECE itself, and once more in each bootstrap sample.
    The square of the noise is estimated as the excess of the samples' mean square over the squared value. Uncorrected
    percentiles never covered a true ECE of 0. The upper end is never below `value`.

    Args:
        value: the ECE of the predictions.
        bootstrap_values: [bootstrap samples], the ECE of each.

    Returns:
        (low, high) of the 95 % interval.
    """
    noise = max(0.0, float(np.mean(bootstrap_values**2)) - value**2)
    low, high = (np.sqrt(max(0.0, q**2 - 2 * noise)) for q in np.quantile(bootstrap_values, (0.025, 0.975)))
    return float(min(low, value)), float(max(high, value))
