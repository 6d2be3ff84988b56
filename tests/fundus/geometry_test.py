"""Points map between crop and original and back, and padding centres the circle."""

import unittest

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dr_tf.fundus.border import Border
from dr_tf.fundus.geometry import Geometry, square_around
from dr_tf.fundus.prepare import crop

IDRID = Geometry(4288, 2848, (2000.0, 1424.0, 1700.0), (300, 0, 3700, 2848), (0, 276, 0, 276), 340)


@st.composite
def geometries(draw):
    """Draw the geometry of any circle and rectangle in any frame, decoded at any reduction."""
    reduction = draw(st.sampled_from((1, 2, 4, 8)))
    width, height = (draw(st.integers(16, 2000)) for _ in range(2))
    left, top = draw(st.integers(0, width - 8)), draw(st.integers(0, height - 8))
    rectangle = (left, top, draw(st.integers(left + 8, width)), draw(st.integers(top + 8, height)))
    circle = (draw(st.floats(-500, 2500)), draw(st.floats(-500, 2500)), draw(st.floats(4, 2000)))
    extra = draw(st.integers(0, reduction - 1))
    return square_around(
        Border(circle, rectangle, 1.0),
        reduction=reduction,
        width=width * reduction + extra,
        height=height * reduction + extra,
        size=draw(st.integers(16, 1024)),
    )


points = st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=8)


class RoundTripTest(unittest.TestCase):
    @given(geometries(), points)
    def test_any_point_maps_to_the_crop_and_back(self, geometry, points):
        np.testing.assert_allclose(geometry.to_original(geometry.to_crop(points)), points, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(geometry.to_crop(geometry.to_original(points)), points, rtol=1e-9, atol=1e-6)

    @given(geometries())
    def test_the_circle_maps_with_its_centre_and_radius(self, geometry):
        x, y, radius = geometry.circle
        (cx, cy), (rim, _) = geometry.to_crop([(x, y), (x + radius, y)])
        np.testing.assert_allclose(geometry.circle_on_crop, (cx, cy, rim - cx), rtol=1e-9, atol=1e-6)

    @given(geometries())
    def test_corners_of_the_square_are_corners_of_the_crop(self, geometry):
        left, top, side = geometry.square
        corners = geometry.to_crop([(left, top), (left + side, top + side)])
        np.testing.assert_allclose(corners, [(0, 0), (geometry.size,) * 2], atol=1e-9)


class SquareTest(unittest.TestCase):
    @given(geometries())
    def test_is_the_rectangle_with_padding_on_one_axis_only(self, geometry):
        left, top, right, bottom = geometry.rectangle
        before_x, before_y, after_x, after_y = geometry.padding
        self.assertGreaterEqual(min(geometry.padding), 0)
        self.assertEqual(right - left + before_x + after_x, bottom - top + before_y + after_y)
        self.assertEqual(0, min(before_x + after_x, before_y + after_y))
        self.assertTrue(0 <= left < right <= geometry.width and 0 <= top < bottom <= geometry.height)

    def test_padding_centres_the_circle(self):
        # 100 wide, 60 high, cut evenly: 20 rows above and below
        border = Border((60.0, 50.0, 50.0), (10, 20, 110, 80), 1.0)
        geometry = square_around(border, reduction=1, width=120, height=100, size=50)
        self.assertEqual(geometry.padding, (0, 20, 0, 20))
        self.assertEqual(geometry.square, (10, 0, 100))
        self.assertEqual(geometry.circle_on_crop, (25.0, 25.0, 25.0))

    def test_uneven_cuts_are_padded_unevenly(self):
        # the top 30 rows of the circle are missing, the bottom 10
        border = Border((60.0, 50.0, 50.0), (10, 30, 110, 90), 1.0)
        geometry = square_around(border, reduction=1, width=120, height=100, size=100)
        self.assertEqual(geometry.padding, (0, 30, 0, 10))
        self.assertEqual(geometry.circle_on_crop, (50.0, 50.0, 50.0))

    def test_a_reduced_decode_gives_coordinates_of_the_original(self):
        border = Border((60.0, 50.0, 50.0), (10, 20, 110, 80), 1.0)
        geometry = square_around(border, reduction=4, width=483, height=401, size=50)
        self.assertEqual(geometry.circle, (240.0, 200.0, 200.0))
        self.assertEqual(geometry.rectangle, (40, 80, 440, 320))
        self.assertEqual(geometry.padding, (0, 80, 0, 80))
        self.assertEqual(geometry.circle_on_crop, (25.0, 25.0, 25.0))


class MappingTest(unittest.TestCase):
    def test_values_computed_by_hand(self):
        # the square is (300, -276, 3400), so ten pixels of the original are one pixel of the crop
        self.assertEqual(IDRID.square, (300, -276, 3400))
        self.assertEqual(IDRID.to_crop((2000, 1424)).tolist(), [170, 170])
        self.assertEqual(IDRID.to_crop([(300, -276), (3700, 0)]).tolist(), [[0, 0], [340, 27.6]])
        self.assertEqual(IDRID.to_original((0, 27.6)).tolist(), [300, 0])
        self.assertEqual(IDRID.circle_on_crop, (170.0, 170.0, 170.0))

    def test_a_mark_on_the_original_maps_to_its_place_on_the_crop(self):
        rgb = np.full((400, 600, 3), 60, np.uint8)
        border = Border((280.0, 210.0, 180.0), (100, 60, 460, 380), 1.0)
        geometry = square_around(border, reduction=1, width=600, height=400, size=120)
        for x, y in ((280, 210), (180, 150), (350, 300)):
            marked = rgb.copy()
            marked[y - 4 : y + 4, x - 4 : x + 4] = 255
            rows, columns = np.nonzero(crop(marked, geometry)[..., 0] > 120)
            centre = columns.mean() + 0.5, rows.mean() + 0.5
            np.testing.assert_allclose(centre, geometry.to_crop((x, y)), atol=0.5)


if __name__ == "__main__":
    unittest.main()
