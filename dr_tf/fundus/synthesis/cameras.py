"""Camera styles as data, and the photograph that a camera takes of a retina: frame, flash, optics, noise and JPEG."""

import dataclasses

import cv2
import numpy as np
from numpy.typing import ArrayLike

from dr_tf.fundus.synthesis import drawing


@dataclasses.dataclass(frozen=True)
class Camera:
    """One camera style.

    Lengths are relative to the diameter of the retina's circle. Pairs are ranges from which a photograph's value is
    drawn uniformly.

    Attributes:
        frame: width and height of the photograph.
        colour: median RGB inside the circle.
        spread: standard deviations of the logarithm of brightness, green and blue.
        field: angle of view in degrees.
        gaze: how far the centre lies from the fovea towards the optic disc, in disc-fovea distances.
        offset: of the circle from the middle of the frame.
        cut: shares of the circle that are cut off at top, bottom, left, right.
        notch: angles in degrees of tabs at the rim.
        background: RGB outside the circle.
        background_noise: its standard deviation.
        edge: softness of the circle's edge.
        vignette: fall-off of the light towards the rim.
        rim_glow: probability of a crescent of stray light at the rim.
        fringe: lateral chromatic aberration.
        defocus: sigma of the blur.
        sharpen: strength of the camera's sharpening.
        noise: standard deviation of the sensor noise.
        jpeg_quality: of the file.
    """

    frame: tuple[float, float]
    colour: tuple[float, float, float]
    spread: tuple[float, float, float] = (0.18, 0.17, 0.6)
    field: tuple[float, float] = (45.0, 50.0)
    gaze: tuple[float, float] = (0.1, 0.55)
    offset: tuple[float, float] = (0.0, 0.0)
    cut: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    notch: tuple[float, ...] = ()
    background: tuple[float, float, float] = (2.0, 1.0, 1.0)
    background_noise: float = 0.8
    edge: float = 0.002
    vignette: tuple[float, float] = (0.0, 0.5)
    rim_glow: float = 0.4
    fringe: float = 0.0008
    defocus: tuple[float, float] = (0.0008, 0.002)
    sharpen: float = 0.0
    noise: tuple[float, float] = (1.0, 2.5)
    jpeg_quality: tuple[int, int] = (85, 95)


CAMERAS = {
    # Wide frame, circle cut above and below, two tabs at the upper right: like the Kowa VX-10 of IDRiD.
    "wide_cut": Camera(
        frame=(1.2, 0.836), colour=(165, 80, 20), field=(48, 51), offset=(-0.06, 0.0), notch=(-32.5, -27.5),
        background=(3, 1, 2), jpeg_quality=(92, 97),
    ),
    "full_circle": Camera(
        frame=(1.04, 1.04), colour=(150, 78, 42), spread=(0.18, 0.17, 0.35), field=(43, 47), gaze=(0.2, 0.5),
        notch=(45.0,), jpeg_quality=(85, 93),
    ),
    "all_cut": Camera(
        frame=(0.96, 0.9), colour=(178, 88, 38), spread=(0.16, 0.16, 0.4), field=(44, 50), cut=(0.02, 0.02, 0.01, 0.01),
        edge=0.006, vignette=(0.1, 0.4), sharpen=0.5, noise=(0.5, 1.5), jpeg_quality=(75, 90),
    ),
    "grey_noise": Camera(
        frame=(1.3, 0.98), colour=(138, 70, 30), spread=(0.2, 0.17, 0.5), field=(40, 46), gaze=(0.25, 0.5),
        background=(26, 24, 25), background_noise=4.0, edge=0.004, defocus=(0.0014, 0.0032), noise=(2.5, 5.0),
        jpeg_quality=(70, 85),
    ),
    "handheld": Camera(
        frame=(1.25, 1.1), colour=(168, 84, 30), spread=(0.2, 0.16, 0.45), field=(38, 43), gaze=(0.35, 0.55),
        offset=(0.07, 0.03), background=(8, 5, 4), background_noise=1.5, edge=0.012, vignette=(0.2, 0.5), rim_glow=0.7,
        fringe=0.002, defocus=(0.0016, 0.0036), noise=(2.0, 4.5), jpeg_quality=(60, 80),
    ),
    "white_page": Camera(
        frame=(1.1, 1.06), colour=(160, 76, 34), spread=(0.17, 0.16, 0.4), field=(44, 48), background=(252, 252, 252),
        background_noise=0.4, edge=0.003, sharpen=0.3, noise=(0.8, 2.0), jpeg_quality=(80, 92),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shot:
    """The settings of a camera for one photograph: everything that does not depend on the retina.

    Attributes:
        camera: the style.
        side: diameter of the retina's circle in pixels, which is also the side of the canvas.
        size: (width, height) of the photograph in pixels.
        corner: (left, top) of the canvas in the photograph; may be negative.
        field: angle of view in degrees.
        gaze: how far the centre lies from the fovea towards the optic disc.
        visible: uint8 mask of the canvas, 1 where the camera shows retina.
        quality: of the JPEG.
    """

    camera: Camera
    side: int
    size: tuple[int, int]
    corner: tuple[int, int]
    field: float
    gaze: float
    visible: np.ndarray
    quality: int


def draw_shot(rng: np.random.Generator, camera: Camera, side: int) -> Shot:
    """Draw the settings of one photograph whose circle is `side` pixels in diameter."""
    width, height = (round(side * share) for share in camera.frame)
    shift = np.array(camera.offset) * side * rng.choice([-1, 1], 2) if any(camera.offset) else np.zeros(2)
    corner = (round((width - side) / 2 + shift[0]), round((height - side) / 2 + shift[1]))
    return Shot(
        camera=camera,
        side=side,
        size=(width, height),
        corner=corner,
        field=rng.uniform(*camera.field),
        gaze=rng.uniform(*camera.gaze),
        visible=_visible(camera, side, (width, height), corner),
        quality=int(rng.integers(*camera.jpeg_quality, endpoint=True)),
    )


def _visible(camera: Camera, side: int, size: tuple[int, int], corner: tuple[int, int]) -> np.ndarray:
    """Return the mask of the circle without what the camera or the frame cuts off."""
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side * 8 - 8, side * 8 - 8), side * 8, (1,), -1, cv2.LINE_8, 4)
    top, bottom, left, right = (round(side * share) for share in camera.cut)
    top, left = max(top, -corner[1]), max(left, -corner[0])
    bottom, right = max(bottom, corner[1] + side - size[1]), max(right, corner[0] + side - size[0])
    mask[:top], mask[side - bottom :], mask[:, :left], mask[:, side - right :] = 0, 0, 0, 0
    return mask


def _fundus_colour(rng: np.random.Generator, camera: Camera, pigment: float, visit: ArrayLike) -> np.ndarray:
    """Return the RGB colour that this camera gives this eye: mostly that of the visit, so that fellow eyes match."""
    brightness, green, blue = camera.spread * (0.92 * np.asarray(visit) + 0.39 * rng.normal(size=3))
    shift = np.array([0.0, green - 0.05 * pigment, blue + 1.5 * green - 0.1 * pigment])
    colour = np.array(camera.colour) * np.exp(brightness - 0.04 * pigment + shift)
    # No retina is purple: blue never comes near green.
    return np.minimum(colour, (225, 0.6 * colour[0], 0.6 * colour[1]))


def _stray_light(
    rng: np.random.Generator, camera: Camera, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return a crescent of stray light at the rim, if there is one, and its colour relative to the fundus' own."""
    if rng.random() >= camera.rim_glow:
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32), (0.0, 0.0, 0.0)
    r, direction = np.sqrt(x * x + y * y), rng.uniform(0, 2 * np.pi)
    sector = np.clip((x * np.cos(direction) + y * np.sin(direction)) / (r + 1e-6) - rng.uniform(-0.2, 0.6), 0, 1)
    tint = (rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.7), rng.uniform(0.2, 2.0))
    return sector * np.clip((r - rng.uniform(0.6, 0.9)) / 0.35, 0, 1) ** 1.5, tint


def _flash(rng: np.random.Generator, camera: Camera, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return uneven light of mean 1: a fall-off to the rim, a tilt, soft clouds and sometimes a shadow."""
    level = 1 - rng.uniform(*camera.vignette) * (x * x + y * y) + rng.normal(0, 0.14) * x + rng.normal(0, 0.14) * y
    level += drawing.pyramid_noise(rng, len(level), (0.05, 0.05, 0.03), finest=len(level) // 4)
    level = np.clip(level / level.mean(), 0.15, None)
    if rng.random() < 0.25:
        centre = rng.uniform(-0.7, 0.7, 2)
        spot = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * rng.uniform(0.15, 0.5) ** 2))
        level *= 1 - rng.uniform(0.1, 0.35) * spot
    return level


def _illuminate(rng: np.random.Generator, shot: Shot, light: list[np.ndarray], colour: np.ndarray) -> list[np.ndarray]:
    """Return the retina under this flash. Smooth fields are computed at 96 pixels and enlarged."""
    ramp = np.linspace(-1, 1, 96, dtype=np.float32)
    x, y = ramp[None, :], ramp[:, None]
    level, (stray, tint) = _flash(rng, shot.camera, x, y), _stray_light(rng, shot.camera, x, y)

    def enlarge(field: np.ndarray) -> np.ndarray:
        return cv2.resize(field.astype(np.float32), (shot.side, shot.side))

    stray, lit = enlarge(stray), []
    powers = (1.0, rng.uniform(0.8, 1.4), rng.uniform(0.7, 1.5))
    for plane, channel, share, power in zip(light, colour, tint, powers, strict=True):
        lit.append(cv2.scaleAdd(stray, float(channel * share), cv2.multiply(plane, enlarge(channel * level**power))))
    return lit


def _chromatic_aberration(light: list[np.ndarray], share: float) -> list[np.ndarray]:
    """Magnify red a little more than green, and blue a little less."""
    red, green, blue = light
    side = len(green)

    def magnify(plane: np.ndarray, scale: float) -> np.ndarray:
        shift = (1 - scale) * (side - 1) / 2
        matrix = np.array([[scale, 0, shift], [0, scale, shift]], np.float32)
        return cv2.warpAffine(plane, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)

    return [magnify(red, 1 + share), green, magnify(blue, 1 - share)]


def _optics(rng: np.random.Generator, shot: Shot, light: list[np.ndarray]) -> list[np.ndarray]:
    """Apply chromatic aberration, defocus, sharpening and dust spots on the lens."""
    camera = shot.camera
    light = _chromatic_aberration(light, camera.fringe * rng.uniform(0, 1.5))
    sigma = max(0.3, shot.side * rng.uniform(*camera.defocus))
    light = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in light]
    if camera.sharpen:
        wide = [cv2.GaussianBlur(plane, (0, 0), shot.side / 250) for plane in light]
        light = [
            cv2.addWeighted(a, 1 + camera.sharpen, b, -camera.sharpen, 0) for a, b in zip(light, wide, strict=True)
        ]
    for _ in range(rng.poisson(0.5)):
        spot = np.zeros((shot.side, shot.side), np.uint8)
        drawing.fill(
            spot, drawing.blob(rng, rng.uniform(0.1, 0.9, 2) * shot.side, shot.side * rng.uniform(0.003, 0.009))
        )
        shade = 1 - rng.uniform(0.05, 0.2) * drawing.soften(spot, shot.side / 200)
        light = [plane * shade for plane in light]
    return light


def _field_stop(shot: Shot) -> np.ndarray:
    """Return the coverage, 0 to 1, of what the field stop lets through, tabs included."""
    side = shot.side
    mask = shot.visible * np.uint8(255)
    for degrees in shot.camera.notch:
        outward = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        across = np.array([-outward[1], outward[0]]) * side * 0.016
        inner, outer = side / 2 + outward * side * 0.48, side / 2 + outward * side * 0.51
        drawing.fill(mask, [inner - across, outer - across * 0.6, outer + across * 0.6, inner + across])
    return drawing.soften(mask, max(0.5, shot.camera.edge * side / 2))


# (level, slope above it): highlights are compressed in two steps, as film and firmware do.
_HIGHLIGHT_CURVE = ((90.0, 0.55), (150.0, 0.3))


def _sensor_noise(rng: np.random.Generator, height: int, width: int) -> list[np.ndarray]:
    """Return noise of standard deviation 1 for three channels.

    They are shifted windows of one plane of sums of two random bytes, which is cheaper than normal deviates.
    """
    dice = np.frombuffer(rng.bytes(2 * (height + 40) * (width + 40)), np.uint8).reshape(2, height + 40, width + 40)
    plane = (dice.sum(0, dtype=np.float32) - 255) * np.float32(1 / 104.5)
    return [plane[shift : shift + height, shift : shift + width] for shift in (0, 17, 40)]


def take_photograph(
    rng: np.random.Generator, shot: Shot, light: list[np.ndarray], pigment: float, visit: ArrayLike
) -> bytes:
    """Return the JPEG file of a retina's photograph.

    Args:
        rng: the random generator.
        shot: the camera's settings.
        light: red, green and blue planes of the retina on the canvas.
        pigment: of the patient's fundus.
        visit: normal deviates of brightness, green and blue that the photographs of a visit share.
    """
    camera, (width, height) = shot.camera, shot.size
    light = _optics(rng, shot, _illuminate(rng, shot, light, _fundus_colour(rng, camera, pigment, visit)))
    field_stop = place_in_frame(shot, _field_stop(shot))
    level = camera.background_noise + field_stop * (rng.uniform(*camera.noise) - camera.background_noise)
    planes = []
    for plane, outside, noise in zip(light, camera.background, _sensor_noise(rng, height, width), strict=True):
        for base, slope in _HIGHLIGHT_CURVE:
            plane = np.minimum(plane, base + slope * plane)
        retina = field_stop * (place_in_frame(shot, plane) - outside)
        planes.append(cv2.convertScaleAbs(retina + outside + level * noise))
    return cv2.imencode(".jpg", cv2.merge(planes[::-1]), [cv2.IMWRITE_JPEG_QUALITY, shot.quality])[1].tobytes()


def place_in_frame(shot: Shot, canvas: np.ndarray) -> np.ndarray:
    """Return an array of the photograph's size with the square canvas in its place and zeros around it."""
    (width, height), (left, top), side = shot.size, shot.corner, shot.side
    frame = np.zeros((height, width), canvas.dtype)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    frame[y0:y1, x0:x1] = canvas[y0 - top : y1 - top, x0 - left : x1 - left]
    return frame
