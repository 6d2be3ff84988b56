"""Where a crop lies on its original: what draws a heatmap on the photograph that the clinic took."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Geometry:
    """All but `size` in pixel-edge coordinates of the upright original: pixel i reaches from i to i + 1."""

    width: int
    height: int
    circle: tuple[float, float, float]  # centre x, centre y, radius of the retina's border
    rectangle: tuple[int, int, int, int]  # left, top, right, bottom: cut out of the original
    padding: tuple[int, int, int, int]  # left, top, right, bottom: black added to make it a square
    size: int  # pixels on a side of the crop

    @property
    def square(self):
        """(left, top, side) of what the crop shows; padding reaches beyond the rectangle."""
        left, top, right, _ = self.rectangle
        return left - self.padding[0], top - self.padding[1], right - left + self.padding[0] + self.padding[2]

    def to_crop(self, points):
        left, top, side = self.square
        return (np.asarray(points, np.float64) - (left, top)) * (self.size / side)

    def to_original(self, points):
        left, top, side = self.square
        return np.asarray(points, np.float64) * (side / self.size) + (left, top)

    @property
    def circle_on_crop(self):
        left, top, side = self.square
        x, y, radius = self.circle
        scale = self.size / side
        return (x - left) * scale, (y - top) * scale, radius * scale


def square_around(border, *, reduction, width, height, size):
    """The geometry of a crop whose square keeps the circle's centre as near to its own as the rectangle allows."""
    left, top, right, bottom = border.rectangle
    side = max(right - left, bottom - top)
    pad_left = _pad_before(left, right, side, border.circle[0])
    pad_top = _pad_before(top, bottom, side, border.circle[1])
    padding = (pad_left, pad_top, side - (right - left) - pad_left, side - (bottom - top) - pad_top)
    return Geometry(
        width=width,
        height=height,
        circle=tuple(float(v) * reduction for v in border.circle),
        rectangle=tuple(int(v) * reduction for v in border.rectangle),
        padding=tuple(int(v) * reduction for v in padding),
        size=size,
    )


def _pad_before(start, end, side, centre):
    return int(np.clip(round(start - (centre - side / 2)), 0, side - (end - start)))
