"""Nearest training cases: distances by hand, and the command that shows them."""

import json
import pathlib
import tempfile
import unittest

import cv2
import numpy as np
import pytest

from dr_tf.cli.explain import main
from dr_tf.console import EXIT_USER_ERROR, UserError
from dr_tf.explain.methods import find_method
from dr_tf.explain.nearest_cases import NearestCases, TrainingCase
from dr_tf.explain.nearest_gallery import describe_training_case
from dr_tf.inference.nearest_neighbours import build_neighbours
from dr_tf.inference.run import read_calibration
from tests import commands, tiny


class NearestCasesTest(unittest.TestCase):
    def setUp(self):
        features = [[0, 0], [3, 4], [0, 1]]
        self.neighbours = build_neighbours(features, [0, 2, 1], 3)

    def test_by_hand(self):
        nearest = NearestCases(self.neighbours, ("none", "mild", "severe"), np.array(["a/x", "a/y", "a/z"]))
        (found,) = nearest(np.zeros((1, 2)), k=3)
        self.assertEqual(
            [(case.name, case.label) for case in found], [("a/x", "none"), ("a/z", "mild"), ("a/y", "severe")]
        )
        np.testing.assert_allclose([case.distance for case in found], [0, 1, 5], atol=1e-3)

    def test_names_that_the_run_does_not_store(self):
        (found,) = NearestCases(self.neighbours, ("none", "mild", "severe"), None)(np.array([[3.0, 4]]), k=1)
        self.assertEqual((found[0].name, found[0].label), (None, "severe"))
        self.assertEqual(describe_training_case(TrainingCase(None, "severe", 0.5)), "severe, distance 0.5")

    def test_several_labels(self):
        neighbours = build_neighbours([[0.0], [9.0]], np.array([[1, 1], [0, 0]]), 2)
        (found,) = NearestCases(neighbours, ("D", "G"), None)(np.zeros((1, 1)), k=2)
        self.assertEqual([case.label for case in found], ["D, G", "none of the labels"])

    def test_it_is_no_map(self):
        with self.assertRaisesRegex(UserError, "nearest_cases shows training cases, not a map"):
            find_method("nearest_cases")


@pytest.mark.slow
class CommandTest(unittest.TestCase):
    def explain(self, *arguments):
        output = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "out"
        return *commands.run(main, "--output", output, "--method", "nearest_cases", *arguments), output

    def test_a_training_photograph_is_its_own_nearest_case(self):
        photograph = tiny.photographs("train")[0]
        arguments = ("--run_dir", tiny.run_dir(), "--records", tiny.records_root(), photograph, tiny.photographs()[0])
        status, printed, _, output = self.explain(*arguments)
        self.assertEqual((status, printed.strip()), (0, str(output / "explanations.html")))
        contents = json.loads((output / "explanations.json").read_text())
        self.assertEqual(contents["method"], "nearest_cases")
        nearest = contents["cases"][0]["nearest"]
        self.assertEqual(len(nearest), 5)
        self.assertIn(photograph.stem, nearest[0]["name"])
        self.assertLess(nearest[0]["distance"], 0.5 * nearest[1]["distance"])
        stored = read_calibration(tiny.run_dir())[1]["fitted_names"].tolist()
        self.assertLessEqual({case["name"] for case in nearest}, set(stored))
        page = (output / "explanations.html").read_text()
        for case in nearest:
            self.assertIn(case["name"], page)
        picture = cv2.imread(str(output / contents["cases"][0]["picture"]))
        self.assertGreater(picture.shape[1], 5 * 360)  # the photograph and five thumbnails

    def test_mistakes_in_one_line(self):
        photograph = tiny.photographs()[0]
        for arguments, message in (
            ((photograph,), "nearest_cases: the run has no neighbours.npz; add 'knn' to train.modes"),
            (("--run_dir", tiny.run_dir(), "--layer", "stride_8", photograph), "takes no --layer"),
        ):
            status, _, warned, output = self.explain(*arguments)
            self.assertEqual(status, EXIT_USER_ERROR)
            self.assertIn(message, warned)
            self.assertFalse(output.exists())


if __name__ == "__main__":
    unittest.main()
