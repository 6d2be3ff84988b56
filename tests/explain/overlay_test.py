"""Maps are drawn at the position of their crop on the original."""

import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.explain.overlay import COLORMAPS, map_on_original, overlay, overlay_on_crop
from dr_tf.fundus.geometry import Geometry

# A retina in the middle of a wide image, and one that the camera cut off at the top and bottom.
WHOLE = Geometry(200, 100, (100.0, 50.0, 50.0), (50, 0, 150, 100), (0, 0, 0, 0), 64)
CUT = Geometry(200, 60, (100.0, 30.0, 50.0), (50, 0, 150, 60), (0, 20, 0, 20), 64)
HOT = np.array([[0, 0], [0, 1]], np.float32)


class PlacementTest(unittest.TestCase):
    def test_position_of_the_crop(self):
        placed = map_on_original(HOT, WHOLE)
        self.assertEqual(placed.shape, (100, 200))
        self.assertGreater(placed[74, 124], 0.98)  # the middle of the crop's lower right quarter is (125, 75)
        self.assertLess(placed[74, 74], 0.02)
        self.assertLess(placed[24, 124], 0.02)

    def test_centre_of_each_cell_keeps_its_value(self):
        values = np.random.default_rng(0).uniform(0, 1, (4, 4)).astype(np.float32)
        large = Geometry(2000, 1000, (1000.0, 500.0, 500.0), (500, 0, 1500, 1000), (0, 0, 0, 0), 256)
        placed = map_on_original(values, large)
        for (row, column), value in np.ndenumerate(values[1:3, 1:3]):
            x, y = large.to_original((np.array((column, row)) + 1.5) * 256 / 4)
            self.assertAlmostEqual(placed[int(y), int(x)], value, delta=0.02)

    def test_padding_is_removed(self):
        placed = map_on_original(HOT, CUT)
        self.assertEqual(placed.shape, (60, 200))
        # The crop's rows 0 to 100 are the original's -20 to 80: the hot quarter's middle is at row 55.
        self.assertGreater(placed[54, 124], 0.98)
        self.assertLess(placed[5, 124], 0.02)

    def test_0_outside_the_crop(self):
        placed = map_on_original(np.ones((2, 2)), WHOLE)
        away = np.hypot(*np.meshgrid(np.arange(200) + 0.5 - 100, np.arange(100) + 0.5 - 50))
        self.assertTrue((placed[away > 50] == 0).all())
        np.testing.assert_allclose(placed[away < 48], 1, atol=1e-5)
        outside = Geometry(200, 100, (100.0, 50.0, 50.0), (60, 0, 150, 100), (10, 0, 0, 0), 64)
        self.assertTrue((map_on_original(np.ones((2, 2)), outside)[:, :60] == 0).all())

    def test_resized_original(self):
        half = map_on_original(HOT, WHOLE, width=100)
        self.assertEqual(half.shape, (50, 100))
        self.assertGreater(half[37, 62], 0.95)


class OverlayTest(unittest.TestCase):
    def setUp(self):
        self.image = np.random.default_rng(0).integers(0, 255, (100, 200, 3), np.uint8)

    def test_empty_map_does_not_change_the_image(self):
        for colormap in COLORMAPS:
            drawn = overlay(self.image, np.zeros((8, 8)), WHOLE, colormap)
            np.testing.assert_array_equal(drawn, self.image)

    def test_no_change_outside_the_retina(self):
        drawn = overlay(self.image, np.ones((8, 8)), WHOLE)
        np.testing.assert_array_equal(drawn[:, :50], self.image[:, :50])
        self.assertTrue((drawn[50, 100] != self.image[50, 100]).any())

    def test_colours_are_rgb(self):
        black = np.zeros((100, 200, 3), np.uint8)
        red, _, blue = overlay(black, np.ones((8, 8)), WHOLE, "jet")[50, 100]
        self.assertGreater(red, 60)  # the end of jet is dark red
        self.assertEqual(blue, 0)

    def test_black_stays_black_on_a_crop(self):
        crop = np.zeros((64, 64, 3), np.uint8)
        crop[16:48, 16:48] = 100
        drawn = overlay_on_crop(crop, np.ones((2, 2)))
        self.assertEqual(drawn[:16].max(), 0)
        self.assertTrue((drawn[32, 32] != 100).any())

    def test_unknown_colormap(self):
        with self.assertRaisesRegex(UserError, "'rainbow'; known: jet, viridis"):
            overlay(self.image, HOT, WHOLE, "rainbow")


if __name__ == "__main__":
    unittest.main()
