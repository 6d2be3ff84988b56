"""Confidence interval of a proportion."""

import math

Z95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def wilson(hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Compute Wilson's score interval (Wilson, JASA 1927) of a proportion.

    It stays within [0, 1] and has a positive width even at 0 and at n hits.

    Args:
        hits: number of successes.
        n: number of trials.
        z: quantile of the standard normal distribution; the default gives the 95 % interval.

    Returns:
        (low, high); NaN for both where there are no trials.
    """
    if not n:
        return math.nan, math.nan
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if hits == 0 else centre - half
    return low, 1.0 if hits == n else centre + half
