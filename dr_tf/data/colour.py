"""Colour augmentation: brightness, contrast, saturation and hue as one matrix, applied and rounded once."""

import dataclasses

import cv2
import numpy as np

from dr_tf.data.ranges import Range, draw_uniform, parse_range
from dr_tf.parameters import Share

_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
# A colour is the sum of its grey and its chroma. Saturation scales the chroma; hue rotates it in the chroma plane of YIQ.
_GREY = _FROM_YIQ @ np.diag([1, 0, 0]) @ _TO_YIQ
_CHROMA = np.eye(3) - _GREY
_CHROMA_ROTATED = _FROM_YIQ @ np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ _TO_YIQ
_RETINA_AREA = np.pi / 4  # fraction of the square: the mean of an image includes its black surround
_LARGEST_GAIN = 6  # times a pixel's own grey: enough for the reddest retina, and black stays black


@dataclasses.dataclass(frozen=True)
class Colour:
    """Random brightness, contrast, saturation and hue.

    A range is a pair (low, high), or a number v for the range of v to either side of the value that changes nothing.

    Attributes:
        brightness: range of the brightness factor.
        contrast: range of the contrast factor.
        saturation: range of the saturation factor.
        hue: range of the hue rotation in degrees.
        probability: probability that the colours of an image are changed, all four together.
    """

    brightness: Range = (1.0, 1.0)
    contrast: Range = (1.0, 1.0)
    saturation: Range = (1.0, 1.0)
    hue: Range = 0.0
    probability: Share = 1.0
    _ranges: dict[str, tuple[float, float]] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        factors = ("brightness", "contrast", "saturation")
        ranges = {name: parse_range(name, getattr(self, name), neutral=1, minimum=0) for name in factors}
        object.__setattr__(self, "_ranges", ranges | {"hue": parse_range("hue", self.hue)})

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image with random colours, or `image` itself if they are not changed."""
        if rng.random() >= self.probability:
            return image
        return adjust_colour(image, **{name: draw_uniform(rng, limits) for name, limits in self._ranges.items()})


def adjust_colour(
    image: np.ndarray, *, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0, hue: float = 0.0
) -> np.ndarray:
    """Change brightness, contrast, saturation and hue of a uint8 RGB image.

    Contrast is scaled about the mean grey of the retina. Hue rotates colours about grey and keeps their luma.

    Args:
        image: uint8 RGB [side, side, 3] of a retina that fills the square.
        brightness: factor of all channels.
        contrast: factor of the distance from the mean grey.
        saturation: factor of the distance from grey.
        hue: rotation in degrees.
    """
    angle = np.deg2rad(hue)
    matrix = np.zeros((3, 4), np.float32)
    matrix[:, :3] = _GREY + saturation * (np.cos(angle) * _CHROMA + np.sin(angle) * _CHROMA_ROTATED)
    matrix *= brightness * contrast
    offset = 0.0
    if contrast != 1:
        offset = (1 - contrast) * brightness * float(_LUMA @ cv2.mean(image)[:3]) / _RETINA_AREA
    matrix[:, 3] = offset  # saturation and hue do not change grey, so the offset need not go through them
    result = cv2.transform(image, matrix)
    if offset < 1:
        return result
    # The offset would lift the black surround, too.
    ceiling = cv2.convertScaleAbs(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), alpha=_LARGEST_GAIN)
    return cv2.min(result, cv2.cvtColor(ceiling, cv2.COLOR_GRAY2RGB))
