"""Predictions refuse invalid values, and predictions.csv loses nothing."""

import os
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.metrics.compute import compute_metrics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.predictions_csv import read_predictions, write_predictions
from tests.evaluation.synthetic_predictions import make_graded, make_labelled


def _same(test, first, second):
    for name in Predictions.__dataclass_fields__:
        a, b = getattr(first, name), getattr(second, name)
        with test.subTest(field=name):
            if isinstance(a, dict):
                test.assertEqual(list(a), list(b))
                for key in a:
                    np.testing.assert_array_equal(a[key], b[key])
            elif isinstance(a, np.ndarray):
                test.assertEqual(a.dtype.kind, b.dtype.kind)
                np.testing.assert_array_equal(a, b)
            else:
                test.assertEqual(a, b)


class TableTest(unittest.TestCase):
    def _round_trip(self, predictions):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "predictions.csv")
            write_predictions(path, predictions)
            _same(self, predictions, read_predictions(path))

    def test_round_trip_is_exact(self):
        rng = np.random.default_rng(0)
        self._round_trip(
            make_graded(
                40,
                eyes=2,
                uncalibrated=make_graded(40, heat=3).probabilities,
                p_positive_uncalibrated=rng.random(40),
                prediction_intervals=np.sort(rng.integers(5, size=(40, 2)), axis=1),
                uncertainty={"entropy": rng.random(40), "tta spread": 1e-300 * rng.random(40)},
                subgroups={"camera": np.where(rng.random(40) < 0.5, 'Topcon, "NW"', ""), "sex": ["female"] * 40},
                threshold=1 / 3,
                ids=[f"left\n{i},é" for i in range(40)],
            )
        )

    def test_round_trip_of_labels_and_unknowns(self):
        predictions = make_labelled(20)
        truth = predictions.truth.copy()
        truth[3] = -1
        self._round_trip(make_labelled(20, truth=truth, patient_known=np.arange(20) > 4))

    def test_other_and_damaged_files_are_refused_in_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.csv")
            for text, expected in (
                ("a,b\n1,2\n", "missing: .*threshold"),
                ("id\n", "no predictions"),
                ("a,b\n1\n", "rows"),
            ):
                with open(path, "w") as file:
                    file.write(text)
                with self.assertRaisesRegex(UserError, expected):
                    read_predictions(path)
            write_predictions(path, make_graded(5))
            with open(path) as file:
                text = file.read().replace("0.4", "zero point four")
            with open(path, "w") as file:
                file.write(text)
            with self.assertRaisesRegex(UserError, "damaged"):
                read_predictions(path)
            with self.assertRaisesRegex(UserError, "cannot be read"):
                read_predictions(os.path.join(folder, "absent.csv"))

    def test_a_file_of_an_earlier_version_is_refused(self):
        predictions = make_graded(
            5, subgroups={"camera": list("aabba")}, other_truth={"dme": [0] * 5}, other_predicted={"dme": [0] * 5}
        )
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "predictions.csv")
            write_predictions(path, predictions)
            with open(path) as file:
                header, rows = file.read().split("\n", 1)
            for now, formerly in (
                ("subgroups/camera", "slices/camera"),
                (",predicted,", ",decided,"),
                ("other_predicted/", "other_decided/"),
            ):
                self.assertIn(now, header)
                with open(path, "w") as file:
                    file.write(f"{header.replace(now, formerly)}\n{rows}")
                with (
                    self.subTest(formerly),
                    self.assertRaisesRegex(
                        UserError, r"predictions\.csv was written by an earlier version; evaluate the run again"
                    ),
                ):
                    read_predictions(path)


class PredictionsTest(unittest.TestCase):
    def test_refuses_what_cannot_be_evaluated(self):
        probabilities = make_graded(10).probabilities.copy()
        probabilities[2:4, 0] = np.nan
        with self.assertRaisesRegex(UserError, "2 of 10"):
            make_graded(10, probabilities=probabilities)
        with self.assertRaisesRegex(UserError, "no predictions"):
            make_graded(10).take(np.zeros(10, bool))
        with self.assertRaisesRegex(UserError, "the same id"):
            make_graded(2, ids=["a", "a"])
        with self.assertRaisesRegex(ValueError, "shape"):
            make_graded(10, refer=np.ones(9, bool))

    def test_probabilities_are_probabilities(self):
        with self.assertRaisesRegex(ValueError, "between 0 and 1"):
            make_graded(10, p_positive=np.linspace(0, 1.1, 10))
        with self.assertRaisesRegex(ValueError, "sum to 1"):
            make_graded(10, probabilities=np.full((10, 5), 0.1))
        rounded = make_graded(10, p_positive=np.nextafter(np.ones(10), 2))
        self.assertEqual(
            compute_metrics(rounded, only=("brier_positive",), bootstrap_samples=10)["brier_positive"]["n"], 10
        )

    def test_which_classes_are_positive(self):
        self.assertEqual(make_graded(5).class_is_positive(), [False, False, True, True, True])
        edema = make_graded(5, positive="referable_or_dme")
        self.assertEqual(edema.class_is_positive(), [None, None, True, True, True])
        self.assertEqual(make_labelled(5).class_is_positive(), [None] * 8)
