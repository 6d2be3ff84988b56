"""Ranges of random parameters as a config file writes them, uniform draws from them, and checks of probabilities."""

import numpy as np

from dr_tf.console import UserError

Range = float | tuple[float, float]  # a half-width around the neutral value, or (low, high)


def parse_range(name: str, value: Range, *, neutral: float = 0.0, minimum: float | None = None) -> tuple[float, float]:
    """Return (low, high) of a configured range.

    Args:
        name: parameter name for the error message.
        value: a pair (low, high), or a number v for the range from neutral - v to neutral + v.
        neutral: value that changes nothing, such as 1 for a factor.
        minimum: lowest value allowed in the range.

    Raises:
        UserError: the value is neither a number nor a pair, or the range is empty or reaches below the minimum.
    """
    try:
        low, high = (
            (float(v) for v in value) if isinstance(value, (tuple, list)) else (neutral - value, neutral + value)
        )
    except (TypeError, ValueError):
        raise UserError(f"{name} is a number or a pair (low, high), not {value!r}") from None
    if low > high or (minimum is not None and low < minimum):
        limit = "" if minimum is None else f"; values below {minimum:g} are not allowed"
        raise UserError(f"{name} = {value!r} is not a valid range: from {low:g} to {high:g}{limit}")
    return low, high


def draw_uniform(rng: np.random.Generator, low_high: tuple[float, float]) -> float:
    """Draw a number from the uniform distribution on (low, high)."""
    low, high = low_high
    return low + (high - low) * rng.random()
