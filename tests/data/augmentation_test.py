"""Each change of a photograph by hand-computed pixels, and what all of them have in common."""

import dataclasses
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.artifacts import lay_over
from dr_tf.data.augmentation import Augmentation, Blur, Colour, Halo, Hole, Spot, Warp
from dr_tf.data.colour import recoloured
from dr_tf.data.ranges import span
from dr_tf.data.warp import warped
from tests.data.sets import photograph

SIZE = 64
RETINA = photograph(3, SIZE)
BLACK = RETINA.max(2) == 0
EVERYTHING = Augmentation(
    warp=Warp(rotation=12, shift=0.1, zoom=(0.8, 1.2), shear=0.05, flip_horizontal=0.5, flip_vertical=0.5),
    colour=Colour(brightness=(0.5, 1.3), contrast=0.3, saturation=0.3, hue=10),
    blur=Blur(probability=0.5),
    halo=Halo(probability=0.5),
    hole=Hole(probability=0.5),
    spot=Spot(probability=0.5),
)


def rng(*seed):
    return np.random.default_rng(seed)


def flat(*colour):
    return np.full((4, 4, 3), colour, np.uint8)


class SpanTest(unittest.TestCase):
    def test_a_number_is_to_either_side(self):
        self.assertEqual(span("zoom", 0.25, about=1), (0.75, 1.25))
        self.assertEqual(span("zoom", (0.7, 1.2), about=1), (0.7, 1.2))

    def test_mistakes_are_named(self):
        for make, said in {
            lambda: Warp(zoom=(1.2, 0.7)): "zoom",
            lambda: Warp(rotation="much"): "rotation is a number or a pair",
            lambda: Warp(zoom=2): "zoom = 2 is no range, not below 0.01",
            lambda: Warp(flip_vertical=50): "flip_vertical is a probability between 0 and 1, not 50",
            lambda: Colour(brightness=1.5): "brightness",
            lambda: Hole(probability=-1): "probability",
        }.items():
            with self.subTest(said), self.assertRaisesRegex(UserError, said):
                make()


class WarpTest(unittest.TestCase):
    image = np.zeros((5, 5, 3), np.uint8)
    image[1, 3] = (250, 100, 50)  # up and to the right of the middle

    def _where(self, image):
        (place,) = np.argwhere(image.max(2) == 250)
        return tuple(place.tolist())

    def test_a_quarter_turn(self):
        turned = Warp(rotation=(90, 90))(self.image, rng(0))
        self.assertEqual(self._where(turned), (3, 3))  # clockwise: y points down
        np.testing.assert_array_equal(turned[3, 3], (250, 100, 50))

    def test_shift_is_in_sides(self):
        self.assertEqual(self._where(Warp(shift=(0.2, 0.2))(self.image, rng(0))), (2, 4))

    def test_flips(self):
        self.assertEqual(self._where(Warp(flip_horizontal=1)(self.image, rng(0))), (1, 1))
        self.assertEqual(self._where(Warp(flip_vertical=1)(self.image, rng(0))), (3, 3))
        self.assertEqual(self._where(Warp(flip_horizontal=1, flip_vertical=1)(self.image, rng(0))), (3, 1))

    def test_a_flip_alone_is_the_flip_of_a_warp(self):
        np.testing.assert_array_equal(
            Warp(flip_horizontal=1)(self.image, rng(0)), warped(self.image, np.diag([-1.0, 1.0]), np.zeros(2))
        )

    def test_zoom_enlarges(self):
        self.assertEqual(self._where(Warp(zoom=(2, 2))(self.image, rng(0))), (0, 4))

    def test_all_of_it_is_one_matrix(self):
        # Flipped to (-1, -1), sheared by x + y / 2 to (-1.5, -1.5), turned by 90 degrees to (1.5, -1.5), as large, moved.
        shear = np.array([[1, 0.5], [0.5, 1]])
        matrix = np.array([[0, -1], [1, 0]]) @ shear @ np.diag([-1, 1])
        warp = Warp(rotation=(90, 90), shear=(0.5, 0.5), shift=(0.1, 0.1), flip_horizontal=1)
        expected = warped(self.image, matrix, np.array([0.1, 0.1]))
        np.testing.assert_array_equal(warp(self.image, rng(0)), expected)
        self.assertEqual(self._where(expected), (1, 4))

    def test_nothing_asked_nothing_done(self):
        self.assertIs(Warp()(self.image, rng(0)), self.image)
        self.assertIs(Warp(rotation=90, probability=0)(self.image, rng(0)), self.image)

    def test_probability(self):
        warp = Warp(rotation=(90, 90), probability=0.3)
        moved = [self._where(warp(self.image, rng(i))) == (3, 3) for i in range(1000)]
        self.assertAlmostEqual(np.mean(moved), 0.3, delta=0.05)

    def test_beyond_the_photograph_is_black(self):
        self.assertEqual(Warp(zoom=(0.5, 0.5))(np.full((64, 64, 3), 200, np.uint8), rng(0))[:14].max(), 0)


class ColourTest(unittest.TestCase):
    def test_brightness_saturates(self):
        np.testing.assert_array_equal(recoloured(flat(200, 100, 10), brightness=1.3)[0, 0], (255, 130, 13))

    def test_no_saturation_is_grey(self):
        grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
        np.testing.assert_array_equal(recoloured(flat(200, 100, 50), saturation=0)[0, 0], (grey,) * 3)

    def test_hue_leaves_grey_and_luma(self):
        np.testing.assert_allclose(recoloured(flat(90, 90, 90), hue=40)[0, 0], 90, atol=1)
        turned = recoloured(flat(150, 100, 80), hue=30)[0, 0]
        self.assertGreater(np.abs(turned - np.array([150, 100, 80])).max(), 10)
        self.assertAlmostEqual(turned @ [0.299, 0.587, 0.114], 0.299 * 150 + 58.7 + 0.114 * 80, delta=1)

    def test_contrast_is_about_the_mean_of_the_retina(self):
        # Grey 80 all over stands for a retina of 80 / (pi / 4) = 101.9, so that 80 comes to 101.9 - 21.9 * 2 = 58.
        np.testing.assert_allclose(recoloured(flat(80, 80, 80), contrast=2)[0, 0], 58, atol=1)
        np.testing.assert_allclose(recoloured(flat(80, 80, 80), contrast=0.5)[0, 0], 91, atol=1)

    def test_black_stays_black(self):
        self.assertEqual(recoloured(RETINA, contrast=0.3, brightness=1.3, saturation=0.5, hue=20)[BLACK].max(), 0)

    def test_brightness_and_contrast_are_one_after_the_other(self):
        both = recoloured(RETINA, brightness=0.7, contrast=1.2).astype(int)
        after = recoloured(recoloured(RETINA, brightness=0.7), contrast=1.2).astype(int)
        self.assertLessEqual(np.abs(both - after).max(), 1)


class FaultsTest(unittest.TestCase):
    def test_they_stay_within_the_retina(self):
        for fault in (Halo(strength=(1, 1)), Hole(strength=(1, 1)), Spot(strength=(1, 1))):
            for seed in range(10):
                with self.subTest(fault, seed=seed):
                    changed = lay_over(RETINA, [dataclasses.replace(fault, probability=1)], rng(seed))
                    self.assertLess(np.abs(changed.astype(int) - RETINA)[BLACK].max(), 1)
                    self.assertGreater(np.abs(changed.astype(int) - RETINA)[~BLACK].max(), 20)

    def test_a_halo_brightens_the_rim_and_a_hole_darkens(self):
        brighter = [
            lay_over(RETINA, [Halo(radius=(0.9, 0.9), probability=1)], rng(i)).mean() - RETINA.mean() for i in range(20)
        ]
        darker = [lay_over(RETINA, [Hole(probability=1)], rng(i)).mean() - RETINA.mean() for i in range(20)]
        self.assertGreater(min(brighter), 0)
        self.assertLess(max(darker), 0)
        middle = np.s_[SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4]
        changed = lay_over(RETINA, [Halo(strength=(1, 1), radius=(1, 1), width=(0.2, 0.2), probability=1)], rng(0))
        self.assertLessEqual(np.abs(changed[middle].astype(int) - RETINA[middle]).max(), 1)

    def test_what_does_not_happen_changes_nothing(self):
        self.assertIs(lay_over(RETINA, [Halo(probability=0), Hole(probability=0)], rng(0)), RETINA)
        self.assertIs(Blur(probability=0)(RETINA, rng(0)), RETINA)

    def test_blur_softens(self):
        def edges(image):
            return np.abs(np.diff(image[SIZE // 3].astype(int), axis=0)).max()

        self.assertLess(edges(Blur(sigma=(0.03, 0.03), probability=1)(RETINA, rng(0))), edges(RETINA) / 2)


class AugmentationTest(unittest.TestCase):
    def test_equal_numbers_give_equal_pixels(self):
        for seed in range(20):
            one, other = (EVERYTHING.augment(RETINA, rng(seed)) for _ in range(2))
            np.testing.assert_array_equal(one, other)
        looks = {EVERYTHING.augment(RETINA, rng(seed)).tobytes() for seed in range(20)}
        self.assertEqual(len(looks), 20)

    def test_the_original_is_left_alone(self):
        before = RETINA.copy()
        for seed in range(20):
            changed = EVERYTHING.augment(RETINA, rng(seed))
            self.assertEqual((changed.dtype, changed.shape), (np.uint8, RETINA.shape))
        np.testing.assert_array_equal(RETINA, before)

    def test_a_photograph_that_may_not_be_written_to(self):
        image = RETINA.copy()
        image.setflags(write=False)
        EVERYTHING.augment(image, rng(0))

    def test_nothing_is_the_photograph(self):
        self.assertIs(Augmentation().augment(RETINA, rng(0)), RETINA)


if __name__ == "__main__":
    unittest.main()
