"""Drawing in float layers: noise, soft polygons, smooth curves. Positions are pixel-edge coordinates."""

import cv2
import numpy as np

# OpenCV draws at fixed-point positions; four fractional bits are enough that nothing snaps to the pixel grid.
_SHIFT = 4


def fixed(points):
    """Pixel-edge float points as the fixed-point, pixel-centre integers that OpenCV wants."""
    return np.round((np.asarray(points) - 0.5) * (1 << _SHIFT)).astype(np.int32)


def fill_all(layer, mask, outlines, values):
    """Fills outlines (count, points, 2): with soft edges and `values` into the layer, as ones into the mask."""
    soft, hard = fixed(outlines), np.floor(outlines).astype(np.int32)
    for fine, coarse, value in zip(soft, hard, values, strict=True):
        cv2.fillPoly(layer, [fine], float(value), lineType=cv2.LINE_AA, shift=_SHIFT)
        cv2.fillPoly(mask, [coarse], 1)


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
    """A uint8 layer blurred, as float32 in 0..1; blurring bytes takes a third of the time that blurring floats does."""
    return cv2.GaussianBlur(layer, (0, 0), sigma).astype(np.float32) * np.float32(1 / 255)


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


def blobs(rng, centres, radii, *, stretch=1.0, angle=0.0, roughness=0.2):
    """Closed irregular outlines (count, 18, 2) of about these radii, drawn out by `stretch` along `angle`."""
    radii = np.asarray(radii, float)[:, None]
    turn = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    harmonic = np.array([2, 3, 5])[:, None, None]
    phase, height = rng.uniform(0, 2 * np.pi, (3, len(radii), 1)), rng.normal(0, 1 / harmonic, (3, len(radii), 1))
    reach = radii * np.maximum(0.3, 1 + roughness * (height * np.cos(harmonic * turn + phase)).sum(0))
    stretch, angle = (np.broadcast_to(value, len(radii))[:, None] for value in (stretch, angle))
    x, y, cos, sin = reach * np.cos(turn) * stretch, reach * np.sin(turn), np.cos(angle), np.sin(angle)
    return np.stack([x * cos - y * sin, x * sin + y * cos], 2) + np.reshape(centres, (-1, 1, 2))


def blob(rng, centre, radius, **shape):
    """One of `blobs`."""
    return blobs(rng, [centre], [radius], **shape)[0]


def smooth(paths, rounds=3):
    """Chaikin's corner cutting on paths (count, points, 2): smooth curves from few control points, ends kept."""
    for _ in range(rounds):
        first, second = paths[:, :-1], paths[:, 1:]
        cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], 2)
        paths = np.concatenate([paths[:, :1], cut.reshape(len(paths), -1, 2), paths[:, -1:]], 1)
    return paths


def wander(rng, starts, angles, lengths, *, steps=20, bend=0.15, stiff=0.0, steer=None, pull=0.0):
    """Many walks at once, as an array (walks, steps + 1, 2): curvature drifts, so paths meander, never zigzag.

    `stiff` brings the heading back to its course: the walk snakes along where it would curl up. `steer(points)` gives
    the heading that the course is drawn to, with strength `pull` per step.
    """
    points = np.empty((len(starts), steps + 1, 2))
    points[:, 0] = starts
    heading, curve = np.array(angles, float), rng.normal(0, bend, len(starts))
    course = heading.copy()
    stride = np.asarray(lengths, float) / steps
    for step in range(steps):
        curve = 0.75 * curve + rng.normal(0, bend * 0.6, len(starts)) - stiff * (heading - course)
        heading = heading + curve
        if steer is not None:
            course = course + pull * np.sin(steer(points[:, step]) - course)
        points[:, step + 1] = points[:, step] + stride[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    return points
