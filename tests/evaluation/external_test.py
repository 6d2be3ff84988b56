"""External validation: shared images are left out and counted, the own test metrics are added, nothing is refitted."""

import contextlib
import csv
import functools
import io
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import evaluate
from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.evaluation.evaluation_folder import evaluation_folder, write_evaluation
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.evaluation.protocol.evaluation_set import EXTERNAL
from dr_tf.evaluation.protocol.external import (
    REASONS,
    external_validation,
    leave_out_shared,
    read_own_test_metrics,
    shared_images,
)
from dr_tf.evaluation.report.page import report
from dr_tf.files import write_json
from tests import tiny
from tests.evaluation.synthetic_predictions import make_graded
from tests.tfrecords_builder.trees import photograph, run_builder, write_photographs

OTHER = "other/64-plain-q95"


@functools.cache
def other_records():
    """Beside the tiny ones: two photographs that the run was fitted on, one of its test split, and twelve new ones."""
    root, source = tiny.records_root(), tiny.records_root().parent / "other"
    for i, (split, name) in enumerate((("train", "none"), ("calibration", "severe"), ("test", "mild"))):
        (source / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(root.parent / "photographs" / split / name / "00.jpg", source / name / f"shared{i}.jpg")
    for i, name in enumerate(tiny.CLASSES.split(",")):
        write_photographs(source / name, [f"new{j}.jpg" for j in range(2 + (i < 2))], first_seed=900 + 10 * i)
    photograph.cache_clear()
    arguments = ["--name", "other", "--classes", tiny.CLASSES, "--image_size", 64, "--audit", "off", "--workers", 1]
    run_builder("folder", "--source", source, "--records", root, *arguments)
    return open_records(root, OTHER)


class ExternalTest(tf.test.TestCase):
    def _run(self, *arguments):
        output = io.StringIO()
        flags = ["--run_dir", tiny.run_dir(), "--records", tiny.records_root(), "--bootstrap_samples", 20, *arguments]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main(list(map(str, flags)))
        return output.getvalue(), tiny.run_dir() / "evaluation" / "other-64-plain-q95-all"

    @pytest.mark.slow
    def test_the_command(self):
        other_records()
        output, folder = self._run("--dataset", "other", "--split", "all", "--label_shift", "bbse")
        metrics, report = json.loads((folder / "metrics.json").read_text()), (folder / "report.html").read_text()
        self.assertIn("all (external validation, nothing refitted): 13 photographs", output)
        self.assertEqual(metrics["excluded"], {"the same file as one that the run was fitted on": 2})
        ids = read_predictions(folder / "predictions.csv").ids.tolist()
        self.assertIn("mild/shared2.jpg", ids)  # a test photograph: nothing was fitted on it
        self.assertNotIn("none/shared0.jpg", ids)
        self.assertEqual(metrics["external"]["audit"], {"dataset": tiny.DATASET, "shared": 2})
        self.assertIn("The leak audit found 2 photographs", report)
        self.assertAlmostEqual(sum(metrics["label_shift"]["class_prior"].values()), 1)
        self.assertIn("transductive", report)

    def test_user_errors_are_one_line(self):
        for expected, arguments in {
            "known: em, bbse": ["--label_shift", "best"],
            "is for another data set": ["--split", "all"],
        }.items():
            with self.subTest(expected), self.assertRaises(SystemExit) as caught:
                self._run(*arguments)
            self.assertIn(expected, str(caught.exception))


class AuditTest(tf.test.TestCase):
    def test_the_audit_is_made_once_for_the_same_two_sets(self):
        own, other, requested = open_records(tiny.records_root(), tiny.DATASET), other_records(), []

        def audit(folders, path):
            requested.append(folders)
            mine, theirs = ("/".join(folder.split("/")[-3:]) for folder in folders)
            rows = [
                (mine, theirs, "x", "a", "copy", "train"), (mine, theirs, "x", "b", "copy", "test"),
                (mine, theirs, "y", "a", "same_eye", "train"), (mine, theirs, "y", "c", "same_eye", "validation"),
            ]  # fmt: skip
            with open(path, "w", newline="") as file:
                csv.writer(file).writerows([("set_a", "set_b", "image_a", "image_b", "kind", "split_a"), *rows])

        run = self.create_tempdir().full_path
        found = [shared_images(run, own, other, audit) for _ in range(2)]
        self.assertLen(requested, 1)
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], {"a": REASONS["copy"], "c": REASONS["same_eye"]})
        self.assertIsNone(shared_images(run, None, other, audit))  # the run's own records are not at hand

    def test_what_is_left_out_is_counted(self):
        other = other_records()
        names, copy = other.columns["image_id"], REASONS["copy"]
        rows, excluded = leave_out_shared({names[3]: copy}, other, np.arange(5), {"before": 1})
        self.assertAllEqual(rows, [0, 1, 2, 4])
        self.assertEqual(excluded, {"before": 1, copy: 1})
        with self.assertRaisesRegex(UserError, "every labelled photograph"):
            leave_out_shared(dict.fromkeys(names, copy), other, np.arange(5), {})


class OwnTestSplitTest(tf.test.TestCase):
    """The metrics of the run's own test split, as an earlier evaluation wrote them."""

    def _external(self, run, predictions, shared):
        own_test = read_own_test_metrics(run, "made/256")
        return external_validation(predictions, dataset="made/256", shared=shared, own_test=own_test)

    def test_metrics_of_the_own_test_split_are_added(self):
        run, here = self.create_tempdir().full_path, make_graded(60, seed=1, dataset="other/256")
        own_predictions = make_graded(50)
        own = measure(own_predictions, bootstrap_samples=20)
        write_evaluation(evaluation_folder(run, "made/256", "test"), own_predictions, own)
        external = self._external(run, here, {})
        self.assertEqual(external["own_test"]["metrics"]["auroc"], own["auroc"])
        self.assertNotIn("confusion", external["own_test"]["metrics"])
        page = report(here, measure(here, bootstrap_samples=20, protocol=EXTERNAL) | {"external": external})
        for expected in ("made/256, test", "other/256, test", EXTERNAL):
            self.assertIn(expected, page)

    def test_metrics_of_another_threshold_are_left_out(self):
        run, here = self.create_tempdir().full_path, make_graded(60)
        self.assertIsNone(self._external(run, here, None)["own_test"])
        other = make_graded(50, threshold=0.3)
        folder = evaluation_folder(run, "made/256", "test")
        write_evaluation(folder, other, measure(other, bootstrap_samples=20))
        self.assertIsNone(self._external(run, here, None)["own_test"])

    def test_metrics_of_an_earlier_version_are_refused(self):
        run = self.create_tempdir().full_path
        path = evaluation_folder(run, "made/256", "test") / "metrics.json"
        write_json(path, {"dataset": "made/256", "thresholds": [0.4]})
        with self.assertRaisesRegex(UserError, r"test/metrics\.json is of version 1.*; evaluate the run again"):
            read_own_test_metrics(run, "made/256")
        path.write_text("{")
        with self.assertRaisesRegex(UserError, "metrics.json cannot be read"):
            read_own_test_metrics(run, "made/256")
