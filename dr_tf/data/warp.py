"""Rotation, shift, zoom, shear and flips as one warp: a photograph is resampled once, whatever happens to it."""

import dataclasses

import cv2
import numpy as np

from dr_tf.data.ranges import check_probabilities, draw, span

_FLIPS = {(True, False): 1, (False, True): 0, (True, True): -1}


@dataclasses.dataclass(frozen=True)
class Warp:
    """Rotation in degrees, shift in sides, zoom a factor (2 shows half of it twice as large), shear a slope.

    A number v is a range of v to either side of none; a pair is (low, high). They happen together, with `probability`;
    each flip has its own.
    """

    rotation: float | tuple = 0.0
    shift: float | tuple = 0.0
    zoom: float | tuple = (1.0, 1.0)
    shear: float | tuple = 0.0
    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0
    probability: float = 1.0

    def __post_init__(self):
        check_probabilities(self, "flip_horizontal", "flip_vertical", "probability")
        about = {"rotation": (0, None), "shift": (0, None), "zoom": (1, 0.01), "shear": (0, None)}
        spans = {n: span(n, getattr(self, n), about=a, least=least) for n, (a, least) in about.items()}
        object.__setattr__(self, "_spans", spans)

    def __call__(self, image, rng):
        flips = bool(rng.random() < self.flip_horizontal), bool(rng.random() < self.flip_vertical)
        matrix, shift = self._draw(rng) if rng.random() < self.probability else (np.eye(2), np.zeros(2))
        if not shift.any() and np.array_equal(matrix, np.eye(2)):
            return cv2.flip(image, _FLIPS[flips]) if any(flips) else image
        return warped(image, matrix @ np.diag([-1.0 if flip else 1.0 for flip in flips]), shift)

    def _draw(self, rng):
        angle = np.deg2rad(draw(rng, self._spans["rotation"]))
        zoom = draw(rng, self._spans["zoom"])
        shear = np.array([[1, draw(rng, self._spans["shear"])], [draw(rng, self._spans["shear"]), 1]])
        shift = np.array([draw(rng, self._spans["shift"]) for _ in range(2)])
        cos, sin = np.cos(angle), np.sin(angle)
        return zoom * np.array([[cos, -sin], [sin, cos]]) @ shear, shift


def warped(image, matrix, shift):
    """What lies at p from the middle comes to matrix @ p + shift (in sides); x to the right, y down, black beyond."""
    height, width = image.shape[:2]
    middle = np.array([width - 1, height - 1]) / 2
    (a, b), (c, d) = matrix
    back = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
    start = middle - back @ (middle + shift * (width, height))
    # OpenCV warps four channels in half the time that it takes for three.
    four = cv2.warpAffine(
        cv2.cvtColor(image, cv2.COLOR_RGB2RGBA),
        np.column_stack([back, start]),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    return cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)
