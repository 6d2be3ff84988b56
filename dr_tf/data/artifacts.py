"""Augmentation by camera artifacts: defocus blur, halo at the rim, dark shadow, spots on the lens.

Halo, shadow and spots are drawn on a small grid, as the strength and the colour of a layer at each point. All layers of
an image are enlarged and blended into it in one pass. They end at the edge of the retina.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from dr_tf.data.ranges import Range, draw_uniform, parse_range
from dr_tf.fundus.enhance import field_mask
from dr_tf.parameters import Count, Share

_MASK_RADIUS = 0.98  # of the half side: just inside the circle beyond which crops are black
_GRID = 96  # grid points per side: a tenth of the work at 256 pixels, and all layers are smooth

Layer = tuple[np.ndarray, np.ndarray]  # strength 0-1 at each point of the grid, RGB colour


@dataclasses.dataclass(frozen=True)
class Blur:
    """Defocus: Gaussian blur.

    Attributes:
        sigma: range of the standard deviation as a fraction of the image side: 0.004 is one pixel at 256.
        probability: probability that an image is blurred.
    """

    sigma: Range = (0.001, 0.006)
    probability: Share = 0.2
    _sigma_range: tuple[float, float] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sigma_range", parse_range("sigma", self.sigma, minimum=0))

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the blurred image, or `image` itself if it is not blurred."""
        if rng.random() >= self.probability:
            return image
        sigma = draw_uniform(rng, self._sigma_range) * image.shape[0]
        return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.1 else image


@dataclasses.dataclass(frozen=True)
class Halo:
    """Crescent of haze along the rim, as from an eyelid or a small pupil.

    Attributes:
        strength: range of the opacity, 0 to 1.
        radius: range of the distance from the centre, in radii of the retina.
        width: range of the width, in radii of the retina.
        probability: probability that an image has a halo.
    """

    strength: Range = (0.2, 0.7)
    radius: Range = (0.8, 1.05)
    width: Range = (0.08, 0.25)
    probability: Share = 0.1
    _ranges: dict[str, tuple[float, float]] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set_ranges(self, strength=0, radius=0, width=0.01)

    def layers(self, rng: np.random.Generator) -> Iterator[Layer]:
        """Draw the layer of one halo."""
        strength, radius, width = (draw_uniform(rng, self._ranges[n]) for n in ("strength", "radius", "width"))
        x, y = _grid_points(rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08))
        angle = rng.uniform(0, 2 * np.pi)
        ring = np.exp(-(((np.hypot(x, y) - radius) / width) ** 2))
        crescent = (0.5 + 0.5 * np.cos(np.arctan2(y, x) - angle)) ** rng.uniform(0.3, 3)
        warmth = rng.random()
        yield strength * ring * crescent, np.array([250, 190 + 25 * warmth, 230 - 100 * warmth])


@dataclasses.dataclass(frozen=True)
class Hole:
    """Dark shadow with a soft edge.

    Attributes:
        strength: range of the opacity, 0 to 1.
        size: range of the radius, in radii of the retina.
        probability: probability that an image has a shadow.
    """

    strength: Range = (0.4, 0.9)
    size: Range = (0.12, 0.35)
    probability: Share = 0.1
    _ranges: dict[str, tuple[float, float]] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set_ranges(self, strength=0, size=0.01)

    def layers(self, rng: np.random.Generator) -> Iterator[Layer]:
        """Draw the layer of one shadow."""
        strength, size = (draw_uniform(rng, self._ranges[n]) for n in ("strength", "size"))
        yield strength * np.exp(-((_distances_from_random_point(rng, size) / size) ** 2)), np.array([14, 6, 3])


@dataclasses.dataclass(frozen=True)
class Spot:
    """Spots of dust on the lens, most of them bright.

    Attributes:
        count: largest number of spots in an image.
        strength: range of the opacity, 0 to 1.
        size: range of the radius, in radii of the retina.
        dark: fraction of dark spots.
        probability: probability that an image has spots.
    """

    count: Count = 5
    strength: Range = (0.2, 0.7)
    size: Range = (0.03, 0.09)
    dark: Share = 0.3
    probability: Share = 0.1
    _ranges: dict[str, tuple[float, float]] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set_ranges(self, strength=0, size=0.02)

    def layers(self, rng: np.random.Generator) -> Iterator[Layer]:
        """Draw a layer for each spot."""
        for _ in range(rng.integers(1, self.count, endpoint=True)):
            strength, size = (draw_uniform(rng, self._ranges[n]) for n in ("strength", "size"))
            edge = (_distances_from_random_point(rng, size) - size) / (0.2 * size)
            disc = 1 / (1 + np.exp(np.clip(edge, -30, 30)))
            grey = rng.uniform(20, 50) if rng.random() < self.dark else rng.uniform(190, 245)
            yield strength * disc, grey * np.array([1, 0.94, 0.86])


def add_artifacts(image: np.ndarray, artifacts: Sequence[Halo | Hole | Spot], rng: np.random.Generator) -> np.ndarray:
    """Draw which of the artifacts an image has, and blend all their layers into it in one pass.

    Args:
        image: uint8 RGB [side, side, 3] of a retina that fills the square.

    Returns:
        A new image, or `image` itself if it has no artifact.
    """
    layers = [layer for artifact in artifacts if rng.random() < artifact.probability for layer in artifact.layers(rng)]
    if not layers:
        return image
    transmission, light = np.ones((_GRID, _GRID), np.float32), np.zeros((_GRID, _GRID, 3), np.float32)
    for strength, colour in layers:
        remaining = (1 - np.clip(strength, 0, 1)).astype(np.float32)
        transmission *= remaining
        light = light * remaining[..., None] + (1 - remaining)[..., None] * colour.astype(np.float32)
    size, middle = image.shape[1::-1], image.shape[0] / 2
    mask = field_mask(image, (middle, middle, _MASK_RADIUS * middle))
    factor = cv2.cvtColor(_enlarged(255 * transmission, size), cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.multiply(image, factor, scale=1 / 255), cv2.copyTo(_enlarged(light, size), mask))


def _enlarged(grid, size):
    return cv2.resize(np.rint(grid).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)


def _grid_points(x0=0.0, y0=0.0):
    """x and y of each point of the grid relative to (x0, y0), in radii of the retina."""
    at = (np.arange(_GRID, dtype=np.float32) + 0.5) / _GRID * 2 - 1
    return (at - x0)[None, :], (at - y0)[:, None]


def _distances_from_random_point(rng, size):
    """Distance of each grid point from a random centre at which an artifact of this size lies within the retina."""
    angle, radius = rng.uniform(0, 2 * np.pi), max(0.0, 0.95 - size) * np.sqrt(rng.random())
    return np.hypot(*_grid_points(radius * np.cos(angle), radius * np.sin(angle)))


def _set_ranges(artifact, **minimum):
    ranges = {name: parse_range(name, getattr(artifact, name), minimum=least) for name, least in minimum.items()}
    object.__setattr__(artifact, "_ranges", ranges)
