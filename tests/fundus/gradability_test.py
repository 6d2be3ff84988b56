"""The gradability score falls with every degradation, states the right reason, and ignores size, colour and lesions."""

import dataclasses
import os
import pathlib
import unittest

import cv2
import numpy as np

from dr_tf.fundus.gradability import GRADABLE, Gradability, gradability

SHARED = pathlib.Path(os.environ.get("DR_TF_SHARED", pathlib.Path(__file__).resolve().parents[3] / "shared"))
ODIR = SHARED / "data/odir/preprocessed_images"


def in_field(image):
    side = image.shape[0]
    centres = np.arange(side) + 0.5 - side / 2
    inside = np.hypot(*np.meshgrid(centres, centres)) <= side / 2
    return np.clip(np.rint(image), 0, 255).astype(np.uint8) * inside[..., None].astype(np.uint8)


def retina(side=512):
    """Return an optic disc, branching vessels of three widths and the fine texture of a retina."""
    image = np.full((side, side, 3), (170, 95, 40), np.float32)
    image += cv2.GaussianBlur(np.random.default_rng(0).normal(0, 12, (side, side, 1)).astype(np.float32), (0, 0), 1)[
        ..., None
    ]
    cv2.circle(image, (side // 4, side // 2), side // 14, (235, 190, 110), -1, cv2.LINE_AA)
    for turn in np.linspace(-1.3, 1.3, 9):
        ends = np.array([[1, 0], [np.cos(turn), np.sin(turn)]]) * side
        points = [(side // 4, side // 2), tuple(int(v) for v in ends[1] * 0.35 + (side / 4, side / 2))]
        cv2.line(image, *points, (120, 50, 30), 5, cv2.LINE_AA)
        for fork, width in ((-0.3, 3), (0.1, 2), (0.4, 1)):
            end = np.array([np.cos(turn + fork), np.sin(turn + fork)]) * side * 0.5 + points[1]
            cv2.line(image, points[1], tuple(int(v) for v in end), (130, 60, 30), width, cv2.LINE_AA)
    return in_field(image)


def blurred(image, sigma):
    filled = np.where(image.any(axis=2, keepdims=True), image, (170, 95, 40)).astype(np.uint8)
    return in_field(cv2.GaussianBlur(filled, (0, 0), sigma))


def hazy(image, share):
    return in_field((1 - share) * image + share * np.array([210.0, 195.0, 170.0]))


class ScoreTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.image = retina()
        cls.clean = gradability(cls.image)

    def assert_falls(self, images, part):
        results = [self.clean] + [gradability(image) for image in images]
        for name in ("score", part):
            values = [getattr(result, name) for result in results]
            self.assertEqual(values, sorted(values, reverse=True), name)
        self.assertLess(results[-1].score, 0.1)

    def test_a_clean_photograph_is_gradable(self):
        self.assertGreater(self.clean.score, 0.8)
        self.assertEqual(self.clean.reason, "")
        self.assertGreater(self.clean.field, 0.99)
        self.assertGreater(min(self.clean.sharpness, self.clean.exposure, self.clean.contrast), 0.9)

    def test_falls_with_blur(self):
        self.assert_falls([blurred(self.image, sigma) for sigma in (1, 2, 3, 4, 6, 9, 14)], "sharpness")

    def test_falls_with_under_exposure(self):
        self.assert_falls([in_field(self.image * gain) for gain in (0.8, 0.6, 0.4, 0.3, 0.2, 0.1)], "exposure")
        self.assert_falls([in_field(255 * (self.image / 255) ** gamma) for gamma in (1.5, 2, 3, 4, 6)], "exposure")

    def test_falls_with_over_exposure(self):
        self.assert_falls([in_field(self.image * gain) for gain in (1.4, 1.8, 2.2, 2.6, 3.5)], "exposure")
        self.assert_falls([in_field(255 * (self.image / 255) ** gamma) for gamma in (0.6, 0.4, 0.2, 0.1)], "exposure")

    def test_falls_with_haze(self):
        self.assert_falls([hazy(self.image, share) for share in (0.2, 0.4, 0.6, 0.8, 0.9)], "contrast")

    def test_field_is_the_visible_share(self):
        for share in (0.25, 0.5, 0.75):
            image = self.image.copy()
            image[: int(512 * share)] = 0
            x = 1 - 2 * share  # the part of a circle above a line at height x of the radius
            visible = 1 - (np.arccos(x) - x * np.sqrt(1 - x * x)) / np.pi
            self.assertAlmostEqual(gradability(image).field, visible, delta=0.01)

    def test_blown_out_retina_is_not_visible(self):
        image = self.image.copy()
        image[256:] = in_field(np.full_like(image, 255))[256:]
        self.assertAlmostEqual(gradability(image).field, 0.5, delta=0.01)

    def test_a_field_cut_at_top_and_bottom_scores_nearly_the_same(self):
        image = self.image.copy()
        image[:42] = image[-42:] = 0  # as IDRiD's camera: 92 % of the circle
        self.assertGreater(gradability(image).score, self.clean.score - 0.05)


class ReasonTest(unittest.TestCase):
    def test_the_reason_states_what_is_wrong(self):
        image = retina()
        lid = image.copy()
        lid[:300] = 0
        for wrong, reason in (
            (blurred(image, 6), "out of focus"),
            (in_field(image * 0.2), "too dark"),
            (in_field(image * 4.0), "too bright"),
            (hazy(image, 0.8), "hazy: low contrast"),
            (lid, "only 39 % of the field is visible"),
            (np.zeros_like(image), "too dark"),
            (np.full_like(image, 255), "too bright"),
        ):
            with self.subTest(reason):
                result = gradability(wrong)
                self.assertLess(result.score, GRADABLE)
                self.assertEqual(result.reason, reason)

    def test_the_reason_is_empty_if_and_only_if_the_score_is_gradable(self):
        for sigma in np.linspace(0.5, 4, 15):
            result = gradability(blurred(retina(), sigma))
            self.assertEqual(result.reason == "", result.score >= GRADABLE)

    def test_black_and_white_score_zero(self):
        for level in (0, 255):
            self.assertEqual(gradability(np.full((300, 300, 3), level, np.uint8)).score, 0)

    def test_flat_grey_scores_zero(self):
        self.assertLess(gradability(np.full((300, 300, 3), 120, np.uint8)).score, 0.01)


class InvarianceTest(unittest.TestCase):
    def test_size_changes_the_score_by_at_most_a_tenth(self):
        image = retina(1024)
        whole = gradability(image).score
        for side in (128, 200, 256, 300, 512, 768):
            small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            self.assertAlmostEqual(gradability(small).score, whole, delta=0.1, msg=str(side))

    def test_colour_balance_changes_the_score_little(self):
        image = retina()
        for gains in ((0.8, 1, 1), (1, 0.85, 1), (1, 1, 0.5), (1, 1, 1.5)):
            moved = gradability(in_field(image * np.array(gains))).score
            self.assertAlmostEqual(moved, gradability(image).score, delta=0.05)

    def test_a_circle_off_centre(self):
        image = retina()
        framed = np.zeros((640, 640, 3), np.uint8)
        framed[20:532, 100:612] = image
        shifted = gradability(framed, (356.0, 276.0, 256.0))
        self.assertAlmostEqual(shifted.field, 1, delta=0.01)
        self.assertAlmostEqual(shifted.score, gradability(image).score, delta=0.1)

    def test_lesions_do_not_lower_the_score(self):
        image, rng = retina(), np.random.default_rng(1)
        for _ in range(120):
            colour = (90, 30, 20) if rng.random() < 0.5 else (230, 210, 120)
            at = tuple(int(v) for v in rng.integers(90, 420, 2))
            cv2.circle(image, at, int(rng.integers(2, 8)), colour, -1, cv2.LINE_AA)
        self.assertGreater(gradability(image).score, gradability(retina()).score - 0.05)

    def test_the_image_is_not_changed(self):
        image = retina(128)
        before = image.copy()
        gradability(image)
        np.testing.assert_array_equal(image, before)


class InputTest(unittest.TestCase):
    def test_result_is_frozen_and_in_range(self):
        result = gradability(retina(100))
        self.assertIsInstance(result, Gradability)
        for name in ("score", "sharpness", "exposure", "contrast", "field"):
            self.assertIs(type(getattr(result, name)), float)
            self.assertTrue(0 <= getattr(result, name) <= 1)
        with self.assertRaises(dataclasses.FrozenInstanceError):
            result.score = 1.0

    def test_wrong_crops_are_refused_in_one_line(self):
        shapes = ((1, 1, 3), (64, 48, 3), (64, 64), (64, 64, 4), (0, 0, 3))
        for wrong in (*(np.zeros(shape, np.uint8) for shape in shapes), np.zeros((64, 64, 3)), "retina.jpg"):
            with self.assertRaisesRegex(ValueError, "^a crop is a [^\n]+$"):
                gradability(wrong)

    def test_smallest_crop_and_tiny_circle_do_not_crash(self):
        self.assertTrue(0 <= gradability(retina(16)).score <= 1)
        self.assertEqual(gradability(retina(64), (500.0, 500.0, 1.0)).score, 0)


@unittest.skipUnless(ODIR.is_dir(), f"no photographs in {ODIR}")
class PhotographTest(unittest.TestCase):
    def test_degraded_photographs_score_below_themselves(self):
        paths = sorted(ODIR.glob("*.jpg"))[::150]
        images = [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in paths]
        clean = np.array([gradability(image).score for image in images])
        self.assertGreater(np.median(clean), 0.6)
        for degrade in (
            lambda image: blurred(image, 4),
            lambda image: in_field(image * 0.15),
            lambda image: hazy(image, 0.85),
        ):
            scores = np.array([gradability(degrade(image)).score for image in images])
            self.assertTrue((scores <= clean + 0.005).all())
            self.assertLess(np.median(scores), 0.1)


if __name__ == "__main__":
    unittest.main()
