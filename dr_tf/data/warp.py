"""Geometric augmentation: rotation, shift, zoom, shear and flips as one affine warp, so that an image is resampled once."""

import dataclasses

import cv2
import numpy as np

from dr_tf.data.ranges import Range, draw_uniform, parse_range
from dr_tf.parameters import Share

_CV2_FLIP_CODES = {(True, False): 1, (False, True): 0, (True, True): -1}  # of (horizontal, vertical)


@dataclasses.dataclass(frozen=True)
class Warp:
    """Random rotation, shift, zoom, shear and flips.

    A range is a pair (low, high), or a number v for the range of v to either side of the value that changes nothing.

    Attributes:
        rotation: range of the angle in degrees.
        shift: range of the shift in each direction, as a fraction of the image side.
        zoom: range of the factor; 2 shows the middle half twice as large.
        shear: range of the slope in each direction.
        flip_horizontal: probability of a horizontal flip.
        flip_vertical: probability of a vertical flip.
        probability: probability that an image is rotated, shifted, zoomed and sheared, all together.
    """

    rotation: Range = 0.0
    shift: Range = 0.0
    zoom: Range = (1.0, 1.0)
    shear: Range = 0.0
    flip_horizontal: Share = 0.0
    flip_vertical: Share = 0.0
    probability: Share = 1.0
    _ranges: dict[str, tuple[float, float]] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ranges = {name: parse_range(name, getattr(self, name)) for name in ("rotation", "shift", "shear")}
        ranges["zoom"] = parse_range("zoom", self.zoom, neutral=1, minimum=0.01)
        object.__setattr__(self, "_ranges", ranges)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the warped image, or `image` itself if nothing is to be done."""
        flips = bool(rng.random() < self.flip_horizontal), bool(rng.random() < self.flip_vertical)
        matrix, shift = self._draw(rng) if rng.random() < self.probability else (np.eye(2), np.zeros(2))
        if not shift.any() and np.array_equal(matrix, np.eye(2)):
            return cv2.flip(image, _CV2_FLIP_CODES[flips]) if any(flips) else image
        return warp_image(image, matrix @ np.diag([-1.0 if flip else 1.0 for flip in flips]), shift)

    def _draw(self, rng):
        angle = np.deg2rad(draw_uniform(rng, self._ranges["rotation"]))
        zoom = draw_uniform(rng, self._ranges["zoom"])
        shear = np.array([[1, draw_uniform(rng, self._ranges["shear"])], [draw_uniform(rng, self._ranges["shear"]), 1]])
        shift = np.array([draw_uniform(rng, self._ranges["shift"]) for _ in range(2)])
        cos, sin = np.cos(angle), np.sin(angle)
        return zoom * np.array([[cos, -sin], [sin, cos]]) @ shear, shift


def warp_image(image: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Apply an affine transformation about the centre of a uint8 RGB image.

    Args:
        image: uint8 RGB [height, width, 3].
        matrix: [2, 2]; a point p relative to the centre (x to the right, y down) moves to matrix @ p + shift.
        shift: (x, y) as fractions of the width and the height.

    Returns:
        An image of the same size, black where the input has no pixels.
    """
    height, width = image.shape[:2]
    middle = np.array([width - 1, height - 1]) / 2
    (a, b), (c, d) = matrix
    inverse = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
    start = middle - inverse @ (middle + shift * (width, height))
    # OpenCV warps four channels in half the time that it takes for three.
    four_channels = cv2.warpAffine(
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA),
        np.column_stack([inverse, start]),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return cv2.cvtColor(four_channels, cv2.COLOR_RGBA2RGB)
