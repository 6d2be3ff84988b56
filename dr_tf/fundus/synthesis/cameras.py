"""Camera styles as data, and what a camera does to the light of a retina: border, illumination, optics, noise, JPEG."""

import dataclasses

import cv2
import numpy as np

from dr_tf.fundus.synthesis import brushes


@dataclasses.dataclass(frozen=True)
class Camera:
    """One camera style. Lengths are shares of the circle's diameter; pairs are ranges that are drawn from evenly.

    colour is the median RGB inside the circle; spread the deviation of its logarithm (brightness, green, blue);
    cut the shares of the circle lost at (top, bottom, left, right); notch the angles (degrees) of tabs at the rim.
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
    # Wide frame, circle cut above and below, two tabs at the upper right: the look of IDRiD's Kowa VX-10.
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
    """One setting of a camera for one eye: everything about the photograph that has nothing to do with the retina."""

    camera: Camera
    side: int
    size: tuple[int, int]
    corner: tuple[int, int]
    field: float
    gaze: float
    visible: np.ndarray
    quality: int


def aim(rng, camera, side):
    """Draws a shot: frame, the circle's place in it, field of view and what of the circle is visible."""
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


def _visible(camera, side, size, corner):
    """uint8 mask of the canvas: the circle, less what the camera or the frame cuts off."""
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side * 8 - 8, side * 8 - 8), side * 8, 1, -1, cv2.LINE_8, 4)
    top, bottom, left, right = (round(side * share) for share in camera.cut)
    top, left = max(top, -corner[1]), max(left, -corner[0])
    bottom, right = max(bottom, corner[1] + side - size[1]), max(right, corner[0] + side - size[0])
    mask[:top], mask[side - bottom :], mask[:, :left], mask[:, side - right :] = 0, 0, 0, 0
    return mask


def _cast(rng, camera, pigment, visit):
    """The colour that this camera gives this eye: mostly that of the visit (normal deviates), so fellow eyes match."""
    brightness, green, blue = camera.spread * (0.92 * np.asarray(visit) + 0.39 * rng.normal(size=3))
    shift = np.array([0.0, green - 0.05 * pigment, blue + 1.5 * green - 0.1 * pigment])
    colour = np.array(camera.colour) * np.exp(brightness - 0.04 * pigment + shift)
    # No retina is purple: blue never comes near green.
    return np.minimum(colour, (225, 0.6 * colour[0], 0.6 * colour[1]))


def _stray(rng, camera, x, y):
    """Often there is a crescent of stray light at the rim; returns it and its colour as shares of the fundus' own."""
    if rng.random() >= camera.rim_glow:
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32), (0.0, 0.0, 0.0)
    r, toward = np.sqrt(x * x + y * y), rng.uniform(0, 2 * np.pi)
    sector = np.clip((x * np.cos(toward) + y * np.sin(toward)) / (r + 1e-6) - rng.uniform(-0.2, 0.6), 0, 1)
    tint = (rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.7), rng.uniform(0.2, 2.0))
    return sector * np.clip((r - rng.uniform(0.6, 0.9)) / 0.35, 0, 1) ** 1.5, tint


def _flash(rng, camera, x, y):
    """Uneven light of mean 1: fall-off to the rim, a tilt, soft clouds, at times a shadow."""
    level = 1 - rng.uniform(*camera.vignette) * (x * x + y * y) + rng.normal(0, 0.14) * x + rng.normal(0, 0.14) * y
    level += brushes.pyramid_noise(rng, len(level), (0.05, 0.05, 0.03), finest=len(level) // 4)
    level = np.clip(level / level.mean(), 0.15, None)
    if rng.random() < 0.25:
        at = rng.uniform(-0.7, 0.7, 2)
        spot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * rng.uniform(0.15, 0.5) ** 2))
        level *= 1 - rng.uniform(0.1, 0.35) * spot
    return level


def _illuminate(rng, shot, light, colour):
    """Light of the retina under this flash; all that is smooth is computed small and enlarged."""
    ramp = np.linspace(-1, 1, 96, dtype=np.float32)
    x, y = ramp[None, :], ramp[:, None]
    level, (stray, tint) = _flash(rng, shot.camera, x, y), _stray(rng, shot.camera, x, y)
    enlarge = lambda field: cv2.resize(field.astype(np.float32), (shot.side, shot.side))  # noqa: E731
    stray, lit = enlarge(stray), []
    powers = (1.0, rng.uniform(0.8, 1.4), rng.uniform(0.7, 1.5))
    for plane, own, share, power in zip(light, colour, tint, powers, strict=True):
        lit.append(cv2.scaleAdd(stray, float(own * share), cv2.multiply(plane, enlarge(own * level**power))))
    return lit


def _fringe(light, share):
    """Lateral colour: red is magnified a little more than green, blue a little less."""
    red, green, blue = light
    side = len(green)

    def magnify(plane, scale):
        shift = (1 - scale) * (side - 1) / 2
        matrix = np.array([[scale, 0, shift], [0, scale, shift]], np.float32)
        return cv2.warpAffine(plane, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)

    return [magnify(red, 1 + share), green, magnify(blue, 1 - share)]


def _optics(rng, shot, light):
    camera = shot.camera
    light = _fringe(light, camera.fringe * rng.uniform(0, 1.5))
    sigma = max(0.3, shot.side * rng.uniform(*camera.defocus))
    light = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in light]
    if camera.sharpen:
        wide = [cv2.GaussianBlur(plane, (0, 0), shot.side / 250) for plane in light]
        light = [
            cv2.addWeighted(a, 1 + camera.sharpen, b, -camera.sharpen, 0) for a, b in zip(light, wide, strict=True)
        ]
    for _ in range(rng.poisson(0.5)):
        spot = np.zeros((shot.side, shot.side), np.uint8)
        brushes.fill(
            spot, brushes.blob(rng, rng.uniform(0.1, 0.9, 2) * shot.side, shot.side * rng.uniform(0.003, 0.009))
        )
        shade = 1 - rng.uniform(0.05, 0.2) * brushes.soften(spot, shot.side / 200)
        light = [plane * shade for plane in light]
    return light


def _opening(shot):
    """The field stop as soft coverage 0..1 of the canvas, tabs included."""
    side = shot.side
    mask = shot.visible * np.uint8(255)
    for degrees in shot.camera.notch:
        out = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        across = np.array([-out[1], out[0]]) * side * 0.016
        inner, outer = side / 2 + out * side * 0.48, side / 2 + out * side * 0.51
        brushes.fill(mask, [inner - across, outer - across * 0.6, outer + across * 0.6, inner + across])
    return brushes.soften(mask, max(0.5, shot.camera.edge * side / 2))


# Straight up to 200, then flatter in two steps: highlights roll off on film and in firmware.
_SHOULDER = ((90.0, 0.55), (150.0, 0.3))


def _grain(rng, height, width):
    """Sensor noise of deviation 1 for three channels: windows of one plane of two bytes' sums (normals cost more)."""
    dice = np.frombuffer(rng.bytes(2 * (height + 40) * (width + 40)), np.uint8).reshape(2, height + 40, width + 40)
    plane = (dice.sum(0, dtype=np.float32) - 255) * np.float32(1 / 104.5)
    return [plane[at : at + height, at : at + width] for at in (0, 17, 40)]


def develop(rng, shot, light, pigment, visit):
    """The photograph of a retina's light (planes, canvas), as the bytes of a JPEG file."""
    camera, (width, height) = shot.camera, shot.size
    light = _optics(rng, shot, _illuminate(rng, shot, light, _cast(rng, camera, pigment, visit)))
    opening = frame(shot, _opening(shot))
    level = camera.background_noise + opening * (rng.uniform(*camera.noise) - camera.background_noise)
    planes = []
    for plane, outside, grain in zip(light, camera.background, _grain(rng, height, width), strict=True):
        for base, slope in _SHOULDER:
            plane = np.minimum(plane, base + slope * plane)
        planes.append(cv2.convertScaleAbs(opening * (frame(shot, plane) - outside) + outside + level * grain))
    return cv2.imencode(".jpg", cv2.merge(planes[::-1]), [cv2.IMWRITE_JPEG_QUALITY, shot.quality])[1].tobytes()


def frame(shot, canvas):
    """A mask of the square canvas as one of the whole photograph."""
    (width, height), (left, top), side = shot.size, shot.corner, shot.side
    photo = np.zeros((height, width), canvas.dtype)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    photo[y0:y1, x0:x1] = canvas[y0 - top : y1 - top, x0 - left : x1 - left]
    return photo
