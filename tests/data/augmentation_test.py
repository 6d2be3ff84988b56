"""Augmentation: each step on hand-computed pixels; determinism, and inputs left unmodified."""

import dataclasses
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.artifacts import add_artifacts
from dr_tf.data.augmentation import Augmentation, Blur, Colour, Halo, Hole, Spot, Warp
from dr_tf.data.camera import FieldOfView, Resolution, ToneCurve
from dr_tf.data.colour import adjust_colour
from dr_tf.data.ranges import parse_range
from dr_tf.data.warp import warp_image
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
    field=FieldOfView(probability=0.5),
    tone=ToneCurve(probability=0.5),
    resolution=Resolution(probability=0.5),
)


def rng(seed):
    return np.random.default_rng([seed])


def flat(*colour):
    return np.full((4, 4, 3), colour, np.uint8)


class ParseRangeTest(unittest.TestCase):
    def test_a_number_is_a_half_width(self):
        self.assertEqual(parse_range("zoom", 0.25, neutral=1), (0.75, 1.25))
        self.assertEqual(parse_range("zoom", (0.7, 1.2), neutral=1), (0.7, 1.2))

    def test_invalid_values_are_named(self):
        for make, expected in {
            lambda: Warp(zoom=(1.2, 0.7)): "zoom",
            lambda: Warp(rotation="much"): "rotation is a number or a pair",
            lambda: Warp(zoom=2): "zoom = 2 is not a valid range: .*below 0.01 are not allowed",
            lambda: Colour(brightness=1.5): "brightness",
        }.items():
            with self.subTest(expected), self.assertRaisesRegex(UserError, expected):
                make()


class WarpTest(unittest.TestCase):
    image = np.zeros((5, 5, 3), np.uint8)
    image[1, 3] = (250, 100, 50)  # up and to the right of the middle

    def _position(self, image):
        (place,) = np.argwhere(image.max(2) == 250)
        return tuple(place.tolist())

    def test_a_quarter_turn(self):
        turned = Warp(rotation=(90, 90))(self.image, rng(0))
        self.assertEqual(self._position(turned), (3, 3))  # clockwise: y points down
        np.testing.assert_array_equal(turned[3, 3], (250, 100, 50))

    def test_shift_is_a_fraction_of_the_side(self):
        self.assertEqual(self._position(Warp(shift=(0.2, 0.2))(self.image, rng(0))), (2, 4))

    def test_flips(self):
        self.assertEqual(self._position(Warp(flip_horizontal=1)(self.image, rng(0))), (1, 1))
        self.assertEqual(self._position(Warp(flip_vertical=1)(self.image, rng(0))), (3, 3))
        self.assertEqual(self._position(Warp(flip_horizontal=1, flip_vertical=1)(self.image, rng(0))), (3, 1))

    def test_a_flip_alone_equals_the_flip_of_a_warp(self):
        np.testing.assert_array_equal(
            Warp(flip_horizontal=1)(self.image, rng(0)), warp_image(self.image, np.diag([-1.0, 1.0]), np.zeros(2))
        )

    def test_zoom_enlarges(self):
        self.assertEqual(self._position(Warp(zoom=(2, 2))(self.image, rng(0))), (0, 4))

    def test_all_steps_are_one_matrix(self):
        # Flipped to (-1, -1), sheared by x + y / 2 to (-1.5, -1.5), rotated by 90 degrees to (1.5, -1.5), then shifted.
        shear = np.array([[1, 0.5], [0.5, 1]])
        matrix = np.array([[0, -1], [1, 0]]) @ shear @ np.diag([-1, 1])
        warp = Warp(rotation=(90, 90), shear=(0.5, 0.5), shift=(0.1, 0.1), flip_horizontal=1)
        expected = warp_image(self.image, matrix, np.array([0.1, 0.1]))
        np.testing.assert_array_equal(warp(self.image, rng(0)), expected)
        self.assertEqual(self._position(expected), (1, 4))

    def test_without_changes_the_input_is_returned(self):
        self.assertIs(Warp()(self.image, rng(0)), self.image)
        self.assertIs(Warp(rotation=90, probability=0)(self.image, rng(0)), self.image)

    def test_probability(self):
        warp = Warp(rotation=(90, 90), probability=0.3)
        moved = [self._position(warp(self.image, rng(i))) == (3, 3) for i in range(1000)]
        self.assertAlmostEqual(np.mean(moved), 0.3, delta=0.05)

    def test_outside_the_image_is_black(self):
        self.assertEqual(Warp(zoom=(0.5, 0.5))(np.full((64, 64, 3), 200, np.uint8), rng(0))[:14].max(), 0)


class CameraTest(unittest.TestCase):
    def test_a_tone_curve_by_hand(self):
        curve = ToneCurve(gain=(0.5, 0.5), gamma=(2, 2), channel_gain=(1, 1), channel_gamma=(1, 1), probability=1)
        # 255 / 2 * (200 / 255)^2 = 78.4, 255 / 2 * (100 / 255)^2 = 19.6, and black stays black.
        np.testing.assert_array_equal(curve(flat(200, 100, 0), rng(0))[0, 0], (78, 20, 0))

    def test_a_tone_curve_saturates(self):
        bright = ToneCurve(gain=(3, 3), gamma=(1, 1), channel_gain=(1, 1), channel_gamma=(1, 1), probability=1)
        np.testing.assert_array_equal(bright(flat(200, 60, 10), rng(0))[0, 0], (255, 180, 30))

    def test_channels_get_their_own_gain(self):
        changed = ToneCurve(gain=0, gamma=0, channel_gain=0.3, channel_gamma=0, probability=1)(flat(90, 90, 90), rng(1))
        self.assertEqual(len(set(changed[0, 0].tolist())), 3)

    def test_resolution_removes_detail_and_keeps_the_mean(self):
        fine = np.where((np.indices((64, 64)).sum(0) % 2)[..., None], np.uint8(160), np.uint8(80)).repeat(3, -1)
        coarse = Resolution(scale=(0.5, 0.5), quality=(95, 95), probability=1)(fine, rng(0))
        self.assertEqual(coarse.shape, fine.shape)
        self.assertLess(coarse.std(), 2)
        self.assertAlmostEqual(coarse.mean(), 120, delta=2)

    def test_resolution_keeps_the_channels_in_order(self):
        changed = Resolution(scale=(0.9, 0.9), quality=(90, 90), probability=1)(
            flat(200, 100, 20).repeat(8, 0).repeat(8, 1), rng(0)
        )
        np.testing.assert_allclose(changed[16, 16], (200, 100, 20), atol=4)

    def test_a_cut_field_of_view(self):
        image = np.full((20, 20, 3), 9, np.uint8)
        cut = FieldOfView(height=(0.6, 0.6), probability=1)(image, rng(0))
        self.assertEqual(np.flatnonzero(cut[:, 0, 0]).tolist(), list(range(4, 16)))  # 0.6 of 10 pixels to either side
        self.assertEqual(image.min(), 9)

    def test_without_changes_the_input_is_returned(self):
        for step in (ToneCurve(probability=0), Resolution(probability=0), FieldOfView(probability=0)):
            self.assertIs(step(RETINA, rng(0)), RETINA)

    def test_invalid_values_are_named(self):
        for make, expected in {
            lambda: ToneCurve(gain=2): "gain",
            lambda: Resolution(scale=(0.0, 1.0)): "scale",
            lambda: Resolution(quality=(0, 50)): "quality",
            lambda: FieldOfView(height=(0.9, 0.5)): "height",
        }.items():
            with self.subTest(expected), self.assertRaisesRegex(UserError, expected):
                make()


class ColourTest(unittest.TestCase):
    def test_brightness_saturates(self):
        np.testing.assert_array_equal(adjust_colour(flat(200, 100, 10), brightness=1.3)[0, 0], (255, 130, 13))

    def test_no_saturation_is_grey(self):
        grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
        np.testing.assert_array_equal(adjust_colour(flat(200, 100, 50), saturation=0)[0, 0], (grey,) * 3)

    def test_hue_keeps_grey_and_luma(self):
        np.testing.assert_allclose(adjust_colour(flat(90, 90, 90), hue=40)[0, 0], 90, atol=1)
        turned = adjust_colour(flat(150, 100, 80), hue=30)[0, 0]
        self.assertGreater(np.abs(turned - np.array([150, 100, 80])).max(), 10)
        self.assertAlmostEqual(turned @ [0.299, 0.587, 0.114], 0.299 * 150 + 58.7 + 0.114 * 80, delta=1)

    def test_contrast_is_about_the_mean_of_the_retina(self):
        # Grey 80 everywhere means a retina of 80 / (pi / 4) = 101.9, so that 80 becomes 101.9 - 21.9 * 2 = 58.
        np.testing.assert_allclose(adjust_colour(flat(80, 80, 80), contrast=2)[0, 0], 58, atol=1)
        np.testing.assert_allclose(adjust_colour(flat(80, 80, 80), contrast=0.5)[0, 0], 91, atol=1)

    def test_black_stays_black(self):
        self.assertEqual(adjust_colour(RETINA, contrast=0.3, brightness=1.3, saturation=0.5, hue=20)[BLACK].max(), 0)

    def test_both_factors_equal_one_after_the_other(self):
        both = adjust_colour(RETINA, brightness=0.7, contrast=1.2).astype(int)
        after = adjust_colour(adjust_colour(RETINA, brightness=0.7), contrast=1.2).astype(int)
        self.assertLessEqual(np.abs(both - after).max(), 1)


class ArtifactsTest(unittest.TestCase):
    def test_artifacts_stay_within_the_retina(self):
        for artifact in (Halo(strength=(1, 1)), Hole(strength=(1, 1)), Spot(strength=(1, 1))):
            for seed in range(10):
                with self.subTest(artifact, seed=seed):
                    changed = add_artifacts(RETINA, [dataclasses.replace(artifact, probability=1)], rng(seed))
                    self.assertLess(np.abs(changed.astype(int) - RETINA)[BLACK].max(), 1)
                    self.assertGreater(np.abs(changed.astype(int) - RETINA)[~BLACK].max(), 20)

    def test_a_halo_brightens_the_rim_and_a_hole_darkens(self):
        brighter = [
            add_artifacts(RETINA, [Halo(radius=(0.9, 0.9), probability=1)], rng(i)).mean() - RETINA.mean()
            for i in range(20)
        ]
        darker = [add_artifacts(RETINA, [Hole(probability=1)], rng(i)).mean() - RETINA.mean() for i in range(20)]
        self.assertGreater(min(brighter), 0)
        self.assertLess(max(darker), 0)
        middle = np.s_[SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4]
        changed = add_artifacts(RETINA, [Halo(strength=(1, 1), radius=(1, 1), width=(0.2, 0.2), probability=1)], rng(0))
        self.assertLessEqual(np.abs(changed[middle].astype(int) - RETINA[middle]).max(), 1)

    def test_at_probability_0_the_input_is_returned(self):
        self.assertIs(add_artifacts(RETINA, [Halo(probability=0), Hole(probability=0)], rng(0)), RETINA)
        self.assertIs(Blur(probability=0)(RETINA, rng(0)), RETINA)

    def test_blur_softens(self):
        def edges(image):
            return np.abs(np.diff(image[SIZE // 3].astype(int), axis=0)).max()

        self.assertLess(edges(Blur(sigma=(0.03, 0.03), probability=1)(RETINA, rng(0))), edges(RETINA) / 2)


class AugmentationTest(unittest.TestCase):
    def test_equal_seeds_give_equal_pixels(self):
        for seed in range(20):
            one, other = (EVERYTHING.augment(RETINA, rng(seed)) for _ in range(2))
            np.testing.assert_array_equal(one, other)
        images = {EVERYTHING.augment(RETINA, rng(seed)).tobytes() for seed in range(20)}
        self.assertEqual(len(images), 20)

    def test_the_input_is_not_modified(self):
        before = RETINA.copy()
        for seed in range(20):
            changed = EVERYTHING.augment(RETINA, rng(seed))
            self.assertEqual((changed.dtype, changed.shape), (np.uint8, RETINA.shape))
        np.testing.assert_array_equal(RETINA, before)

    def test_a_read_only_image(self):
        image = RETINA.copy()
        image.setflags(write=False)
        EVERYTHING.augment(image, rng(0))

    def test_without_steps_the_input_is_returned(self):
        self.assertIs(Augmentation().augment(RETINA, rng(0)), RETINA)


if __name__ == "__main__":
    unittest.main()
