"""Augmentation by the differences between cameras: tone curve of each colour channel, resolution, JPEG, cut field of view."""

import dataclasses

import cv2
import numpy as np

from dr_tf.data.ranges import Range, draw_uniform, parse_range
from dr_tf.parameters import Share


@dataclasses.dataclass(frozen=True)
class ToneCurve:
    """Tone curve of each channel, 255 * gain * (value / 255)**gamma, as sensor, flash and white balance change it.

    The red, the green and the blue channel get their own gain and gamma, around one that they share. Black stays black.

    Attributes:
        gain: range of the factor that all channels share.
        gamma: range of the exponent that all channels share.
        channel_gain: range of the further factor of each channel.
        channel_gamma: range of the further exponent of each channel.
        probability: probability that an image is changed.
    """

    gain: Range = (0.8, 1.25)
    gamma: Range = (0.8, 1.25)
    channel_gain: Range = (0.8, 1.25)
    channel_gamma: Range = (0.85, 1.2)
    probability: Share = 0.5
    _ranges: dict[str, tuple[float, float]] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = ("gain", "gamma", "channel_gain", "channel_gamma")
        ranges = {name: parse_range(name, getattr(self, name), neutral=1, minimum=0.01) for name in names}
        object.__setattr__(self, "_ranges", ranges)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image with random tone curves, or `image` itself if it is not changed."""
        if rng.random() >= self.probability:
            return image
        gain = draw_uniform(rng, self._ranges["gain"]) * self._of_channels("channel_gain", rng)
        gamma = draw_uniform(rng, self._ranges["gamma"]) * self._of_channels("channel_gamma", rng)
        values = 255 * gain * (np.arange(256)[:, None] / 255) ** gamma
        return cv2.LUT(image, np.rint(np.minimum(values, 255)).astype(np.uint8)[None])

    def _of_channels(self, name, rng):
        return np.array([draw_uniform(rng, self._ranges[name]) for _ in range(3)])


@dataclasses.dataclass(frozen=True)
class Resolution:
    """Loss of detail: the image is made smaller, compressed as JPEG and enlarged again.

    Attributes:
        scale: range of the factor of the side. Small factors are as likely as large ones: its logarithm is uniform.
        quality: range of the JPEG quality, 1 to 100.
        probability: probability that an image is changed.
    """

    scale: Range = (0.5, 1.0)
    quality: Range = (50, 95)
    probability: Share = 0.5
    _ranges: dict[str, tuple[float, float]] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        scale = parse_range("scale", self.scale, neutral=1, minimum=0.05)
        quality = parse_range("quality", self.quality, neutral=100, minimum=1)
        object.__setattr__(self, "_ranges", {"log_scale": tuple(np.log(scale)), "quality": quality})

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image with less detail, or `image` itself if it is not changed."""
        if rng.random() >= self.probability:
            return image
        side = max(8, round(image.shape[0] * np.exp(draw_uniform(rng, self._ranges["log_scale"]))))
        quality = round(draw_uniform(rng, self._ranges["quality"]))
        enlarge_by = rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])  # cameras and records differ in it
        small = cv2.cvtColor(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
        compressed = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        small = np.asarray(cv2.imdecode(compressed, cv2.IMREAD_COLOR_RGB))
        return cv2.resize(small, image.shape[1::-1], interpolation=int(enlarge_by))


@dataclasses.dataclass(frozen=True)
class FieldOfView:
    """Cut field of view: black above and below a chord, as on sensors that are less high than the retina's circle.

    Attributes:
        height: range of the distance of each chord from the centre, in radii of the retina.
        probability: probability that an image is cut.
    """

    height: Range = (0.7, 1.0)
    probability: Share = 0.3
    _height_range: tuple[float, float] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_height_range", parse_range("height", self.height, neutral=1, minimum=0))

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the cut image, or `image` itself if it is not cut."""
        if rng.random() >= self.probability:
            return image
        middle = image.shape[0] / 2
        above, below = (round(middle * (1 - min(1.0, draw_uniform(rng, self._height_range)))) for _ in range(2))
        image = image.copy()
        image[:above] = 0
        image[image.shape[0] - below :] = 0
        return image
