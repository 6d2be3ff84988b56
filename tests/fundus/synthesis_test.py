"""Synthetic photographs are deterministic, their masks obey the ICDR rules, and their labels match what is drawn."""

import subprocess
import sys
import unittest

import cv2
import numpy as np
import pytest

from dr_tf.fundus.synthesis import CAMERAS, LESIONS, render_patient
from dr_tf.fundus.synthesis.grading import SEVERE_COUNT

SEEDS = range(3)
RETINOPATHY = set(LESIONS[:8])
FINDING_MASKS = {
    "G": {"cupping"},
    "C": {"media_haze"},
    "A": {"geographic_atrophy", "choroidal_neovascularization"},
    "H": {"arteriovenous_nicking"},
    "M": {"peripapillary_atrophy"},
    "O": {"drusen", "myelinated_fibres", "chorioretinal_scars"},
}


def eyes_of_grade(grade, seeds=SEEDS):
    return [eye for seed in seeds for eye in render_patient(100 + seed, grades=(grade, grade)).eyes]


def quadrants(eye):
    """Return boolean masks of the four quadrants around the fovea."""
    height, width = eye.image.shape[:2]
    right, below = np.arange(width)[None] + 0.5 > eye.fovea[0], np.arange(height)[:, None] + 0.5 > eye.fovea[1]
    return [(right == a) & (below == b) for b in (False, True) for a in (False, True)]


def count_per_quadrant(eye, name):
    """Return the number of lesions in each quadrant: connected components, each counted where its centre lies."""
    if name not in eye.masks:
        return [0, 0, 0, 0]
    _, _, _, centres = cv2.connectedComponentsWithStats(eye.masks[name])
    places = np.floor(centres[1:]).astype(int)
    return [int(quadrant[places[:, 1], places[:, 0]].sum()) for quadrant in quadrants(eye)]


def is_severe(eye):
    beaded = (
        sum((eye.masks["venous_beading"] & q).sum() > 20 for q in quadrants(eye))
        if "venous_beading" in eye.masks
        else 0
    )
    return min(count_per_quadrant(eye, "haemorrhages")) > SEVERE_COUNT or beaded >= 2 or "irma" in eye.masks


class SynthesisTest(unittest.TestCase):
    def test_the_same_seed_gives_the_same_pixels(self):
        first, second, other = (render_patient(seed, grades=(2, 4), findings="GA") for seed in (7, 7, 8))
        for a, b, c in zip(first.eyes, second.eyes, other.eyes, strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            self.assertEqual(a.encode(), b.encode())
            self.assertEqual(a.masks.keys(), b.masks.keys())
            for name, mask in a.masks.items():
                np.testing.assert_array_equal(mask, b.masks[name])
            self.assertNotEqual(a.encode(), c.encode())

    def test_the_same_seed_at_another_grade_is_the_same_patient(self):
        healthy, sick = (render_patient(3, grades=(grade, grade)) for grade in (0, 3))
        self.assertEqual((healthy.age, healthy.sex), (sick.age, sick.sex))
        for a, b in zip(healthy.eyes, sick.eyes, strict=True):
            self.assertEqual((a.disc, a.fovea, a.circle, a.camera), (b.disc, b.fovea, b.circle, b.camera))

    def test_image_is_what_the_file_decodes_to(self):
        for eye in render_patient(5, side=256).eyes:
            decoded = cv2.imdecode(np.frombuffer(eye.encode(), np.uint8), cv2.IMREAD_COLOR_RGB)
            np.testing.assert_array_equal(eye.image, decoded)
            self.assertEqual(eye.image.dtype, np.uint8)

    def test_anatomy_is_mirrored(self):
        for seed in range(4):
            left, right = render_patient(seed, side=256).eyes
            self.assertEqual((left.eye, right.eye), ("left", "right"))
            self.assertLess(left.disc[0], left.fovea[0])
            self.assertGreater(right.disc[0], right.fovea[0])
            self.assertAlmostEqual(left.disc[2], right.disc[2], delta=0.15 * right.disc[2])
            for eye in (left, right):
                radii = np.hypot(eye.disc[0] - eye.fovea[0], eye.disc[1] - eye.fovea[1]) / eye.disc[2]
                self.assertBetween(radii, 4.5, 7.5)

    def assertBetween(self, value, low, high):  # noqa: N802
        self.assertGreaterEqual(value, low)
        self.assertLessEqual(value, high)

    def test_disc_is_bright_and_fovea_dark(self):
        for eye in eyes_of_grade(0):
            green = cv2.GaussianBlur(eye.image[..., 1], (0, 0), 5).astype(float)
            around = np.median(green[self.inside(eye, 0.8)])
            self.assertGreater(green[int(eye.disc[1]), int(eye.disc[0])], 1.2 * around)
            middle = (np.array(eye.disc[:2]) + eye.fovea) / 2
            self.assertLess(green[int(eye.fovea[1]), int(eye.fovea[0])], 1.05 * green[int(middle[1]), int(middle[0])])

    @staticmethod
    def inside(eye, share, *, outside=False):
        height, width = eye.image.shape[:2]
        cx, cy, r = eye.circle
        distance = np.hypot(np.arange(width)[None] + 0.5 - cx, np.arange(height)[:, None] + 0.5 - cy)
        return distance > r * share if outside else distance < r * share

    def test_grade_0_has_no_lesion(self):
        for eye in eyes_of_grade(0):
            self.assertFalse(eye.masks)
            self.assertEqual(eye.dme, 0)

    def test_mild_has_microaneurysms_only(self):
        for eye in eyes_of_grade(1):
            self.assertEqual(set(eye.masks), {"microaneurysms"})

    def test_moderate_has_more_but_is_not_severe(self):
        for eye in eyes_of_grade(2, range(6)):
            self.assertTrue(set(eye.masks) & {"haemorrhages", "hard_exudates", "cotton_wool_spots"})
            self.assertFalse(is_severe(eye))
            self.assertFalse(set(eye.masks) & {"new_vessels", "vitreous_haemorrhage"})

    def test_severe_obeys_the_421_rule(self):
        lesions = set()
        for eye in eyes_of_grade(3, range(8)):
            self.assertTrue(is_severe(eye))
            self.assertFalse(set(eye.masks) & {"new_vessels", "vitreous_haemorrhage"})
            lesions |= set(eye.masks)
        self.assertLessEqual({"venous_beading", "irma", "haemorrhages"}, lesions)

    def test_every_camera_leaves_room_for_severe_haemorrhages(self):
        for camera in CAMERAS:
            for seed in range(3):
                for eye in render_patient(seed, grades=(3, 3), camera=camera).eyes:
                    self.assertTrue(is_severe(eye), (camera, seed, eye.eye))

    def test_proliferative_has_new_vessels_or_vitreous_blood(self):
        for eye in eyes_of_grade(4, range(6)):
            self.assertTrue(set(eye.masks) & {"new_vessels", "vitreous_haemorrhage"})

    def test_dme_follows_from_exudates_near_the_fovea(self):
        risks = set()
        for grade in (2, 3):
            for eye in eyes_of_grade(grade, range(8)):
                exudates = np.argwhere(eye.masks.get("hard_exudates", np.zeros((1, 1))))
                distance = np.hypot(exudates[:, 1] + 0.5 - eye.fovea[0], exudates[:, 0] + 0.5 - eye.fovea[1])
                near = len(distance) and distance.min() <= 2 * eye.disc[2]
                self.assertEqual(eye.dme, 2 if near else 1 if len(distance) else 0)
                risks.add(eye.dme)
        self.assertEqual(risks, {0, 1, 2})

    def test_lesions_change_the_pixels_under_their_masks(self):
        """Blood is darker and lipid brighter than the same eye's retina without them."""
        pairs = [
            [render_patient(seed, grades=(grade, grade), camera="full_circle").eyes[0] for grade in (0, 3)]
            for seed in range(6)
        ]
        for name, sign in (
            ("haemorrhages", -1),
            ("hard_exudates", 1),
            ("microaneurysms", -1),
            ("cotton_wool_spots", 1),
        ):
            changes = []
            for plain, sick in pairs:
                if name in sick.masks:
                    mask = sick.masks[name] > 0
                    changes.append(
                        np.subtract(*(eye.image[..., 1][mask].astype(float) for eye in (sick, plain))).mean()
                    )
            self.assertGreater(sign * np.mean(changes), 3, name)

    def test_masks(self):
        for grade in range(5):
            for eye in render_patient(20 + grade, grades=(grade, grade), findings="GCAHMO", side=300).eyes:
                for name, mask in eye.masks.items():
                    self.assertIn(name, LESIONS)
                    self.assertEqual((mask.shape, mask.dtype), (eye.image.shape[:2], np.uint8))
                    self.assertEqual(set(np.unique(mask)), {0, 1})
                    self.assertFalse((mask.astype(bool) & self.inside(eye, 1.01, outside=True)).any())

    def test_every_camera(self):
        """The circle shows retina and the rest background, whatever the frame, the border and the background."""
        shapes = set()
        for name in CAMERAS:
            for eye in render_patient(1, camera=name, side=256).eyes:
                self.assertEqual(eye.camera, name)
                self.assertAlmostEqual(eye.circle[2], 128)
                shapes.add(eye.image.shape)
                inner, outer = self.inside(eye, 0.85), self.inside(eye, 1.08, outside=True)
                red, blue = (eye.image[..., channel].astype(float) for channel in (0, 2))
                self.assertGreater(np.median((red - blue)[inner]), 30)
                self.assertLess(np.median(np.abs(red - blue)[outer]), 10)
        self.assertEqual(len(shapes), len(CAMERAS))

    def test_every_finding(self):
        for letter, names in FINDING_MASKS.items():
            position = "NDGCAHMO".index(letter)
            for seed in range(3):
                patient = render_patient(seed, grades=(0, 0), findings=letter)
                self.assertEqual(patient.labels[position], 1)
                self.assertEqual(sum(patient.labels), 1)
                for eye, plain in zip(patient.eyes, render_patient(seed, grades=(0, 0)).eyes, strict=True):
                    has = bool(set(eye.masks) & names)
                    self.assertEqual(has, bool(eye.labels[position]), (letter, seed, eye.eye))
                    self.assertEqual(eye.labels[0], int(not has))
                    self.assertEqual(np.array_equal(eye.image, plain.image), not has)

    def test_cataract_blurs_and_glaucoma_enlarges_the_cup(self):
        def both(seed, letters):
            pair = (render_patient(seed, grades=(0, 0), findings=f, camera="full_circle").eyes for f in ("", letters))
            return [(a, b) for a, b in zip(*pair, strict=True) if sum(b.labels[2:])]

        for seed in range(3):
            for plain, hazy in both(seed, "C"):
                self.assertLess(self.detail(hazy), 0.6 * self.detail(plain))
            for plain, cupped in both(seed, "G"):
                mask = cupped.masks["cupping"] > 0
                self.assertGreater(np.sqrt(mask.sum() / np.pi), 0.55 * cupped.disc[2])
                self.assertGreater(cupped.image[mask].mean(), plain.image[mask].mean())

    def detail(self, eye):
        green = eye.image[..., 1].astype(np.float32)
        return (green - cv2.GaussianBlur(green, (0, 0), 6))[self.inside(eye, 0.8)].std()

    def test_labels(self):
        patient = render_patient(2, grades=(0, 3), findings=("M",), side=128)
        self.assertEqual(patient.labels[:2], (0, 1))
        self.assertEqual(patient.labels[6], 1)
        self.assertEqual([eye.grade for eye in patient.eyes], [0, 3])
        self.assertEqual([eye.labels[1] for eye in patient.eyes], [0, 1])
        self.assertEqual(render_patient(2, grades=(0, 0), side=128).labels, (1, 0, 0, 0, 0, 0, 0, 0))

    @pytest.mark.slow
    def test_drawn_grades_vary_and_fellow_eyes_agree(self):
        drawn = np.array([[eye.grade for eye in render_patient(seed, side=64).eyes] for seed in range(50)])
        self.assertEqual(set(drawn.ravel()), {0, 1, 2, 3, 4})
        self.assertGreater(np.corrcoef(drawn.T)[0, 1], 0.6)

    def test_brightness_does_not_depend_on_the_grade(self):
        """The same patient at two grades differs far less in brightness than patients do."""
        means = np.array(
            [[render_patient(seed, grades=(g, g), side=128).eyes[0].image.mean() for g in (0, 3)] for seed in range(20)]
        )
        self.assertLess(abs((means[:, 1] - means[:, 0]).mean()), 0.4 * means[:, 0].std())

    def test_other_sides(self):
        for side in (64, 200, 1024):
            for eye in render_patient(4, side=side, grades=(2, 4)).eyes:
                self.assertEqual(eye.circle[2], side / 2)
                self.assertTrue(eye.masks)

    def test_bad_arguments(self):
        bad = (
            ({"grades": (0, 5)}, "ICDR"),
            ({"grades": (1,)}, "ICDR"),
            ({"grades": 3}, "ICDR"),
            ({"grades": (-1, 0)}, "ICDR"),
            ({"findings": "X"}, "G, C, A, H, M, O"),
            ({"findings": ("N",)}, "finding"),
            ({"camera": "box"}, "wide_cut"),
            ({"side": 8}, "side"),
        )
        for arguments, message in bad:
            with self.subTest(arguments), self.assertRaisesRegex(ValueError, message):
                render_patient(0, **arguments)

    def test_needs_numpy_and_cv2_only(self):
        code = (
            "import sys, dr_tf.fundus.synthesis as s; s.render_patient(0, side=64);"
            "print([m for m in ('tensorflow', 'keras', 'sklearn', 'scipy', 'PIL', 'matplotlib') if m in sys.modules])"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(result.stdout.strip(), "[]")


if __name__ == "__main__":
    unittest.main()
