"""A retina while it is being painted: geometry, densities, vessels, masks, and free places for lesions."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from dr_tf.fundus.synthesis import drawing
from dr_tf.fundus.synthesis.anatomy import Layout, Traits
from dr_tf.fundus.synthesis.background import Density
from dr_tf.fundus.synthesis.vessels import Branch

Where = Callable[[np.ndarray], np.ndarray]  # points [n, 2] in units from the fovea -> bool [n]


@dataclasses.dataclass
class Scene:
    """The state that painters change. Every mask is limited to what the camera shows.

    Attributes:
        layout: geometry of the eye.
        traits: of the patient.
        density: optical density of all that has been painted.
        arteries: branches of the arterial tree.
        veins: branches of the venous tree.
        masks: {lesion or finding: uint8 mask of 0 and 1}.
    """

    layout: Layout
    traits: Traits
    density: Density
    arteries: list[Branch]
    veins: list[Branch]
    masks: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lesion_places = self._find_lesion_places()

    def _find_lesion_places(self) -> np.ndarray:
        """Return where a lesion may lie, in pixels: every fourth pixel well inside the field and off the optic disc."""
        side, margin = self.layout.side, max(2, self.layout.side // 40)
        framed = cv2.copyMakeBorder(
            self.layout.visible[2::4, 2::4], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0)
        )
        is_free = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1] * 4 > margin
        x, y = self.layout.axes(self.layout.disc)
        is_free &= (x[:, 2::4] ** 2 + y[2::4] ** 2) > (1.25 * self.layout.disc_radius) ** 2
        rows, columns = np.nonzero(is_free)
        return np.minimum(np.stack([columns, rows], 1) * 4 + 2.5, side - 0.5)

    def lesion_places(self, where: Where | None = None) -> np.ndarray:
        """Return the places [n, 2] in pixels where a lesion may lie and `where` holds."""
        if where is None:
            return self._lesion_places
        return self._lesion_places[where((self._lesion_places - self.layout.fovea) / self.layout.unit)]

    def place(
        self,
        rng: np.random.Generator,
        radii: Sequence[float] | np.ndarray,
        *,
        where: Where | None = None,
        gap: float = 2.5,
        taken: np.ndarray | None = None,
    ) -> np.ndarray:
        """Place circles at random without overlap.

        Args:
            rng: the random generator.
            radii: in pixels.
            where: limits the places.
            gap: pixels between two circles.
            taken: circles that are there already.

        Returns:
            [count, 3] of centre x, centre y, radius in pixels: fewer than `radii` if there is no room.
        """
        places, n_taken = self.lesion_places(where), 0 if taken is None else len(taken)
        circles = np.zeros((n_taken + len(radii), 3))
        if taken is not None and n_taken:
            circles[:n_taken] = taken
        count = n_taken
        for radius in radii if len(places) else ():
            for candidate in places[rng.integers(0, len(places), 30)] + rng.uniform(-2, 2, (30, 2)):
                distance = np.hypot(*(circles[:count, :2] - candidate).T) - circles[:count, 2]
                if count == 0 or distance.min() > radius + gap:
                    circles[count] = *candidate, radius
                    count += 1
                    break
        return circles[n_taken:count]

    def layer(self) -> np.ndarray:
        """Return an empty uint8 canvas."""
        return np.zeros((self.layout.side, self.layout.side), np.uint8)

    def paint(
        self,
        outlines: np.ndarray | Sequence[np.ndarray],
        *,
        weights: Sequence[float] | np.ndarray,
        soft: float,
        values: ArrayLike | Iterable[float],
        name: str | None = None,
    ) -> None:
        """Add filled outlines to the density.

        Args:
            outlines: [count, points, 2] in pixels.
            weights: density in red, green and blue.
            soft: sigma of the blur in pixels.
            values: strength of each outline, 0 to 1.
            name: the mask to which the outlines are added, if any.
        """
        if not len(outlines):
            return
        layer, mask = self.layer(), self.layer()
        drawing.fill_all(layer, mask, np.asarray(outlines), 255 * np.asarray(values))
        self.density.add(drawing.soften(layer, soft), weights)
        if name:
            self.mark(name, mask)

    def mark(self, name: str, mask: np.ndarray) -> None:
        """Add a mask to the mask of that name."""
        mask = mask.astype(np.uint8) & self.layout.visible
        self.masks[name] = self.masks[name] | mask if name in self.masks else mask


def quadrant(index: int) -> Where:
    """Return the test for a quadrant around the fovea.

    Quadrants are 0 upper temporal, 1 upper nasal, 2 lower temporal, 3 lower nasal.
    """
    horizontal, vertical = (1 if index % 2 else -1), (1 if index // 2 else -1)
    return lambda points: (points[:, 0] * horizontal > 0.02) & (points[:, 1] * vertical > 0.02)
