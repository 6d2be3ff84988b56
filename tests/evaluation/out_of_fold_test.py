"""Out-of-fold evaluation, on synthetic logits that give each fold another rule."""

import contextlib
import html
import io
import json
import pathlib
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow as tf

import evaluate
from dr_tf.data.records import open_records
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.fit_rule import OTHER_NETWORKS, UNKNOWN_PATIENTS, CalibrationLabels, fit_rule
from dr_tf.inference.rule_file import read_rule
from dr_tf.inference.run import ScoredRows, write_scored_rows
from dr_tf.models.heads import HEADS
from dr_tf.models.heads.head import positive_labels
from tests import tiny


class FoldsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.records = open_records(tiny.records_root(), tiny.DATASET)
        self.logits = self._synthetic_logits()
        for fold in (0, 1):
            part = self.folder / "run" / f"fold-{fold}"
            part.mkdir(parents=True)
            self._write_decision(part)
            (part / "model.keras").touch()
            rows = np.flatnonzero(self.records.columns["fold"] == fold)
            self._write_held_out(part, rows)

    def _write_held_out(self, part, rows):
        """In mode tta4, the scores are those of the next grade."""
        logits = self.logits[rows]
        scores = {"plain": logits, "tta4": np.roll(logits, 1, axis=1)}
        write_scored_rows(part / "held_out.npz", ScoredRows(rows, scores, {"grade": logits}, np.zeros(len(rows))))

    def _write_decision(self, part, calibrated=False):
        """Write the decision of a fold; one that kept its last epoch has no calibration images."""
        decision = json.loads((tiny.run_dir() / "decision.json").read_text())
        decision["modes"]["plain"]["report"]["images"] = 15 if calibrated else 0
        (part / "decision.json").write_text(json.dumps(decision))

    def _synthetic_logits(self):
        """Make logits that are more confident in fold 1, so that calibrations and thresholds differ by fold."""
        rng, grade = np.random.default_rng(0), self.records.columns["grade"]
        seen = grade[:, None] + rng.normal(scale=0.7, size=(len(grade), 1))
        heat = np.where(self.records.columns["fold"] == 1, 3.0, 0.7)[:, None]
        return (-heat * (seen - np.arange(5)) ** 2).astype(np.float32)

    def _run(self, *arguments):
        output = io.StringIO()
        flags = [
            "--run_dir",
            self.folder / "run",
            "--records",
            tiny.records_root(),
            "--bootstrap_samples",
            50,
            *arguments,
        ]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main(list(map(str, flags)))
        return output.getvalue(), self.folder / "run" / "evaluation" / "tiny-64-plain-q95-folds"

    def test_each_fold_by_a_rule_of_the_others(self):
        said, folder = self._run("--split", "folds")
        self.assertIn("folds (out-of-fold, rule cross-fitted over folds): 45 photographs", said)
        predictions = read_predictions(folder / "predictions.csv")
        row_of = {name: row for row, name in enumerate(self.records.columns["image_id"].tolist())}
        rows = np.array([row_of[name] for name in predictions.ids])
        self.assertNotIn("test", self.records.columns["split"][rows])
        for fold in (0, 1):
            mine = self.records.columns["fold"][rows] == fold
            rule = self._fitted(np.flatnonzero(self.records.columns["fold"] == 1 - fold))
            self.assertAllClose(
                predictions.probabilities[mine], rule.probabilities({"plain": self.logits[rows[mine]]}), atol=1e-12
            )
            self.assertAllEqual(predictions.threshold[mine], [rule.operating_point().threshold] * mine.sum())
        self.assertAllEqual(predictions.refer, predictions.p_positive >= predictions.threshold)
        self.assertLen(predictions.thresholds, 2)
        self._assert_nothing_is_guaranteed(folder)

    @pytest.mark.slow
    def test_another_mode(self):
        said, folder = self._run("--split", "folds", "--mode", "plain", "tta4", "plain+tta4")
        self.assertRegex(said, r"mode +balanced_accuracy .*\nplain +0\.\d{3} .*\ntta4 +0\.\d{3} .*\nplain\+tta4 +0")
        other = folder.with_name(f"{folder.name}-tta4")
        predictions, metrics = (
            read_predictions(other / "predictions.csv"),
            json.loads((other / "metrics.json").read_text()),
        )
        self.assertEqual((metrics["mode"], metrics["n"]), ("tta4", 45))
        plain = read_predictions(folder / "predictions.csv")
        self.assertAllEqual(predictions.ids, plain.ids)
        self.assertNotAllClose(predictions.probabilities, plain.probabilities)
        self.assertIn("was not scored in mode 'knn'", self._refusal("--split", "folds", "--mode", "knn"))
        self.assertIn("unknown mode", self._refusal("--split", "folds", "--mode", "nn"))

    def test_each_fold_by_its_own_rule(self):
        for fold in (0, 1):
            self._write_decision(self.folder / "run" / f"fold-{fold}", calibrated=True)
        said, folder = self._run("--split", "folds")
        self.assertIn("each fold’s own rule", said)
        predictions = read_predictions(folder / "predictions.csv")
        rule, _ = read_rule(tiny.run_dir() / "decision.json", HEADS)
        rows = np.concatenate([np.flatnonzero(self.records.columns["fold"] == fold) for fold in (0, 1)])
        self.assertAllClose(predictions.probabilities, rule.probabilities({"plain": self.logits[rows]}), atol=1e-12)

        decision = "not guaranteed: " + UNKNOWN_PATIENTS
        self.assertIn(decision, html.unescape((folder / "report.html").read_text()))

    def _assert_nothing_is_guaranteed(self, folder):
        """Thresholds were set on scores of other networks, and patients are unknown."""
        metrics, report = json.loads((folder / "metrics.json").read_text()), (folder / "report.html").read_text()
        why = f"{UNKNOWN_PATIENTS}; {OTHER_NETWORKS}"
        self.assertEqual(metrics["conformal"]["no_guarantee"], why)
        self.assertFalse(any(metrics["conformal"]["guaranteed"]))
        for fold in metrics["folds"]:
            self.assertIn("not guaranteed", fold["note"])
        for said in (f"without a coverage guarantee:\n{why}", f"for sensitivity 0.9, not guaranteed: {why}"):
            self.assertIn(said, html.unescape(report))

    def _fitted(self, rows):
        own, _ = read_rule(tiny.run_dir() / "decision.json", HEADS)
        columns = self.records.columns
        truth = CalibrationLabels(
            columns["grade"][rows], positive_labels("referable", columns)[rows], columns["patient_id"][rows]
        )
        rule = fit_rule(own.heads, "grade", {"plain": self.logits[rows]}, truth, train_prior=own.prior)
        self.assertNotEqual(rule.mode("plain").calibration, Calibration("softmax"))
        return rule

    def test_metrics_and_report_of_folds(self):
        _, folder = self._run("--split", "folds")
        metrics = json.loads((folder / "metrics.json").read_text())
        self.assertEqual((metrics["split"], metrics["n"], metrics["threshold"]), ("folds", 45, None))
        self.assertEqual(sorted(fold["threshold"] for fold in metrics["folds"]), metrics["thresholds"])
        self.assertEqual(sum(fold["n"] for fold in metrics["folds"]), 45)
        report = (folder / "report.html").read_text()
        for said in ("rule cross-fitted over folds", "<h2>Folds</h2>", "fold-1"):
            self.assertIn(said, report)
        self.assertFalse((self.folder / "run" / "test_evaluations.jsonl").exists())  # no test-set evaluation

    def test_two_evaluations_are_compared(self):
        _, folder = self._run("--split", "folds")
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            evaluate.main(["--compare", str(folder), str(folder), "--bootstrap_samples", "20"])
        self.assertRegex(output.getvalue(), r"quadratic_kappa .*\+0\.000")

    def _refusal(self, *arguments):
        with self.assertRaises(SystemExit) as caught:
            self._run(*arguments)
        return str(caught.exception)

    def test_missing_folds_are_named(self):
        (self.folder / "run" / "fold-1" / "model.keras").unlink()
        self.assertRegex(
            self._refusal("--split", "folds"), r"training is not finished for fold-1 \(train.py --folds 2\)"
        )
        shutil.rmtree(self.folder / "run" / "fold-0")
        self.assertIn("has no finished fold", self._refusal("--split", "folds"))

    def test_other_folds_than_the_records_are_refused(self):
        rows = np.flatnonzero(self.records.columns["fold"] == 0)
        self._write_held_out(self.folder / "run" / "fold-1", rows)
        self.assertIn("its folds are not those that", self._refusal("--split", "folds"))

    def test_a_run_of_folds_has_no_other_split(self):
        self.assertIn("evaluate it by --split folds", self._refusal("--split", "validation"))
