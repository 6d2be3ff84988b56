"""One retina while it is being drawn: geometry, densities, vessels, masks, and room for lesions."""

import dataclasses

import cv2
import numpy as np

from dr_tf.fundus.synthesis import brushes
from dr_tf.fundus.synthesis.anatomy import Layout, Traits
from dr_tf.fundus.synthesis.background import Density
from dr_tf.fundus.synthesis.vessels import Branch


@dataclasses.dataclass
class Scene:
    """Grows as painters add to it. Every mask is cut to what the camera shows."""

    layout: Layout
    traits: Traits
    density: Density
    arteries: list[Branch]
    veins: list[Branch]
    masks: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.ground = self._ground()

    def _ground(self):
        """Places (pixels) where a lesion may lie: every fourth pixel that is well inside the field and off the disc."""
        side, margin = self.layout.side, max(2, self.layout.side // 40)
        framed = cv2.copyMakeBorder(self.layout.visible[2::4, 2::4], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        inside = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1] * 4 > margin
        x, y = self.layout.axes(self.layout.disc)
        inside &= (x[:, 2::4] ** 2 + y[2::4] ** 2) > (1.25 * self.layout.disc_radius) ** 2
        rows, columns = np.nonzero(inside)
        return np.minimum(np.stack([columns, rows], 1) * 4 + 2.5, side - 0.5)

    def room(self, where=None):
        """The ground, or the part of it where `where(points in units)` holds."""
        if where is None:
            return self.ground
        return self.ground[where((self.ground - self.layout.fovea) / self.layout.unit)]

    def place(self, rng, radii, *, where=None, gap=2.5, taken=None):
        """Circles (count, 3: x, y, radius; pixels) with `gap` between them and the `taken`; at times fewer."""
        ground, old = self.room(where), 0 if taken is None else len(taken)
        circles = np.zeros((old + len(radii), 3))
        circles[:old] = taken if old else 0
        count = old
        for radius in radii if len(ground) else ():
            for candidate in ground[rng.integers(0, len(ground), 30)] + rng.uniform(-2, 2, (30, 2)):
                apart = np.hypot(*(circles[:count, :2] - candidate).T) - circles[:count, 2]
                if count == 0 or apart.min() > radius + gap:
                    circles[count] = *candidate, radius
                    count += 1
                    break
        return circles[old:count]

    def layer(self):
        return np.zeros((self.layout.side, self.layout.side), np.uint8)

    def paint(self, outlines, *, weights, soft, values, name=None):
        """Adds filled outlines (count, points, 2; pixels) to the density and, under `name`, to the masks."""
        if not len(outlines):
            return
        layer, mask = self.layer(), self.layer()
        brushes.fill_all(layer, mask, outlines, 255 * np.asarray(values))
        self.density.add(brushes.soften(layer, soft), weights)
        if name:
            self.mark(name, mask)

    def mark(self, name, mask):
        mask = mask.astype(np.uint8) & self.layout.visible
        self.masks[name] = self.masks[name] | mask if name in self.masks else mask


def quadrant(index):
    """The test for one quadrant around the fovea: 0 upper temporal, 1 upper nasal, 2 lower temporal, 3 lower nasal."""
    horizontal, vertical = (1 if index % 2 else -1), (1 if index // 2 else -1)
    return lambda points: (points[:, 0] * horizontal > 0.02) & (points[:, 1] * vertical > 0.02)
