"""One eye: its geometry, its retina, its photograph, and where everything lies in it."""

import dataclasses

import cv2
import numpy as np

from dr_tf.fundus.synthesis import anatomy, cameras, retina


@dataclasses.dataclass(frozen=True)
class Eye:
    """A photograph with everything known about it. Positions are pixel-edge coordinates of the image."""

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

    def encode(self):
        """The photograph's JPEG file; `image` is what it decodes to."""
        return self.jpeg


def _dme(layout, masks):
    exudates = masks.get("hard_exudates")
    if exudates is None or not exudates.any():
        return 0
    x, y = layout.axes()
    return 2 if (exudates & (x * x + y * y <= (2 * layout.disc_radius) ** 2)).any() else 1


def photograph(rng, *, eye, traits, plan, grade, letters, camera, side, visit, labels):
    """Draws one eye and takes its photograph."""
    geometry, anatomy_rng, lesion_rng, finding_rng, camera_rng = rng.spawn(5)
    style = cameras.CAMERAS[camera]
    shot = cameras.aim(camera_rng, style, side)
    mirror = (lambda array: np.ascontiguousarray(array[:, ::-1])) if eye == "left" else (lambda array: array)
    layout = anatomy.draw_layout(
        geometry, traits, side=side, field=shot.field, gaze=shot.gaze, visible=mirror(shot.visible)
    )
    light, scene = retina.draw((anatomy_rng, lesion_rng, finding_rng), layout, traits, plan, letters)
    jpeg = cameras.develop(camera_rng, shot, [mirror(plane) for plane in light], traits.pigment, visit)
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)

    def locate(point):
        x, y = point
        return float(shot.corner[0] + (side - x if eye == "left" else x)), float(shot.corner[1] + y)

    masks = {name: cameras.frame(shot, mirror(mask)) for name, mask in scene.masks.items() if mask.any()}
    return Eye(
        image=image, eye=eye, grade=grade, dme=_dme(layout, scene.masks), labels=labels, camera=camera,
        circle=(shot.corner[0] + side / 2, shot.corner[1] + side / 2, side / 2),
        disc=(*locate(layout.disc_pixels), layout.disc_radius * layout.unit), fovea=locate(layout.fovea),
        masks=masks, jpeg=jpeg,
    )  # fmt: skip
