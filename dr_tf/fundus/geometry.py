"""Map points between a crop and its original, for example to draw a heatmap on the original photograph."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dr_tf.fundus.border import Border


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where a square crop lies on its original.

    All but `size` is in pixel-edge coordinates of the upright original: pixel i covers [i, i + 1].

    Attributes:
        width: of the original in pixels.
        height: of the original in pixels.
        circle: centre x, centre y and radius of the border of the retina.
        rectangle: left, top, right and bottom of the part that was cut out.
        padding: left, top, right and bottom: the black that was added to make the rectangle a square.
        size: pixels on a side of the crop.
    """

    width: int
    height: int
    circle: tuple[float, float, float]
    rectangle: tuple[int, int, int, int]
    padding: tuple[int, int, int, int]
    size: int

    @property
    def square(self) -> tuple[int, int, int]:
        """Return (left, top, side) of the square that the crop shows: the rectangle and its padding."""
        left, top, right, _ = self.rectangle
        return left - self.padding[0], top - self.padding[1], right - left + self.padding[0] + self.padding[2]

    def to_crop(self, points: ArrayLike) -> np.ndarray:
        """Map points [..., 2] of the original to the crop."""
        left, top, side = self.square
        return (np.asarray(points, np.float64) - (left, top)) * (self.size / side)

    def to_original(self, points: ArrayLike) -> np.ndarray:
        """Map points [..., 2] of the crop to the original."""
        left, top, side = self.square
        return np.asarray(points, np.float64) * (side / self.size) + (left, top)

    @property
    def circle_on_crop(self) -> tuple[float, float, float]:
        """Return centre x, centre y and radius of the border of the retina on the crop."""
        left, top, side = self.square
        x, y, radius = self.circle
        scale = self.size / side
        return (x - left) * scale, (y - top) * scale, radius * scale


def square_around(border: Border, *, reduction: int, width: int, height: int, size: int) -> Geometry:
    """Pad a border's rectangle to a square whose centre is as near to the circle's centre as possible.

    Args:
        border: the border on a copy of the original at 1/`reduction` of its size.
        reduction: how many times the original is larger than that copy.
        width: of the original in pixels.
        height: of the original in pixels.
        size: pixels on a side of the crop.
    """
    left, top, right, bottom = (int(v) for v in border.rectangle)
    side = max(right - left, bottom - top)
    pad_left = _pad_before(left, right, side, border.circle[0])
    pad_top = _pad_before(top, bottom, side, border.circle[1])
    pad_right, pad_bottom = side - (right - left) - pad_left, side - (bottom - top) - pad_top
    x, y, radius = (float(v) * reduction for v in border.circle)
    return Geometry(
        width=width,
        height=height,
        circle=(x, y, radius),
        rectangle=(left * reduction, top * reduction, right * reduction, bottom * reduction),
        padding=(pad_left * reduction, pad_top * reduction, pad_right * reduction, pad_bottom * reduction),
        size=size,
    )


def _pad_before(start: int, end: int, side: int, centre: float) -> int:
    return int(np.clip(round(start - (centre - side / 2)), 0, side - (end - start)))
