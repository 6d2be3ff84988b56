"""Intervals of a proportion."""

import math

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson(hits, n, z=Z95):
    """The score interval (Wilson, JASA 1927): never leaves [0, 1] and has a width at 0 and at n hits."""
    if not n:
        return math.nan, math.nan
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if hits == 0 else centre - half
    return low, 1.0 if hits == n else centre + half
