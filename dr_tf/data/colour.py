"""Brightness, contrast, saturation and hue as one matrix: a photograph is gone over once, and rounded once."""

import dataclasses

import cv2
import numpy as np

from dr_tf.data.ranges import check_probabilities, draw, span

_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
# A colour is its grey and its chroma; saturation scales the chroma, hue turns it (in YIQ, where it is a plane).
_GREY = _FROM_YIQ @ np.diag([1, 0, 0]) @ _TO_YIQ
_CHROMA = np.eye(3) - _GREY
_CHROMA_TURNED = _FROM_YIQ @ np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ _TO_YIQ
_RETINA = np.pi / 4  # of the square: the mean of a photograph is over its black surround, too
_LIFT = 6  # times a pixel's own grey: enough for the reddest retina, and what is black stays so


@dataclasses.dataclass(frozen=True)
class Colour:
    """Brightness, contrast and saturation are factors, hue an angle in degrees.

    A number v is a range of v to either side of none; a pair is (low, high). They happen together, with `probability`.
    """

    brightness: float | tuple = (1.0, 1.0)
    contrast: float | tuple = (1.0, 1.0)
    saturation: float | tuple = (1.0, 1.0)
    hue: float | tuple = 0.0
    probability: float = 1.0

    def __post_init__(self):
        check_probabilities(self, "probability")
        factors = ("brightness", "contrast", "saturation")
        spans = {name: span(name, getattr(self, name), about=1, least=0) for name in factors}
        object.__setattr__(self, "_spans", spans | {"hue": span("hue", self.hue)})

    def __call__(self, image, rng):
        if rng.random() >= self.probability:
            return image
        return recoloured(image, **{name: draw(rng, span) for name, span in self._spans.items()})


def recoloured(image, *, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
    """Contrast is about the mean grey of the retina; hue turns colours about grey and leaves their grey as it is."""
    angle = np.deg2rad(hue)
    matrix = np.zeros((3, 4), np.float32)
    matrix[:, :3] = _GREY + saturation * (np.cos(angle) * _CHROMA + np.sin(angle) * _CHROMA_TURNED)
    matrix *= brightness * contrast
    offset = 0.0
    if contrast != 1:
        offset = (1 - contrast) * brightness * float(_LUMA @ cv2.mean(image)[:3]) / _RETINA
    matrix[:, 3] = offset  # grey is left alone by saturation and hue, so it need not go through them
    result = cv2.transform(image, matrix)
    if offset < 1:
        return result
    ceiling = cv2.convertScaleAbs(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), alpha=_LIFT)
    return cv2.min(result, cv2.cvtColor(ceiling, cv2.COLOR_GRAY2RGB))
