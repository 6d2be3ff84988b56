"""The scorecard: parts computed by hand, and a network that is known to use nothing but the lesions."""

import dataclasses
import shutil
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.explain.scorecard.baselines import contrast_maps, maps_by_eye, random_maps, retina_mask
from dr_tf.explain.scorecard.confidence_intervals import compare_means
from dr_tf.explain.scorecard.deletion_insertion import area_under_curve, blur, deletion_and_insertion_images
from dr_tf.explain.scorecard.localization import (
    THRESHOLDS,
    average_precision,
    energy_pointing_game,
    iou_by_threshold,
    pointing_game,
)
from dr_tf.explain.scorecard.masks import read_masks
from dr_tf.explain.scorecard.parameter_randomization import randomize_parameters, rank_correlation
from dr_tf.explain.scorecard.record_images import Examples
from dr_tf.explain.scorecard.scorecard import build_explainers, choose_thresholds, compute_scorecard
from dr_tf.explain.scorecard.scoring_data import ANY_LESION
from dr_tf.explain.scorecard.tables import summarize, tables
from dr_tf.models.heads import HEADS
from tests.data import sets
from tests.explain.runs import network
from tests.explain.squares import (
    DATASET,
    SIZE,
    example,
    eyes_of,
    green_counter,
    green_counter_of_pairs,
    lesion_at,
    pairs,
    records,
    records_root,
)

EVERYWHERE = np.ones((10, 10), bool)
CORNER = np.zeros((10, 10), bool)
CORNER[:2, :2] = True


class LocalizationTest(unittest.TestCase):
    def setUp(self):
        self.map = np.where(CORNER, 1.0, 0.0)
        self.map[9, 6:] = 0.5

    def test_pointing_game(self):
        self.assertTrue(pointing_game(self.map, CORNER, EVERYWHERE))
        self.assertFalse(pointing_game(1 - self.map, CORNER, EVERYWHERE))
        self.assertFalse(pointing_game(0 * self.map, CORNER, EVERYWHERE))
        self.assertFalse(pointing_game(self.map, CORNER, ~CORNER))  # outside the retina

    def test_tolerance_of_the_pointing_game(self):
        lesion, map = np.zeros((100, 100), bool), np.zeros((100, 100))
        lesion[50, 50] = True
        map[50, 53] = 1
        self.assertTrue(pointing_game(map, lesion, np.ones_like(lesion)))
        map[50, 54] = 2
        self.assertFalse(pointing_game(map, lesion, np.ones_like(lesion)))

    def test_energy_pointing_game(self):
        self.assertAlmostEqual(energy_pointing_game(self.map, CORNER, EVERYWHERE), 4 / 6 * 100 / 4)
        self.assertAlmostEqual(energy_pointing_game(np.full((10, 10), 0.3), CORNER, EVERYWHERE), 1)
        self.assertEqual(energy_pointing_game(0 * self.map, CORNER, EVERYWHERE), 0)

    def test_average_precision(self):
        # The four pixels of the corner come first. If all are equal, the precision is their share.
        self.assertAlmostEqual(average_precision(self.map, CORNER, EVERYWHERE), 1)
        self.assertAlmostEqual(average_precision(0 * self.map, CORNER, EVERYWHERE), 0.04)
        # The two pixels of the corner in the first column are ranked below all 90 beyond both columns of the corner.
        halves = np.where(np.arange(10) >= 2, 2.0, np.where(np.arange(10) == 1, 3.0, 1.0)) * np.ones((10, 1))
        self.assertAlmostEqual(average_precision(halves, CORNER, EVERYWHERE), 0.5 * 2 / 10 + 0.5 * 4 / 100)
        self.assertEqual(average_precision(self.map, 0 * CORNER, EVERYWHERE), 0)

    def test_iou(self):
        iou = iou_by_threshold(self.map, CORNER, EVERYWHERE)
        np.testing.assert_allclose(iou[THRESHOLDS <= 0.5], 4 / 8)
        np.testing.assert_allclose(iou[THRESHOLDS > 0.5], 1)
        np.testing.assert_allclose(iou_by_threshold(0 * self.map, CORNER, EVERYWHERE), 0)


class DeletionInsertionTest(unittest.TestCase):
    def test_highest_values_first(self):
        image = sets.photograph(0, SIZE)
        retina = retina_mask(image)
        map = np.linspace(1, 0, SIZE)[None, :] * np.ones((SIZE, 1))  # highest on the left
        both = deletion_and_insertion_images({None: image}, {None: map}, steps=4)
        deletion, insertion = (steps[None] for steps in both)
        blurred = blur(image)
        for first, last, steps in ((image, blurred, deletion), (blurred, image, insertion)):
            np.testing.assert_array_equal(steps[0], first)
            np.testing.assert_array_equal(steps[-1], last)
        left = np.arange(SIZE) < np.flatnonzero(np.cumsum(retina.sum(axis=0)) > 0.5 * retina.sum())[0]
        np.testing.assert_array_equal(deletion[2][:, left], blurred[:, left])
        np.testing.assert_array_equal(insertion[2][:, left], image[:, left])

    def test_blur_removes_lesions(self):
        image = np.where(retina_mask(sets.photograph(0, SIZE))[..., None], np.uint8((150, 90, 40)), np.uint8(0))
        np.testing.assert_allclose(blur(image).astype(int), image.astype(int), atol=1)  # no dark rim
        image[30:33, 30:33] = (90, 20, 20)
        self.assertLess(np.ptp(blur(image)[28:36, 28:36, 1].astype(int)), 8)

    def test_area_under_curve(self):
        self.assertAlmostEqual(area_under_curve([1, 0]), 0.5)
        self.assertAlmostEqual(area_under_curve([1, 0, 0, 0, 0]), 0.125)


class ParameterRandomizationTest(unittest.TestCase):
    def test_from_the_head_down(self):
        model = network(HEADS["binary"]())
        before = [np.array(w) for w in model.get_weights()]
        parts, unchanged = [], []
        for name, randomized in randomize_parameters(model):
            same = [np.array_equal(*pair) for pair in zip(before, randomized.get_weights(), strict=True)]
            parts.append(name)
            unchanged.append(sum(same))
        self.assertEqual(parts, ["head", "stack3", "stack2", "stack1", "stem"])
        self.assertEqual(sorted(unchanged, reverse=True), unchanged)
        self.assertGreaterEqual(unchanged[0], len(before) - 2)
        for old, original, permuted in zip(before, model.get_weights(), randomized.get_weights(), strict=True):
            np.testing.assert_array_equal(old, original)
            np.testing.assert_array_equal(np.sort(old, axis=None), np.sort(permuted, axis=None))

    def test_rank_correlation(self):
        rising = np.array([[1.0, 2], [3, 9]])
        self.assertAlmostEqual(rank_correlation(rising, rising**3), 1)
        self.assertAlmostEqual(rank_correlation(rising, -rising), -1)
        self.assertEqual(rank_correlation(rising, 0 * rising), 0)


class ScorecardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.explainers = build_explainers(green_counter(), HEADS["binary"](), ["hires_cam", "grad_cam@green"])
        thresholds = choose_thresholds(cls.explainers, records(), records().rows("validation"))
        cls.summary = summarize(compute_scorecard(cls.explainers, records(), records().rows("test")), thresholds)

    def test_masks(self):
        rows = records().rows("test")
        all_masks = read_masks(records(), rows)
        self.assertEqual(list(all_masks), [(row, None) for row in rows if records().columns["grade"][row] > 0])
        for (row, _), masks in all_masks.items():
            number = int(records().columns["image_id"][row][1:])
            np.testing.assert_array_equal(masks["drawn"], lesion_at(number)[..., 0] > 0)
            self.assertEqual(list(masks), ["drawn"])  # without haze, which covers everything

    def test_masks_of_joined_record_sets(self):
        root = sets.scratch(self)
        shutil.copytree(f"{records_root()}/squares", f"{root}/squares")
        sets.write_set(root, {"test": [example(1), example(0)]}, name="more", config=DATASET.split("/")[1], size=SIZE)
        joined = open_records(root, ["squares", "more"])
        masks, alone = read_masks(joined, joined.rows("test")), read_masks(records(), records().rows("test"))
        names = [joined.columns["image_id"][row] for row, _ in masks]
        expected = [f"squares/{records().columns['image_id'][row]}" for row, _ in alone] + ["more/p001"]
        self.assertEqual(names, expected)
        np.testing.assert_array_equal(masks[max(masks)]["drawn"], lesion_at(1)[..., 0] > 0)

    def test_header(self):
        self.assertEqual(next(iter(self.summary.items())), ("version", 2))
        self.assertEqual(self.summary["photographs"], {"masks": 8, "positive": 8, "parameter_randomization": 12})
        self.assertEqual(self.summary["masks"], "synthetic only")  # all sources are synthetic cameras
        self.assertEqual(self.summary["baselines"], ["random map", "local contrast"])

    def test_localization_is_better_than_a_random_map(self):
        scores = {name: of_map["lesions"][ANY_LESION] for name, of_map in self.summary["maps"].items()}
        for method in self.explainers:
            self.assertEqual(scores[method]["pointing"]["value"], 1)
            self.assertGreater(scores[method]["energy"]["value"], 4 * scores["random map"]["energy"]["value"])
            self.assertGreater(scores[method]["iou"]["value"], scores["random map"]["iou"]["value"])
        self.assertGreater(scores["grad_cam@green"]["iou"]["value"], 0.9)  # this map has the resolution of the image
        self.assertAlmostEqual(scores["random map"]["energy"]["value"], 1, delta=0.5)

    def test_deletion_and_insertion_are_better_than_a_random_map(self):
        maps = self.summary["maps"]
        for method in self.explainers:
            for name, sign in (("deletion", -1), ("insertion", 1)):
                self.assertGreater(sign * (maps[method][name]["value"] - maps["random map"][name]["value"]), 0.1)

    def test_parameter_randomization_of_baselines(self):
        maps = self.summary["maps"]
        self.assertAlmostEqual(maps["local contrast"]["parameter_randomization"]["head"], 1)
        self.assertLess(abs(maps["random map"]["parameter_randomization"]["head"]), 0.2)

    def test_tables(self):
        text = "\n".join(tables(self.summary))
        for words in ("synthetic only", "random map", "local contrast", "any lesion", "deletion", "randomized"):
            self.assertIn(words, text)

    def test_mistakes(self):
        for names, message in {
            ("scam",): "unknown method 'scam'",
            ("hires_cam@top",): "no layer 'top'; there are green, map",
            ("hires_cam@grade",): "grade gives no feature map",
            ("hires_cam", "hires_cam"): "hires_cam and hires_cam are the same maps",
            ("hires_cam", "grad_cam", "hires_cam@map"): "hires_cam and hires_cam@map are the same maps",
            (): "at least one method",
        }.items():
            with self.assertRaisesRegex(UserError, message):
                build_explainers(green_counter(), HEADS["binary"](), names)


class PairsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.explainers = build_explainers(green_counter_of_pairs(), HEADS["binary"](), ["hires_cam", "grad_cam@green"])
        thresholds = choose_thresholds(cls.explainers, pairs(), pairs().rows("validation"))
        cls.card = compute_scorecard(cls.explainers, pairs(), pairs().rows("test"))
        cls.summary = summarize(cls.card, thresholds)
        cls.eyes = {number: eyes_of(number) for number in range(4, 16)}

    def test_masks_of_each_eye(self):
        all_masks = read_masks(pairs(), pairs().rows("test"))
        numbers = {(row, eye): int(pairs().columns[f"{eye}/image_id"][row][1:]) for row, eye in all_masks}
        with_lesion = [(n, eye) for eyes in self.eyes.values() for eye, n in eyes.items() if lesion_at(n).any()]
        self.assertCountEqual([(n, eye) for (_, eye), n in numbers.items()], with_lesion)
        for key, masks in all_masks.items():
            np.testing.assert_array_equal(masks["drawn"], lesion_at(numbers[key])[..., 0] > 0)

    def test_header(self):
        with_masks = sum(bool(lesion_at(n).any()) for eyes in self.eyes.values() for n in eyes.values())
        expected = {"masks": with_masks, "positive": 11, "parameter_randomization": 12}
        self.assertEqual(self.summary["photographs"], expected)
        self.assertEqual((self.summary["unit"], self.summary["masks"]), ("patient", "synthetic only"))
        patients = self.card.patients[ANY_LESION].tolist()
        self.assertLess(len(set(patients)), len(patients))  # two eyes of one patient of the bootstrap

    def test_better_than_a_random_map(self):
        maps = self.summary["maps"]
        lesions = {name: of_map["lesions"][ANY_LESION] for name, of_map in maps.items()}
        for method in self.explainers:
            self.assertEqual(lesions[method]["pointing"]["value"], 1)
            self.assertGreater(lesions[method]["energy"]["value"], 4 * lesions["random map"]["energy"]["value"])
            self.assertGreater(lesions[method]["iou"]["value"], lesions["random map"]["iou"]["value"])
            for name, sign in (("deletion", -1), ("insertion", 1)):
                self.assertIn("random map", maps[method][name]["better_than"])
                self.assertGreater(sign * (maps[method][name]["value"] - maps["random map"][name]["value"]), 0.05)
        self.assertAlmostEqual(lesions["random map"]["energy"]["value"], 1, delta=0.5)

    def test_parameter_randomization_of_baselines(self):
        maps = self.summary["maps"]
        self.assertAlmostEqual(maps["local contrast"]["parameter_randomization"]["head"], 1)
        self.assertLess(abs(maps["random map"]["parameter_randomization"]["head"]), 0.2)

    def test_masks_of_an_eye_whose_label_rules_out_the_definition_are_not_used(self):
        columns = pairs().columns | {"right/grade": np.zeros(len(pairs()), int)}
        changed = dataclasses.replace(pairs(), columns=columns)
        card = compute_scorecard(self.explainers, changed, pairs().rows("test"))
        left = [n for n, eyes in self.eyes.items() if "left" in eyes and lesion_at(n).any()]
        self.assertEqual(len(card.rows["masks"]), len(left))

    def test_absent_eye_stays_black(self):
        row = int(np.flatnonzero(~pairs().present("right"))[0])
        examples = Examples.from_records(pairs(), np.array([row, row + 1]), SIZE)
        self.assertEqual(examples.images["right"][0].max(), 0)
        present = [list(examples.of_present_eyes(examples.images, i)) for i in (0, 1)]
        self.assertEqual(present, [["left"], ["left", "right"]])
        changed = examples.with_images(0, {"left": np.full((3, SIZE, SIZE, 3), 7, np.uint8)}).network_input()
        self.assertEqual([int(changed[eye].max()) for eye in ("left", "right")], [7, 0])
        np.testing.assert_array_equal(changed["right_present"], [False] * 3)

    def test_pixels_of_both_eyes_are_ranked_together(self):
        images = {eye: sets.photograph(i, SIZE) for i, eye in enumerate(("left", "right"))}
        maps = {"left": np.full((SIZE, SIZE), 0.2), "right": np.full((SIZE, SIZE), 0.9)}
        deletion, insertion = deletion_and_insertion_images(images, maps, steps=4)
        blurred = {eye: blur(image) for eye, image in images.items()}
        np.testing.assert_array_equal(deletion["left"][2], images["left"])
        np.testing.assert_array_equal(deletion["right"][2], blurred["right"])  # half of the pixels are of this eye
        np.testing.assert_array_equal(insertion["left"][2], blurred["left"])
        np.testing.assert_array_equal(insertion["right"][2], images["right"])

    def test_noise_differs_between_eyes(self):
        maps = maps_by_eye(random_maps, dict.fromkeys(("left", "right"), np.zeros((3, SIZE, SIZE, 3), np.uint8)))
        self.assertFalse(np.array_equal(maps["left"], maps["right"]))


class ConfidenceIntervalsTest(unittest.TestCase):
    def test_patients_are_resampled(self):
        values = {"map": np.tile([0.0, 1], 20), "random map": np.full(40, 0.2), "local contrast": np.full(40, 0.9)}
        single = compare_means(values, np.arange(40))["map"]
        np.testing.assert_allclose(
            [single["low"], single["high"]], 0.5 + np.array([-1.96, 1.96]) * 0.5 / np.sqrt(40), atol=0.03
        )
        paired = compare_means(values, np.arange(40) // 2)["map"]  # each patient has 0 and 1: the mean does not vary
        self.assertEqual((paired["value"], paired["low"], paired["high"]), (0.5, 0.5, 0.5))

    def test_proportions_have_wilson_intervals_if_each_patient_has_one_score(self):
        result = compare_means({"map": [1.0] * 9}, np.arange(9), proportion=True)["map"]
        np.testing.assert_allclose([result["low"], result["high"]], [9 / (9 + 1.95996**2), 1], atol=1e-4)
        several = compare_means({"map": [1.0] * 9}, np.arange(9) // 2, proportion=True)["map"]
        self.assertEqual((several["low"], several["high"]), (1, 1))

    def test_better_than_a_baseline(self):
        values = {"map": np.linspace(0, 1, 40), "random map": np.full(40, 0.2), "local contrast": np.full(40, 0.9)}
        higher = compare_means(values, np.arange(40))
        self.assertEqual(higher["map"]["better_than"], ["random map"])
        self.assertEqual(higher["local contrast"]["better_than"], [])
        lower = compare_means(values, np.arange(40), higher_is_better=False)
        self.assertEqual(lower["map"]["better_than"], ["local contrast"])

    def test_too_few_patients(self):
        result = compare_means({"map": [1.0] * 4, "random map": [0.0] * 4}, np.arange(4))["map"]
        self.assertEqual(result, {"value": 1, "low": None, "high": None, "better_than": []})
        result = compare_means({"map": [1.0] * 9, "random map": [0.0] * 9}, np.arange(9))["map"]
        self.assertEqual(result, {"value": 1, "low": 1, "high": 1, "better_than": []})
        self.assertEqual(compare_means({"map": []}, np.array([])), {"map": None})


class BaselinesTest(unittest.TestCase):
    def test_contrast_is_highest_on_the_lesion(self):
        image = records().image(int(np.flatnonzero(records().columns["image_id"] == "p001")[0]))
        (map,) = contrast_maps(image[None])
        self.assertTrue(lesion_at(1)[..., 0].ravel()[map.argmax()])
        self.assertLess(map[~retina_mask(image)].max(), 0.01)
        self.assertEqual(map.max(), 1)

    def test_noise(self):
        x = np.zeros((3, SIZE, SIZE, 3), np.uint8)
        np.testing.assert_array_equal(random_maps(x), random_maps(x))
        self.assertFalse(np.array_equal(random_maps(x), random_maps(x, seed=1)))


if __name__ == "__main__":
    unittest.main()
