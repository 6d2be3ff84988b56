"""Calibration predictions are made from the scores stored with a run, without the network."""

import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import open_records
from dr_tf.evaluation.caveats import training_overlap_caveat
from dr_tf.evaluation.predict_records import calibration_predictions
from dr_tf.inference.run import load_run
from tests import tiny


class CalibrationTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.records = open_records(tiny.records_root(), tiny.DATASET)
        run = load_run(tiny.run_dir())
        self.network, self.rule = run.network, run.rule

    def _changed(self, **arrays):
        with np.load(tiny.run_dir() / "calibration.npz") as file:
            np.savez(self.folder / "calibration.npz", **(dict(file) | arrays))
        return calibration_predictions(self.folder, self.rule, "plain", self.records)

    def test_stored_scores_equal_those_of_the_network(self):
        predictions, fitted = calibration_predictions(tiny.run_dir(), self.rule, "plain", self.records)
        rows = self.records.rows("calibration")
        photographs = ImageLoader(self.records, image_size=64, cache="none")
        outputs, _ = self.network(np.stack([photographs.read(row) for row in rows]))
        expected = self.rule.probabilities({"plain": outputs["grade"]})
        self.assertAllClose(predictions.probabilities, expected, atol=1e-5)
        self.assertAllEqual(predictions.truth, self.records.columns["grade"][rows])
        self.assertAllEqual(fitted, self.records.rows("train"))
        by_votes, _ = calibration_predictions(tiny.run_dir(), self.rule, "knn", self.records)
        self.assertNotAllClose(predictions.probabilities, by_votes.probabilities)

    def test_a_refitted_run_uses_out_of_fold_scores(self):
        rows = np.flatnonzero(self.records.columns["fold"] >= 0)
        logits = np.eye(5)[self.records.columns["grade"][rows]]
        names = self.records.columns["image_id"][rows]
        scores = {"scores plain": logits, "output grade": logits, "distances": np.zeros(45)}
        predictions, fitted = self._changed(fitted=rows, rows=rows, names=names, **scores)
        self.assertLen(predictions, 45)
        self.assertAllEqual(fitted, rows)
        self.assertIn("trained on 45 of these 60 photographs", training_overlap_caveat(len(fitted), 60)[0])
        self.assertEmpty(training_overlap_caveat(0, 60))

    def test_other_records_are_refused(self):
        with self.assertRaisesRegex(UserError, "its calibration photographs differ"):
            self._changed(names=np.array(["other.jpg"] * 15))
        with self.assertRaisesRegex(UserError, "its calibration photographs differ"):
            self._changed(rows=np.arange(15) + 1000)

    def test_without_stored_scores_there_is_none(self):
        self.assertIsNone(calibration_predictions(self.folder, self.rule, "plain", self.records)[0])
        self.assertIsNone(calibration_predictions(tiny.run_dir(), self.rule, "plain", None)[0])
        shutil.copy(tiny.run_dir() / "calibration.npz", self.folder)
        self.assertIsNone(calibration_predictions(self.folder, self.rule, "tta8", self.records)[0])


if __name__ == "__main__":
    tf.test.main()
