"""Fundus photographs pass, and other pictures are refused with a reason."""

import unittest

import numpy as np

from dr_tf.fundus.border import Border, find_border
from dr_tf.fundus.is_fundus import not_fundus_reason
from tests.fundus import not_fundus
from tests.fundus.synthetic_images import draw_fundus


def reason_of(rgb):
    return not_fundus_reason(rgb, find_border(rgb))


def disc(colour, *, size=(300, 400), radius=130):
    y, x = np.mgrid[: size[0], : size[1]]
    inside = np.hypot(x + 0.5 - size[1] / 2, y + 0.5 - size[0] / 2) < radius
    return (inside[..., None] * np.array(colour)).astype(np.uint8)


class NoRetinaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.drawn = [(name, reason_of(rgb)) for name, rgb in not_fundus.drawn()]
        cls.samples = [(name, reason_of(rgb)) for name, rgb in not_fundus.samples()]

    def test_at_least_99_percent_of_other_pictures_are_refused(self):
        self.assertEqual(len(self.drawn), 240)
        for pictures in (self.drawn, self.drawn + self.samples):
            accepted = [name for name, reason in pictures if not reason]
            self.assertLessEqual(len(accepted), 0.01 * len(pictures), accepted)

    def test_each_picture_gets_the_right_reason(self):
        rng = np.random.default_rng(0)
        for name, rgb, expected in (
            ("black", np.zeros((300, 400, 3), np.uint8), "it is grey and has no round border"),
            ("white", np.full((300, 400, 3), 255, np.uint8), "it is grey and has no round border"),
            ("orange", np.full((300, 400, 3), (200, 100, 40), np.uint8), "it has a single colour"),
            ("orange disc", disc((200, 100, 40)), "it has a single colour"),
            ("grey disc", disc((120, 120, 120)), "it is uniformly grey"),
            ("noise", rng.integers(0, 256, (300, 400, 3)).astype(np.uint8), "its colours are not those of a retina"),
            ("small disc", disc((200, 100, 40), radius=45), "nothing on it is large enough to be a retina"),
        ):
            with self.subTest(name):
                self.assertEqual(reason_of(rgb), expected)

    def test_the_reason_is_one_line(self):
        for name, reason in self.drawn + self.samples:
            with self.subTest(name):
                self.assertNotIn("\n", reason)

    def test_a_photograph_in_swapped_colours_is_refused(self):
        self.assertEqual(reason_of(draw_fundus()[..., ::-1]), "its colours are not those of a retina")

    def test_one_pixel_is_too_small(self):
        for shape in ((1, 1, 3), (8, 8, 3), (1, 500, 3)):
            with self.subTest(shape=shape):
                self.assertNotEqual(reason_of(np.full(shape, 90, np.uint8)), "")


class RetinaTest(unittest.TestCase):
    def test_photographs_of_all_kinds_pass(self):
        for name, condition in {
            "plain": {},
            "dark": {"brightness": 0.1},
            "overexposed": {"brightness": 1.7},
            "grey": {"colour": False},
            "without vessels": {"vessels": False},
            "fills the frame": {"radius": 420.0},
            "white background": {"background": 250},
        }.items():
            for seed in range(3):
                with self.subTest(name, seed=seed):
                    image = draw_fundus(**{"size": (640, 480), "radius": 210.0, "seed": seed, **condition})
                    self.assertEqual(reason_of(image), "")

    def test_any_border_can_be_passed(self):
        image = draw_fundus()
        border = Border((480.0, 360.0, 310.0), (170, 50, 790, 670), 1.0)
        self.assertEqual(not_fundus_reason(image, border), "")


if __name__ == "__main__":
    unittest.main()
