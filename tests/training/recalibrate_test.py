"""Recalibration on photographs of another clinic: with and without labels, and what is refused."""

import functools
import json
import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf

import dr_tf
from dr_tf.cli.evaluate import main as evaluate
from dr_tf.cli.recalibrate import main as recalibrate
from dr_tf.inference.run import load_run, read_calibration
from tests import commands, tiny
from tests.tfrecords_builder.trees import write_folder

CLINIC = "clinic/64-plain-q95"


@functools.cache
def clinic():
    """Records of 80 photographs, 20 of them in the test split."""
    folder = tiny.temporary_folder()
    write_folder(folder / "photographs", splits=("train", "valid", "calibration", "test"), each=4)
    return tiny.build_records(
        "folder", folder / "photographs", folder / "records", "--name", "clinic", "--classes", tiny.CLASSES
    )


class RecalibrateTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.output = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory())) / "run"

    def _recalibrate(self, *flags, records=None, dataset=CLINIC):
        return commands.run(
            recalibrate,
            "--model", tiny.run_dir(), "--records", records or clinic(), "--dataset", dataset, "--output", self.output, *flags,
        )  # fmt: skip

    def _probabilities(self, run_dir):
        decisions = dr_tf.load(run_dir).predict(tiny.photographs())
        return load_run(run_dir).rule, np.array([decision.p_positive for decision in decisions])

    def test_the_weights_stay_and_the_rule_changes(self):
        status, out, errors = self._recalibrate()
        self.assertEqual(status, 0, errors)
        self.assertEqual(out.strip(), str(self.output))
        self.assertRegex(errors, r"fitted on 60 photographs\n.*before: refers at p\(referable\) >= 0\.\d+")
        self.assertEqual((self.output / "model.keras").read_bytes(), (tiny.run_dir() / "model.keras").read_bytes())
        before, p_before = self._probabilities(tiny.run_dir())
        after, p_after = self._probabilities(self.output)
        self.assertNotAllClose(p_before, p_after)
        self.assertEqual(list(after.modes), list(before.modes))
        self.assertEqual(after.modes["plain"].report["images"], 60)

    @pytest.mark.slow
    def test_the_result_is_evaluated_on_the_clinics_test_split(self):
        self._recalibrate()
        status, _, errors = commands.run(evaluate, "--run_dir", self.output, "--records", clinic())
        self.assertEqual(status, 0, errors)
        (path,) = (self.output / "evaluation").glob("*/metrics.json")
        self.assertEqual((json.loads(path.read_text())["dataset"], json.loads(path.read_text())["n"]), (CLINIC, 20))

    def test_without_labels_the_same_cases_are_referred(self):
        status, _, errors = self._recalibrate("--without_labels")
        self.assertEqual(status, 0, errors)
        before, p_before = self._probabilities(tiny.run_dir())
        after, p_after = self._probabilities(self.output)
        self.assertEqual(after.modes["plain"].calibration, before.modes["plain"].calibration)
        self.assertAllEqual(p_before >= before.thresholds()[0], p_after >= after.thresholds()[0])
        self.assertNotAllClose(after.prior, before.prior)
        self.assertEmpty(read_calibration(self.output)[0].rows)

    def test_what_is_refused(self):
        for flags, expected in (
            (
                {"records": tiny.records_root(), "dataset": tiny.DATASET},
                "was trained on photographs of tiny/64-plain-q95",
            ),
            ({"dataset": "other"}, "no records 'other'"),
        ):
            with self.subTest(expected):
                status, _, errors = self._recalibrate(**flags)
                self.assertEqual(status, 2)
                self.assertIn(expected, errors)
                self.assertFalse(self.output.exists())
        self.output.mkdir()
        self.assertIn("exists already", self._recalibrate()[2])


if __name__ == "__main__":
    tf.test.main()
