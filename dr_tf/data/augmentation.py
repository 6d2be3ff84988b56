"""Data augmentation of training images: camera, colour, geometry and an optional RandAugment policy, in this order.

Every step is a pure function of a uint8 RGB image and a random number generator: equal generators give equal pixels.
"""

import dataclasses

import numpy as np

from dr_tf.data.artifacts import Blur, Halo, Hole, Spot, add_artifacts
from dr_tf.data.camera import FieldOfView, Resolution, ToneCurve
from dr_tf.data.colour import Colour
from dr_tf.data.rand_augment import RandAugment
from dr_tf.data.warp import Warp


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images. A step that is None is left out.

    What a camera does comes first, in the order in which it does so; then colour, geometry and the policy.

    Attributes:
        warp: rotation, shift, zoom, shear and flips.
        colour: brightness, contrast, saturation and hue.
        field: black above and below a chord.
        blur: defocus.
        halo: haze along the rim.
        hole: dark shadow.
        spot: dust on the lens.
        tone: gain and gamma of each channel.
        resolution: loss of detail, and JPEG.
        policy: RandAugment, applied last.
        same_for_both_eyes: whether both eyes of a patient get the same random numbers; each its own by default.
    """

    warp: Warp | None = None
    colour: Colour | None = None
    field: FieldOfView | None = None
    blur: Blur | None = None
    halo: Halo | None = None
    hole: Hole | None = None
    spot: Spot | None = None
    tone: ToneCurve | None = None
    resolution: Resolution | None = None
    policy: RandAugment | None = None
    same_for_both_eyes: bool = False

    def augment(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment a uint8 RGB image. The input is not modified; it is returned itself if nothing changes it."""
        image = _in_turn(image, rng, self.field, self.blur)
        if artifacts := [artifact for artifact in (self.halo, self.hole, self.spot) if artifact]:
            image = add_artifacts(image, artifacts, rng)
        image = _in_turn(image, rng, self.tone, self.resolution, self.colour, self.warp)
        return self.policy.apply(image, rng) if self.policy else image

    def augment_mask(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Warp a uint8 mask [height, width] as `augment` warps its image with an equal generator. The policy is left out."""
        if not self.warp:
            return mask
        # The steps before the warp draw as many numbers for any image.
        dataclasses.replace(self, warp=None, policy=None).augment(np.zeros((8, 8, 3), np.uint8), rng)
        return self.warp(np.repeat(mask[..., None], 3, axis=-1), rng)[..., 0]


def _in_turn(image, rng, *steps):
    for step in steps:
        if step:
            image = step(image, rng)
    return image
