"""Expected calibration error (ECE): the difference of predicted probabilities and observed outcomes, in bins of equal width.

ECE = sum over bins of |sum of (outcome - probability)| / n (Naeini et al., AAAI 2015).
"""

import numpy as np
from numpy.typing import ArrayLike

BINS = 15


def bin_numbers(probabilities: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the bin of each probability, counted from 0; a probability of 1 is in the last bin."""
    return np.clip((probabilities * bins).astype(int), 0, bins - 1)


def expected_calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = BINS) -> float | None:
    """Compute the expected calibration error.

    Args:
        probabilities: [n], the predicted probability of an outcome.
        outcomes: [n], 0 or 1, whether it occurred.
        bins: number of bins of equal width.

    Returns:
        The error, or None where there are no predictions.
    """
    probabilities, outcomes = np.asarray(probabilities, np.float64), np.asarray(outcomes, np.float64)
    if not len(probabilities):
        return None
    gaps = np.bincount(bin_numbers(probabilities, bins), weights=outcomes - probabilities, minlength=bins)
    return float(np.abs(gaps).sum() / len(probabilities))
