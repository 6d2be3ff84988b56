"""Borders found on drawn photographs are compared with the true ones; on IDRiD, with what is known of its camera."""

import os
import pathlib
import unittest

import numpy as np
import pytest

from dr_tf.fundus.border import Border, find_border, inside
from dr_tf.fundus.decode import decode
from dr_tf.fundus.is_fundus import not_fundus_reason
from tests.fundus.synthetic_images import draw_fundus

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = (ROOT / os.environ.get("DR_TF_SHARED", "../shared")).resolve()
IDRID = SHARED / "data/idrid/B. Disease Grading/1. Original Images"

SIZE, RADIUS = (960, 720), 310.0
TOLERANCE = 0.015  # of the radius: centre and radius of the circle, and the rectangle's sides
BANDS = (0, 100, 960, 620)
BOX = (220, 100, 740, 620)
CONDITIONS = {
    "full circle": {},
    "cut at top and bottom": {"shown": BANDS},
    "cut at the bottom only": {"shown": (0, 0, 960, 600)},
    "cut on all sides": {"shown": BOX},
    "cut by the frame": {"radius": 420.0},
    "cut by the frame on all sides": {"radius": 450.0, "size": (800, 720)},
    "off-centre": {"centre": (340.0, 400.0), "radius": 290.0},
    "beyond the frame's edge": {"centre": (200.0, 300.0), "radius": 290.0},
    "small": {"radius": 180.0},
    "upright frame": {"size": (600, 900), "radius": 280.0},
    "tiny photograph": {"size": (96, 80), "radius": 36.0},
    "notch at the corner": {"notch": 40},
    "notch at the side": {"notch": 0},
    "noisy dark-grey background": {"background": 28, "noise": 6.0},
    "noisy, nearly black background": {"background": 12, "noise": 8.0},
    "noisy dark-grey background, dark retina, notch": {"background": 28, "noise": 8.0, "brightness": 0.75, "notch": 100},
    "dark-grey background, cut at top and bottom": {"background": 14, "noise": 4.0, "shown": BANDS},
    "mid-grey background": {"background": 60, "noise": 5.0},
    "mid-grey background, cut at top and bottom": {"background": 60, "noise": 5.0, "shown": BANDS},
    "white background": {"background": 250},
    "noisy white background": {"background": 240, "noise": 5.0},
    "white background, cut at top and bottom": {"background": 255, "shown": BANDS},
    "white background, cut on all sides": {"background": 255, "shown": BOX},
    "white background, dark retina, cut": {"background": 230, "noise": 3.0, "brightness": 0.4, "shown": BANDS},
    "burned-in text": {"text": "OD 1962-04-01 DOE J."},
    "burned-in text on white": {"text": "OD 1962-04-01 DOE J.", "background": 250},
    "dark": {"brightness": 0.15},
    "very dark": {"brightness": 0.07},
    "overexposed": {"brightness": 1.7},
    "reflections at the rim": {"reflections": 6},
    "glow around the rim": {"glow": 0.6},
    "no vessels": {"vessels": False},
    "grey": {"colour": False},
}  # fmt: skip


def true_border(*, size=SIZE, centre=None, radius=RADIUS, shown=None, **_):
    x, y = centre or (size[0] / 2, size[1] / 2)
    left, top, right, bottom = shown or (0, 0, *size)
    rectangle = max(left, x - radius), max(top, y - radius), min(right, x + radius), min(bottom, y + radius)
    return (x, y, radius), rectangle


def idrid(step=1):
    return sorted(IDRID.rglob("*.jpg"))[::step]


class DrawnTest(unittest.TestCase):
    def test_circle_and_rectangle_are_the_true_ones(self):
        for name, condition in CONDITIONS.items():
            with self.subTest(name):
                circle, rectangle = true_border(**condition)
                image = draw_fundus(**{"size": SIZE, "radius": RADIUS, **condition})
                border = find_border(image)
                np.testing.assert_allclose(border.circle, circle, atol=TOLERANCE * circle[2])
                # a pixel of the reduced copy that is searched is several pixels of the image
                atol = TOLERANCE * circle[2] + max(condition.get("size", SIZE)) / 256
                np.testing.assert_allclose(border.rectangle, rectangle, atol=atol)
                self.assertEqual(not_fundus_reason(image, border), "")

    @pytest.mark.slow
    def test_random_mixtures_of_conditions(self):
        """One in twenty may be missed: some leave too little of the border."""
        missed = [seed for seed in range(40) if not _is_found(_random_condition(seed))]
        self.assertLessEqual(len(missed), 2, missed)

    def test_roundness_is_the_share_of_the_visible_arc(self):
        self.assertGreater(find_border(draw_fundus()).roundness, 0.97)
        # cut at 0.8 of the radius: each cut hides 2 acos(0.8) of 2 pi, so 59 % remain
        cut = find_border(draw_fundus(radius=300.0, shown=(0, 120, 960, 600)))
        self.assertAlmostEqual(cut.roundness, 0.59, delta=0.05)
        # what lies beyond the frame is not visible, so nothing is missing
        self.assertGreater(find_border(draw_fundus(radius=420.0)).roundness, 0.97)

    def test_is_the_same_at_every_scale(self):
        circles = []
        for scale in (0.25, 1, 2):
            size = tuple(int(v * scale) for v in SIZE)
            circles.append(np.array(find_border(draw_fundus(size=size, radius=RADIUS * scale)).circle) / scale)
        np.testing.assert_allclose(circles[0], circles[1], atol=TOLERANCE * RADIUS)
        np.testing.assert_allclose(circles[2], circles[1], atol=TOLERANCE * RADIUS)

    def test_is_deterministic_and_does_not_change_the_image(self):
        image = draw_fundus(notch=30, reflections=5)
        before = image.copy()
        self.assertEqual(find_border(image), find_border(image))
        np.testing.assert_array_equal(image, before)


def _random_condition(seed):
    rng = np.random.default_rng(seed)
    width, height = ((640, 480), (480, 640), (600, 600), (800, 500))[rng.integers(4)]
    radius = rng.uniform(0.3, 0.6) * min(width, height)
    x, y = rng.uniform(0.4, 0.6) * width, rng.uniform(0.4, 0.6) * height
    background, noise = ((0, 0), (12, 4), (28, 8), (60, 5), (230, 3), (250, 1))[rng.integers(6)]
    condition = {"size": (width, height), "centre": (x, y), "radius": radius, "background": background, "noise": noise}
    if rng.random() < 0.4:
        reach = rng.uniform(0.75, 0.95) * radius
        condition["shown"] = (0, max(0, int(y - reach)), width, min(height, int(y + reach)))
    if rng.random() < 0.3:
        condition["notch"] = rng.uniform(0, 360)
    if rng.random() < 0.3:
        condition["text"] = "OD DOE J. 1962"
    if rng.random() < 0.3:
        condition["reflections"] = 5
    return {**condition, "brightness": rng.uniform(0.3, 1.4), "seed": seed}


def _is_found(condition):
    circle, rectangle = true_border(**condition)
    border = find_border(draw_fundus(**condition))
    circle_error = np.abs(np.subtract(border.circle, circle)).max()
    rectangle_error = np.abs(np.subtract(border.rectangle, rectangle)).max()
    return circle_error <= TOLERANCE * circle[2] and rectangle_error <= 0.025 * circle[2]


class NoRetinaTest(unittest.TestCase):
    def test_an_empty_image_gives_the_whole_frame(self):
        for level in (0, 3, 120, 255):
            with self.subTest(level=level):
                border = find_border(np.full((60, 80, 3), level, np.uint8))
                self.assertEqual((border.circle, border.rectangle), ((40.0, 30.0, 50.0), (0, 0, 80, 60)))
                self.assertEqual(border.roundness, 0)

    def test_every_image_gives_a_rectangle_within_the_frame(self):
        rng = np.random.default_rng(0)
        for height, width in ((1, 1), (1, 400), (400, 1), (2, 3), (17, 900), (300, 7), (64, 64), (1031, 257)):
            for name, picture in {
                "black": np.zeros((height, width, 3), np.uint8),
                "white": np.full((height, width, 3), 255, np.uint8),
                "noise": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
                "half": np.where(np.arange(width)[None, :, None] < width / 2, 200, 0).repeat(height, 0).repeat(3, 2),
            }.items():
                with self.subTest(name, height=height, width=width):
                    border = find_border(picture.astype(np.uint8))
                    left, top, right, bottom = border.rectangle
                    self.assertTrue(0 <= left < right <= width and 0 <= top < bottom <= height, border)
                    self.assertTrue(np.isfinite(border.circle).all() and border.circle[2] > 0, border)
                    self.assertTrue(0 <= border.roundness <= 1)


class CircleTest(unittest.TestCase):
    def test_inside_counts_pixel_centres(self):
        # radius 1 about the corner that four pixels share: their centres are 0.71 away, the next 1.58
        expected = np.zeros((4, 4), bool)
        expected[1:3, 1:3] = True
        np.testing.assert_array_equal(inside((2.0, 2.0, 1.0), (4, 4)), expected)

    def test_scaled_scales_circle_and_rectangle(self):
        border = Border((10.0, 20.0, 5.0), (5, 15, 15, 25), 0.9).scaled(4)
        self.assertEqual(border, Border((40.0, 80.0, 20.0), (20, 60, 60, 100), 0.9))


@unittest.skipUnless(IDRID.is_dir(), f"no photographs in {IDRID}")
class IdridTest(unittest.TestCase):
    def assert_found(self, paths):
        for path in paths:
            with self.subTest(path.name):
                decoded = decode(path.read_bytes(), side=300)
                border = find_border(decoded.rgb)
                self.assertEqual(not_fundus_reason(decoded.rgb, border), "")
                # All are from one camera with a fixed circle, cut at top and bottom by a frame of 4288 x 2848 pixels.
                x, y, radius = (v * decoded.reduction for v in border.circle)
                self.assertTrue(1650 < radius < 1760, radius)
                self.assertTrue(1900 < x < 2200 and 1350 < y < 1500, (x, y))
                left, top, right, bottom = (v * decoded.reduction for v in border.rectangle)
                self.assertLessEqual(abs(right - left - 2 * radius), 40)
                self.assertTrue(top == 0 and bottom >= 2840)

    def test_every_twentieth_photograph(self):
        self.assert_found(idrid(20))

    @pytest.mark.slow
    def test_every_photograph(self):
        paths = idrid()
        self.assertEqual(len(paths), 516)
        self.assert_found(paths)


if __name__ == "__main__":
    unittest.main()
