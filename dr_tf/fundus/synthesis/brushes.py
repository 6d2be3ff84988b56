"""Drawing in float layers: noise, soft polygons, smooth curves. Positions are pixel-edge coordinates."""

import cv2
import numpy as np

# OpenCV draws at fixed-point positions; four fractional bits are enough that nothing snaps to the pixel grid.
_SHIFT = 4


def fixed(points):
    """Pixel-edge float points as the fixed-point, pixel-centre integers that OpenCV wants."""
    return np.round((np.asarray(points) - 0.5) * (1 << _SHIFT)).astype(np.int32)


def fill(layer, polygon, value=255):
    """Fills one polygon with a soft edge."""
    cv2.fillPoly(layer, [fixed(polygon)], value, lineType=cv2.LINE_AA, shift=_SHIFT)


def stroke_fixed(layer, points, thickness, value):
    """Draws one open polyline of `fixed` points with a soft edge."""
    cv2.polylines(layer, [points], False, value, thickness, cv2.LINE_AA, _SHIFT)


def stroke(layer, points, thickness, value=255):
    """Draws one open polyline with a soft edge."""
    stroke_fixed(layer, fixed(points), int(thickness), value)


def soften(layer, sigma):
    """A uint8 layer as float32 in 0..1, blurred."""
    layer = layer.astype(np.float32) * np.float32(1 / 255)
    return cv2.GaussianBlur(layer, (0, 0), sigma) if sigma > 0 else layer


def pyramid_noise(rng, side, amplitudes, *, finest=1):
    """Noise whose octaves have the given amplitudes, coarse first; the last has a cell of `finest` pixels.

    Doubling from level to level costs a third more than the last level alone.
    """
    sizes = [max(2, -(-side // (finest << level))) for level in range(len(amplitudes))][::-1]
    noise = None
    for size, amplitude in zip(sizes, amplitudes, strict=True):
        grain = rng.standard_normal((size, size), dtype=np.float32) * np.float32(amplitude)
        noise = grain if noise is None else cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) + grain
    return noise if noise.shape[0] == side else cv2.resize(noise, (side, side))


def blob(rng, centre, radius, *, stretch=1.0, angle=0.0, roughness=0.2):
    """A closed irregular outline of about `radius`, drawn out by `stretch` along `angle`."""
    turn = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    wave = sum(rng.normal() / k * np.cos(k * turn + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    reach = radius * np.maximum(0.3, 1 + roughness * wave)
    x, y = reach * np.cos(turn) * stretch, reach * np.sin(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x * cos - y * sin, x * sin + y * cos], 1) + centre


def smooth(points, rounds=3):
    """Chaikin's corner cutting: a smooth curve from a few control points, ends kept."""
    points = np.asarray(points, float)
    for _ in range(rounds):
        first, second = points[:-1], points[1:]
        cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return points


def wander(rng, starts, angles, lengths, *, steps=20, bend=0.15, steer=None, pull=0.0):
    """Many walks at once, as an array (walks, steps + 1, 2): curvature drifts, so paths meander, never zigzag.

    `steer(points)` gives the heading each walk is drawn to, with strength `pull` per step.
    """
    points = np.empty((len(starts), steps + 1, 2))
    points[:, 0] = starts
    heading, curve = np.array(angles, float), rng.normal(0, bend, len(starts))
    stride = np.asarray(lengths, float) / steps
    for step in range(steps):
        curve = 0.75 * curve + rng.normal(0, bend * 0.6, len(starts))
        heading = heading + curve
        if steer is not None:
            heading = heading + pull * np.sin(steer(points[:, step]) - heading)
        points[:, step + 1] = points[:, step] + stride[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    return points
