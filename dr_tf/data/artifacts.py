"""What goes wrong in front of a retina: the focus, stray light at the rim, a shadow, dust on the lens.

Light and shadow are drawn small, as how much of the photograph each place keeps and what colour it gets instead, and
laid over the photograph together in one pass. They end where the retina ends.
"""

import dataclasses

import cv2
import numpy as np

from dr_tf.data.ranges import check_probabilities, draw, span
from dr_tf.fundus.enhance import field_mask

_KEPT = 0.98  # of the radius: a little less than crops are blackened beyond
_GRID = 96  # pixels a side of the small drawing: a tenth of the work at 256 pixels, and all of it is smooth


@dataclasses.dataclass(frozen=True)
class Blur:
    """Out of focus, by a Gaussian whose sigma is a share of the side: 0.004 is one pixel at 256."""

    sigma: float | tuple = (0.001, 0.006)
    probability: float = 0.2

    def __post_init__(self):
        check_probabilities(self, "probability")
        object.__setattr__(self, "_sigma", span("sigma", self.sigma, least=0))

    def __call__(self, image, rng):
        if rng.random() >= self.probability:
            return image
        sigma = draw(rng, self._sigma) * image.shape[0]
        return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.1 else image


@dataclasses.dataclass(frozen=True)
class Halo:
    """A crescent of haze along the rim, as from an eyelid or a pupil that is too small. In radii of the retina."""

    strength: float | tuple = (0.2, 0.7)
    radius: float | tuple = (0.8, 1.05)
    width: float | tuple = (0.08, 0.25)
    probability: float = 0.1

    def __post_init__(self):
        _check(self, strength=0, radius=0, width=0.01)

    def veils(self, rng):
        """Each veil: its strength, 0-1, at each place of the small drawing, and its colour."""
        strength, radius, width = (draw(rng, self._spans[n]) for n in ("strength", "radius", "width"))
        x, y = _places(rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08))
        angle = rng.uniform(0, 2 * np.pi)
        ring = np.exp(-(((np.hypot(x, y) - radius) / width) ** 2))
        crescent = (0.5 + 0.5 * np.cos(np.arctan2(y, x) - angle)) ** rng.uniform(0.3, 3)
        warmth = rng.random()
        yield strength * ring * crescent, np.array([250, 190 + 25 * warmth, 230 - 100 * warmth])


@dataclasses.dataclass(frozen=True)
class Hole:
    """A dark shadow with a soft edge. In radii of the retina."""

    strength: float | tuple = (0.4, 0.9)
    size: float | tuple = (0.12, 0.35)
    probability: float = 0.1

    def __post_init__(self):
        _check(self, strength=0, size=0.01)

    def veils(self, rng):
        strength, size = (draw(rng, self._spans[n]) for n in ("strength", "size"))
        yield strength * np.exp(-((_from_somewhere(rng, size) / size) ** 2)), np.array([14, 6, 3])


@dataclasses.dataclass(frozen=True)
class Spot:
    """Specks on the lens, most of them bright. In radii of the retina."""

    count: int = 5  # at most
    strength: float | tuple = (0.2, 0.7)
    size: float | tuple = (0.03, 0.09)
    dark: float = 0.3  # the share of dark ones
    probability: float = 0.1

    def __post_init__(self):
        check_probabilities(self, "dark")
        _check(self, strength=0, size=0.02)

    def veils(self, rng):
        for _ in range(rng.integers(1, self.count, endpoint=True)):
            strength, size = (draw(rng, self._spans[n]) for n in ("strength", "size"))
            disc = 1 / (1 + np.exp(np.clip((_from_somewhere(rng, size) - size) / (0.2 * size), -30, 30)))
            grey = rng.uniform(20, 50) if rng.random() < self.dark else rng.uniform(190, 245)
            yield strength * disc, grey * np.array([1, 0.94, 0.86])


def lay_over(image, faults, rng):
    """Those of `faults` that happen, all in one pass."""
    veils = [veil for fault in faults if rng.random() < fault.probability for veil in fault.veils(rng)]
    if not veils:
        return image
    keep, light = np.ones((_GRID, _GRID), np.float32), np.zeros((_GRID, _GRID, 3), np.float32)
    for strength, colour in veils:
        left = (1 - np.clip(strength, 0, 1)).astype(np.float32)
        keep *= left
        light = light * left[..., None] + (1 - left)[..., None] * colour.astype(np.float32)
    size, middle = image.shape[1::-1], image.shape[0] / 2
    mask = field_mask(image, (middle, middle, _KEPT * middle))
    kept = cv2.multiply(image, cv2.cvtColor(_enlarged(255 * keep, size), cv2.COLOR_GRAY2RGB), scale=1 / 255)
    return cv2.add(kept, cv2.copyTo(_enlarged(light, size), mask))


def _enlarged(small, size):
    return cv2.resize(np.rint(small).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)


def _places(x0=0.0, y0=0.0):
    """x and y of each place of the small drawing, from (x0, y0), in radii of the retina."""
    at = (np.arange(_GRID, dtype=np.float32) + 0.5) / _GRID * 2 - 1
    return (at - x0)[None, :], (at - y0)[:, None]


def _from_somewhere(rng, size):
    """Distances from a place that leaves something of this size within the retina."""
    angle, far = rng.uniform(0, 2 * np.pi), max(0.0, 0.95 - size) * np.sqrt(rng.random())
    return np.hypot(*_places(far * np.cos(angle), far * np.sin(angle)))


def _check(fault, **least):
    check_probabilities(fault, "probability")
    spans = {name: span(name, getattr(fault, name), least=floor) for name, floor in least.items()}
    object.__setattr__(fault, "_spans", spans)
