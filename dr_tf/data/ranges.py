"""What a random number is drawn from, as a config writes it, and whether it is drawn at all."""

from dr_tf.console import UserError


def span(name, value, *, about=0.0, least=None):
    """(low, high): `value` is such a pair, or how far a number strays from `about` to either side."""
    try:
        low, high = (float(v) for v in value) if isinstance(value, (tuple, list)) else (about - value, about + value)
    except (TypeError, ValueError):
        raise UserError(f"{name} is a number or a pair (low, high), not {value!r}") from None
    if low > high or (least is not None and low < least):
        floor = "" if least is None else f", not below {least:g}"
        raise UserError(f"{name} = {value!r} is no range{floor}: it reaches from {low:g} to {high:g}")
    return low, high


def check_probabilities(thing, *names):
    for name in names:
        value = getattr(thing, name)
        if not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise UserError(f"{name} is a probability between 0 and 1, not {value!r}")


def draw(rng, low_high):
    low, high = low_high
    return low + (high - low) * rng.random()
