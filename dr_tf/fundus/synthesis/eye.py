"""Render one eye: its geometry, its retina and its photograph, with the positions of everything on it."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from dr_tf.fundus.synthesis import anatomy, cameras, retina
from dr_tf.fundus.synthesis.grading import LesionPlan


@dataclasses.dataclass(frozen=True)
class Eye:
    """A synthetic photograph and its ground truth. Positions are pixel-edge coordinates of the image.

    Attributes:
        image: uint8 RGB, as decoded from the JPEG.
        eye: "left" or "right".
        grade: ICDR grade, 0 to 4.
        dme: risk of diabetic macular edema, 0 to 2.
        labels: 0 or 1 for each of N D G C A H M O.
        camera: a name in CAMERAS.
        circle: centre x, centre y, radius of the retina's border.
        disc: centre x, centre y, radius of the optic disc.
        fovea: x, y.
        masks: {lesion: uint8 mask of 0 and 1}; lesions that are absent have no mask.
        jpeg: the file.
    """

    image: np.ndarray
    eye: str
    grade: int
    dme: int
    labels: tuple[int, ...]
    camera: str
    circle: tuple[float, float, float]
    disc: tuple[float, float, float]
    fovea: tuple[float, float]
    masks: dict[str, np.ndarray]
    jpeg: bytes = dataclasses.field(repr=False)

    def encode(self) -> bytes:
        """Return the JPEG file that decodes to `image`."""
        return self.jpeg


def _dme_risk(layout: anatomy.Layout, masks: dict[str, np.ndarray]) -> int:
    exudates = masks.get("hard_exudates")
    if exudates is None or not exudates.any():
        return 0
    x, y = layout.axes()
    return 2 if (exudates & (x * x + y * y <= (2 * layout.disc_radius) ** 2)).any() else 1


def render_eye(
    rng: np.random.Generator,
    *,
    eye: str,
    traits: anatomy.Traits,
    plan: LesionPlan,
    grade: int,
    letters: Sequence[str],
    camera: str,
    side: int,
    visit: ArrayLike,
    labels: tuple[int, ...],
) -> Eye:
    """Paint one eye and take its photograph.

    Args:
        rng: the random generator.
        eye: "left" or "right".
        traits: of the patient.
        plan: the lesions of diabetic retinopathy.
        grade: ICDR grade that the plan was drawn for.
        letters: the findings.
        camera: a name in CAMERAS.
        side: diameter of the retina's circle in pixels.
        visit: normal deviates that the photographs of a visit share.
        labels: the eye's labels in the order N D G C A H M O.
    """
    layout_rng, anatomy_rng, lesion_rng, finding_rng, camera_rng = rng.spawn(5)
    shot = cameras.draw_shot(camera_rng, cameras.CAMERAS[camera], side)

    def mirror(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array[:, ::-1]) if eye == "left" else array

    layout = anatomy.draw_layout(
        layout_rng, traits, side=side, field=shot.field, gaze=shot.gaze, visible=mirror(shot.visible)
    )
    light, scene = retina.paint((anatomy_rng, lesion_rng, finding_rng), layout, traits, plan, letters)
    jpeg = cameras.take_photograph(camera_rng, shot, [mirror(plane) for plane in light], traits.pigment, visit)
    image = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB))

    def to_image(point: np.ndarray) -> tuple[float, float]:
        x, y = point
        return float(shot.corner[0] + (side - x if eye == "left" else x)), float(shot.corner[1] + y)

    masks = {name: cameras.place_in_frame(shot, mirror(mask)) for name, mask in scene.masks.items() if mask.any()}
    return Eye(
        image=image,
        eye=eye,
        grade=grade,
        dme=_dme_risk(layout, scene.masks),
        labels=labels,
        camera=camera,
        circle=(shot.corner[0] + side / 2, shot.corner[1] + side / 2, side / 2),
        disc=(*to_image(layout.disc_pixels), layout.disc_radius * layout.unit),
        fovea=to_image(layout.fovea),
        masks=masks,
        jpeg=jpeg,
    )
