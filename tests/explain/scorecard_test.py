"""The scorecard: hand-computed parts, and a network that is known to look at nothing but the lesions."""

import dataclasses
import shutil
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.explain.scorecard import deletion_insertion
from dr_tf.explain.scorecard.baselines import contrast_maps, of_eyes, random_maps, retina
from dr_tf.explain.scorecard.confidence_intervals import figures
from dr_tf.explain.scorecard.localization import THRESHOLDS, energy, overlaps, pointing
from dr_tf.explain.scorecard.masks import read_masks
from dr_tf.explain.scorecard.parameter_randomization import randomize_parameters, rank_correlation
from dr_tf.explain.scorecard.record_images import Examples
from dr_tf.explain.scorecard.scorecard import ANY_LESION, choose_thresholds, build_explainers, compute_scorecard
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

    def test_pointing(self):
        self.assertTrue(pointing(self.map, CORNER, EVERYWHERE))
        self.assertFalse(pointing(1 - self.map, CORNER, EVERYWHERE))
        self.assertFalse(pointing(0 * self.map, CORNER, EVERYWHERE))
        self.assertFalse(pointing(self.map, CORNER, ~CORNER))  # what lies beyond the retina does not count

    def test_pointing_forgives_a_little(self):
        lesion, strongest = np.zeros((100, 100), bool), np.zeros((100, 100))
        lesion[50, 50] = True
        strongest[50, 53] = 1
        self.assertTrue(pointing(strongest, lesion, np.ones_like(lesion)))
        strongest[50, 54] = 2
        self.assertFalse(pointing(strongest, lesion, np.ones_like(lesion)))

    def test_energy(self):
        self.assertAlmostEqual(energy(self.map, CORNER, EVERYWHERE), 4 / 6 * 100 / 4)
        self.assertAlmostEqual(energy(np.full((10, 10), 0.3), CORNER, EVERYWHERE), 1)
        self.assertEqual(energy(0 * self.map, CORNER, EVERYWHERE), 0)

    def test_overlaps(self):
        found = overlaps(self.map, CORNER, EVERYWHERE)
        np.testing.assert_allclose(found[THRESHOLDS <= 0.5], 4 / 8)
        np.testing.assert_allclose(found[THRESHOLDS > 0.5], 1)
        np.testing.assert_allclose(overlaps(0 * self.map, CORNER, EVERYWHERE), 0)


class CurvesTest(unittest.TestCase):
    def test_strongest_places_go_first_and_come_first(self):
        photograph = sets.photograph(0, SIZE)
        field = retina(photograph)
        map = np.linspace(1, 0, SIZE)[None, :] * np.ones((SIZE, 1))  # the left first
        deletion, insertion = (of[None] for of in deletion_insertion.mixtures({None: photograph}, {None: map}, steps=4))
        away = deletion_insertion.blurred(photograph)
        for first, last, those in ((photograph, away, deletion), (away, photograph, insertion)):
            np.testing.assert_array_equal(those[0], first)
            np.testing.assert_array_equal(those[-1], last)
        left = np.arange(SIZE) < np.flatnonzero(np.cumsum(field.sum(axis=0)) > 0.5 * field.sum())[0]
        np.testing.assert_array_equal(deletion[2][:, left], away[:, left])
        np.testing.assert_array_equal(insertion[2][:, left], photograph[:, left])

    def test_no_lesion_is_left_in_what_is_blurred(self):
        photograph = np.where(retina(sets.photograph(0, SIZE))[..., None], np.uint8((150, 90, 40)), np.uint8(0))
        away = deletion_insertion.blurred(photograph)
        np.testing.assert_allclose(away.astype(int), photograph.astype(int), atol=1)  # no dark rim comes in
        photograph[30:33, 30:33] = (90, 20, 20)
        self.assertLess(np.ptp(deletion_insertion.blurred(photograph)[28:36, 28:36, 1].astype(int)), 8)

    def test_area(self):
        self.assertAlmostEqual(deletion_insertion.area([1, 0]), 0.5)
        self.assertAlmostEqual(deletion_insertion.area([1, 0, 0, 0, 0]), 0.125)


class RandomizationTest(unittest.TestCase):
    def test_from_the_head_down(self):
        model, seen = network(HEADS["binary"]()), []
        before = [np.array(w) for w in model.get_weights()]
        for name, forgetful in randomize_parameters(model):
            same = [np.array_equal(*pair) for pair in zip(before, forgetful.get_weights(), strict=True)]
            seen.append((name, sum(same)))
        self.assertEqual([name for name, _ in seen], ["head", "stack3", "stack2", "stack1", "stem"])
        self.assertEqual(sorted((count for _, count in seen), reverse=True), [count for _, count in seen])
        self.assertGreaterEqual(seen[0][1], len(before) - 2)
        for old, own, shuffled in zip(before, model.get_weights(), forgetful.get_weights(), strict=True):
            np.testing.assert_array_equal(old, own)
            np.testing.assert_array_equal(np.sort(old, axis=None), np.sort(shuffled, axis=None))

    def test_likeness(self):
        rising = np.array([[1.0, 2], [3, 9]])
        self.assertAlmostEqual(rank_correlation(rising, rising**3), 1)
        self.assertAlmostEqual(rank_correlation(rising, -rising), -1)
        self.assertEqual(rank_correlation(rising, 0 * rising), 0)


class ScorecardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = build_explainers(green_counter(), HEADS["binary"](), ["hires_cam", "grad_cam@green"])
        thresholds = choose_thresholds(cls.made, records(), records().rows("validation"))
        cls.figures = summarize(compute_scorecard(cls.made, records(), records().rows("test")), thresholds)

    def test_masks(self):
        rows = records().rows("test")
        found = read_masks(records(), rows)
        self.assertEqual(list(found), [(row, None) for row in rows if records().columns["grade"][row] > 0])
        for (row, _), masks in found.items():
            number = int(records().columns["image_id"][row][1:])
            np.testing.assert_array_equal(masks["drawn"], lesion_at(number)[..., 0] > 0)
            self.assertEqual(list(masks), ["drawn"])  # haze is everywhere

    def test_masks_of_several_sets(self):
        root = sets.scratch(self)
        shutil.copytree(f"{records_root()}/squares", f"{root}/squares")
        sets.write_set(root, {"test": [example(1), example(0)]}, name="more", config=DATASET.split("/")[1], size=SIZE)
        both = open_records(root, ["squares", "more"])
        found, alone = read_masks(both, both.rows("test")), read_masks(records(), records().rows("test"))
        names = [both.columns["image_id"][row] for row, _ in found]
        expected = [f"squares/{records().columns['image_id'][row]}" for row, _ in alone] + ["more/p001"]
        self.assertEqual(names, expected)
        np.testing.assert_array_equal(found[max(found)]["drawn"], lesion_at(1)[..., 0] > 0)

    def test_who_was_measured(self):
        self.assertEqual(self.figures["photographs"], {"masks": 8, "positive": 8, "parameter_randomization": 12})
        self.assertEqual(self.figures["masks"], "synthetic only")  # for all are of cameras that draw

    def test_a_network_that_sees_lesions_is_told_from_the_floors(self):
        maps = {name: of["lesions"][ANY_LESION] for name, of in self.figures["maps"].items()}
        for method in self.made:
            self.assertEqual(maps[method]["pointing"]["value"], 1)
            self.assertGreater(maps[method]["energy"]["value"], 4 * maps["random map"]["energy"]["value"])
            self.assertGreater(maps[method]["iou"]["value"], maps["random map"]["iou"]["value"])
        self.assertGreater(maps["grad_cam@green"]["iou"]["value"], 0.9)  # of a map as fine as the photograph
        self.assertAlmostEqual(maps["random map"]["energy"]["value"], 1, delta=0.5)

    def test_and_by_what_it_says(self):
        maps = self.figures["maps"]
        for method in self.made:
            for what, sign in (("deletion", -1), ("insertion", 1)):
                self.assertGreater(sign * (maps[method][what]["value"] - maps["random map"][what]["value"]), 0.1)

    def test_floors_forget_nothing(self):
        self.assertAlmostEqual(self.figures["maps"]["local contrast"]["parameter_randomization"]["head"], 1)
        self.assertLess(abs(self.figures["maps"]["random map"]["parameter_randomization"]["head"]), 0.2)

    def test_tables(self):
        text = "\n".join(tables(self.figures))
        for words in ("synthetic only", "random map", "local contrast", "any lesion", "deletion", "shuffled"):
            self.assertIn(words, text)

    def test_mistakes(self):
        for names, said in {
            ("scam",): "unknown method 'scam'",
            ("hires_cam@top",): "no layer 'top'; there are green, map",
            ("hires_cam@grade",): "grade gives no map",
            ("hires_cam", "hires_cam"): "hires_cam and hires_cam are the same maps",
            ("hires_cam", "grad_cam", "hires_cam@map"): "hires_cam and hires_cam@map are the same maps",
            (): "one method or more",
        }.items():
            with self.assertRaisesRegex(UserError, said):
                build_explainers(green_counter(), HEADS["binary"](), names)


class PairsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = build_explainers(green_counter_of_pairs(), HEADS["binary"](), ["hires_cam", "grad_cam@green"])
        thresholds = choose_thresholds(cls.made, pairs(), pairs().rows("validation"))
        cls.card = compute_scorecard(cls.made, pairs(), pairs().rows("test"))
        cls.figures = summarize(cls.card, thresholds)
        cls.eyes = {number: eyes_of(number) for number in range(4, 16)}

    def test_masks_are_of_an_eye(self):
        found = read_masks(pairs(), pairs().rows("test"))
        numbers = {(row, eye): int(pairs().columns[f"{eye}/image_id"][row][1:]) for row, eye in found}
        with_lesion = [(n, eye) for of in self.eyes.values() for eye, n in of.items() if lesion_at(n).any()]
        self.assertCountEqual([(n, eye) for (_, eye), n in numbers.items()], with_lesion)
        for key, masks in found.items():
            np.testing.assert_array_equal(masks["drawn"], lesion_at(numbers[key])[..., 0] > 0)

    def test_who_was_measured(self):
        masked = sum(bool(lesion_at(n).any()) for of in self.eyes.values() for n in of.values())
        self.assertEqual(self.figures["photographs"], {"masks": masked, "positive": 11, "parameter_randomization": 12})
        self.assertEqual((self.figures["unit"], self.figures["masks"]), ("patient", "synthetic only"))
        patients = self.card.patients[ANY_LESION].tolist()
        self.assertLess(len(set(patients)), len(patients))  # both eyes of some: one patient of the bootstrap

    def test_a_network_that_sees_lesions_is_told_from_the_floors(self):
        maps = self.figures["maps"]
        lesions = {name: of["lesions"][ANY_LESION] for name, of in maps.items()}
        for method in self.made:
            self.assertEqual(lesions[method]["pointing"]["value"], 1)
            self.assertGreater(lesions[method]["energy"]["value"], 4 * lesions["random map"]["energy"]["value"])
            self.assertGreater(lesions[method]["iou"]["value"], lesions["random map"]["iou"]["value"])
            for what, sign in (("deletion", -1), ("insertion", 1)):
                self.assertIn("random map", maps[method][what]["better_than"])
                self.assertGreater(sign * (maps[method][what]["value"] - maps["random map"][what]["value"]), 0.05)
        self.assertAlmostEqual(lesions["random map"]["energy"]["value"], 1, delta=0.5)

    def test_floors_forget_nothing(self):
        self.assertAlmostEqual(self.figures["maps"]["local contrast"]["parameter_randomization"]["head"], 1)
        self.assertLess(abs(self.figures["maps"]["random map"]["parameter_randomization"]["head"]), 0.2)

    def test_an_eye_whose_label_rules_the_definition_out_is_not_asked_for_lesions(self):
        columns = pairs().columns | {"right/grade": np.zeros(len(pairs()), int)}
        card = compute_scorecard(self.made, dataclasses.replace(pairs(), columns=columns), pairs().rows("test"))
        left = [n for n, of in self.eyes.items() if "left" in of and lesion_at(n).any()]
        self.assertEqual(len(card.rows["masks"]), len(left))

    def test_an_absent_eye_is_black_and_stays_so(self):
        row = int(np.flatnonzero(~pairs().present("right"))[0])
        x = Examples.of(pairs(), np.array([row, row + 1]), SIZE)
        self.assertEqual(x.photographs["right"][0].max(), 0)
        self.assertEqual([list(x.eyes(x.photographs, i)) for i in (0, 1)], [["left"], ["left", "right"]])
        changed = x.changed(0, {"left": np.full((3, SIZE, SIZE, 3), 7, np.uint8)}).given()
        self.assertEqual([int(changed[eye].max()) for eye in ("left", "right")], [7, 0])
        np.testing.assert_array_equal(changed["right_present"], [False] * 3)

    def test_the_strongest_places_of_both_eyes_go_first(self):
        photographs = {eye: sets.photograph(i, SIZE) for i, eye in enumerate(("left", "right"))}
        maps = {"left": np.full((SIZE, SIZE), 0.2), "right": np.full((SIZE, SIZE), 0.9)}
        deletion, insertion = deletion_insertion.mixtures(photographs, maps, steps=4)
        away = {eye: deletion_insertion.blurred(photograph) for eye, photograph in photographs.items()}
        np.testing.assert_array_equal(deletion["left"][2], photographs["left"])
        np.testing.assert_array_equal(deletion["right"][2], away["right"])  # half of all places are those of an eye
        np.testing.assert_array_equal(insertion["left"][2], away["left"])
        np.testing.assert_array_equal(insertion["right"][2], photographs["right"])

    def test_noise_is_of_each_eye(self):
        maps = of_eyes(random_maps, dict.fromkeys(("left", "right"), np.zeros((3, SIZE, SIZE, 3), np.uint8)))
        self.assertFalse(np.array_equal(maps["left"], maps["right"]))


class IntervalsTest(unittest.TestCase):
    def test_photographs_of_a_patient_are_drawn_together(self):
        values = {"map": np.tile([0.0, 1], 20), "random map": np.full(40, 0.2), "local contrast": np.full(40, 0.9)}
        alone = figures(values, np.arange(40))["map"]
        np.testing.assert_allclose(
            [alone["low"], alone["high"]], 0.5 + np.array([-1.96, 1.96]) * 0.5 / np.sqrt(40), atol=0.03
        )
        both = figures(values, np.arange(40) // 2)["map"]  # every patient has one of each: nothing varies
        self.assertEqual((both["value"], both["low"], both["high"]), (0.5, 0.5, 0.5))

    def test_better_than_a_floor(self):
        values = {"map": np.linspace(0, 1, 40), "random map": np.full(40, 0.2), "local contrast": np.full(40, 0.9)}
        found = figures(values, np.arange(40))
        self.assertEqual(found["map"]["better_than"], ["random map"])
        self.assertEqual(found["local contrast"]["better_than"], [])
        lower = figures(values, np.arange(40), higher=False)
        self.assertEqual(lower["map"]["better_than"], ["local contrast"])

    def test_too_few_to_tell(self):
        found = figures({"map": [1.0] * 9, "random map": [0.0] * 9}, np.arange(9))["map"]
        self.assertEqual(found, {"value": 1, "low": None, "high": None, "better_than": []})
        self.assertEqual(figures({"map": []}, []), {"map": None})


class FloorsTest(unittest.TestCase):
    def test_contrast_is_strongest_on_the_lesion(self):
        photograph = records().photograph(int(np.flatnonzero(records().columns["image_id"] == "p001")[0]))
        (map,) = contrast_maps(photograph[None])
        self.assertTrue(lesion_at(1)[..., 0].ravel()[map.argmax()])
        self.assertLess(map[~retina(photograph)].max(), 0.01)
        self.assertEqual(map.max(), 1)

    def test_noise(self):
        x = np.zeros((3, SIZE, SIZE, 3), np.uint8)
        np.testing.assert_array_equal(random_maps(x), random_maps(x))
        self.assertFalse(np.array_equal(random_maps(x), random_maps(x, seed=1)))


if __name__ == "__main__":
    unittest.main()
