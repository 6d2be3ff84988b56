"""What happens to a photograph on its way into training, and in which order.

Every change is a small function of a uint8 RGB photograph and of random numbers; whoever hands over equal numbers gets
equal pixels.
"""

import dataclasses

from dr_tf.data.artifacts import Blur, Halo, Hole, Spot, lay_over
from dr_tf.data.colour import Colour
from dr_tf.data.rand_augment import RandAugment
from dr_tf.data.warp import Warp


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Focus, stray light and shadow, as the camera had them; then colour, the warp, and a policy.

    With `same_for_both_eyes` the eyes of a pair are changed alike, else each in its own way.
    """

    warp: Warp | None = None
    colour: Colour | None = None
    blur: Blur | None = None
    halo: Halo | None = None
    hole: Hole | None = None
    spot: Spot | None = None
    policy: RandAugment | None = None
    same_for_both_eyes: bool = False

    def augment(self, image, rng):
        """uint8 RGB to uint8 RGB of the same size; `image` itself is left as it is."""
        if self.blur:
            image = self.blur(image, rng)
        if faults := [fault for fault in (self.halo, self.hole, self.spot) if fault]:
            image = lay_over(image, faults, rng)
        for change in (self.colour, self.warp):
            if change:
                image = change(image, rng)
        return self.policy.apply(image, rng) if self.policy else image
