"""Draw simple fundus photographs in the framing of different cameras, with a known circle."""

import io

import cv2
import numpy as np
from PIL import Image

_RETINA = np.array([178, 92, 44], np.float32)
_OPTIC_DISC = np.array([245, 190, 120], np.float32)
_BLOOD = np.array([0.5, 0.9, 0.8], np.float32)  # share of red, green and blue that it absorbs


def draw_fundus(
    *,
    size=(960, 720),
    centre=None,
    radius=310.0,
    shown=None,
    notch=None,
    background=0,
    noise=0.0,
    text="",
    brightness=1.0,
    reflections=0,
    glow=0.0,
    vessels=True,
    colour=True,
    seed=0,
):
    """Return an RGB image of `size` (width, height) with a retina of `radius` around `centre` (pixel-edge coordinates).

    `shown` (left, top, right, bottom) is the part of the circle that the camera's mask leaves visible, `notch` the
    angle in degrees of a tab at the rim, and `glow` the brightness beside the rim relative to the retina.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    cx, cy = centre or (width / 2, height / 2)
    x = (np.arange(width, dtype=np.float32) + 0.5 - cx)[None, :] / radius
    y = (np.arange(height, dtype=np.float32) + 0.5 - cy)[:, None] / radius
    distance = np.hypot(x, y)

    image = _tissue(rng, (cx, cy), radius, x, y)
    if vessels:
        image *= 1 - _vessels(rng, image.shape[:2], (cx, cy), radius) * _BLOOD
    if not colour:
        image[:] = image.mean(-1, keepdims=True)
    image *= (brightness * (1.05 - 0.35 * distance**2))[..., None]
    for angle in rng.uniform(0, 2 * np.pi, reflections):  # crescents of light that lie across the rim
        near = np.hypot(x - 0.97 * np.cos(angle), y - 0.97 * np.sin(angle))
        image += 200 * np.exp(-((near / 0.09) ** 2))[..., None]

    inside = np.clip((1 - distance) * radius + 0.5, 0, 1)
    if notch is not None:
        angle = np.deg2rad(notch)
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        inside = np.maximum(inside, (along > 0.9) & (along < 1.07) & (np.abs(across) < 0.06))
    if shown is not None:
        left, top, right, bottom = shown
        frame = np.zeros((height, width), np.float32)
        frame[top:bottom, left:right] = 1
        inside = inside * frame
    light = glow * 0.3 * np.exp(-np.maximum(distance - 1, 0) * 6)[..., None] * brightness * _RETINA
    image = image * inside[..., None] + np.maximum(light, background) * (1 - inside[..., None])
    image += rng.normal(0, 1.5 + noise, image.shape)
    image = np.clip(image, 0, 255).astype(np.uint8)
    if text:
        ink = (0, 0, 0) if background > 128 else (255, 255, 255)
        cv2.putText(image, text, (8, height - 12), cv2.FONT_HERSHEY_SIMPLEX, height / 600, ink, 2, cv2.LINE_AA)
    return image


def _tissue(rng, centre, radius, x, y):
    """Return orange tissue with soft mottling, a bright optic disc and a dark macula."""
    shape = y.shape[0], x.shape[1]
    mottle = cv2.resize(rng.normal(0, 1, (24, 32)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), max(1.0, radius / 250))
    image = _RETINA * (1 + 0.04 * mottle + 0.025 * grain / grain.std())[..., None]
    disc = np.clip(8 * (0.16 - np.hypot(x - 0.5, y)), 0, 1)[..., None]
    macula = np.exp(-((np.hypot(x + 0.1, y - 0.05) / 0.2) ** 2))[..., None]
    return ((image * (1 - disc) + _OPTIC_DISC * disc) * (1 - 0.35 * macula)).astype(np.float32)


def _vessels(rng, shape, centre, radius):
    """Return how much light the vessels absorb: arcades that leave the optic disc and fork until they are thin."""
    blood = np.zeros(shape, np.float32)
    branches = [(np.add(centre, (0.5 * radius, 0)), a, 0.022) for a in (-1.9, -2.4, 1.9, 2.4, -0.9, 0.9)]
    while branches:
        at, angle, thickness = branches.pop()
        for _ in range(8):
            angle += rng.normal(0, 0.12)
            ahead = at + 0.07 * radius * np.array([np.cos(angle), np.sin(angle)])
            ends = [tuple(round(16 * v) for v in p) for p in (at, ahead)]
            cv2.line(blood, *ends, 15 * thickness + 0.1, max(1, round(thickness * radius)), cv2.LINE_8, 4)
            at = ahead
        if thickness > 0.006:
            branches += [(at, angle + turn, 0.62 * thickness) for turn in (-0.45, 0.4)]
    return cv2.GaussianBlur(blood, (0, 0), max(0.5, radius / 250))[..., None]


def encode(rgb, kind, **options):
    """Return `rgb` as a file of a format of Pillow, with Pillow's options."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, kind, **options)
    return stream.getvalue()


def jpeg(rgb, quality=95, **options):
    return encode(rgb, "JPEG", quality=quality, **options)
