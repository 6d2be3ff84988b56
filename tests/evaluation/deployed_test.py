"""Evaluation measures deployed decisions: those of original images equal those of their records."""

import contextlib
import csv
import dataclasses
import functools
import io
import pathlib
import tempfile
import unittest

import cv2
import keras
import numpy as np

import evaluate
from dr_tf.data.batches import image_batches
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import open_records
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.metrics.compute import compute_metrics
from dr_tf.evaluation.predict_records import decide
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.evaluation.statistics.proportions import wilson
from dr_tf.inference.gate import fit_feature_distribution
from dr_tf.inference.modes import score_batches
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import ScoredRows, load_run, write_decision
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.heads import HEADS
from tests.evaluation.synthetic_predictions import make_graded
from tests.explain.runs import write_run
from tests.tfrecords_builder.trees import run_builder, write_table

SIDE = 256


def batches_of(records, rows):
    return image_batches(ImageLoader(records, image_size=SIDE, cache="none"), rows=rows, batch_size=32)


DATASET = f"mixed/{SIDE}-plain-q95"
NAMES = (
    "sensitivity_deployed", "specificity_deployed", "sensitivity_gradable", "specificity_gradable", "retake_rate",
)  # fmt: skip


@functools.cache
def folder():
    """Make synthetic images, some out of focus or too dark, their records, and a run with a gate."""
    made = pathlib.Path(tempfile.mkdtemp())
    flags = [
        "--patients",
        "8",
        "--side",
        "320",
        "--cameras",
        "full_circle",
        "--image_size",
        str(SIDE),
        "--workers",
        "1",
    ]
    assert run_builder("synthetic", "--source", made / "drawn", "--records", made / "first", *flags)[0] == 0
    with open(made / "drawn/labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        picture = cv2.imread(str(made / f"drawn/images/{row['image_id']}.jpg"))
        picture = cv2.GaussianBlur(picture, (0, 0), 6) if i % 4 == 1 else picture // 4 if i % 4 == 3 else picture
        cv2.imwrite(str(made / f"drawn/images/{row['image_id']}.jpg"), picture)
    labels = [(f"{row['image_id']}.jpg", row["grade"], row["patient_id"], "test") for row in rows]
    table = write_table(made / "labels.csv", ("file", "grade", "patient", "split"), labels)
    columns = [
        "--image_column",
        "file",
        "--grade_column",
        "grade",
        "--patient_column",
        "patient",
        "--split_column",
        "split",
    ]
    paths = ["--source", made / "drawn/images", "--labels", table, "--records", made / "records"]
    more = ["--name", "mixed", "--image_size", str(SIDE), "--workers", "1", "--audit", "off"]
    assert run_builder("csv", *paths, *columns, *more)[0] == 0
    keras.utils.set_random_seed(1)
    model = classifier(
        build_backbone("resnet_v2", image_size=SIDE, stem=4, filters=(4, 8)), {"grade": HEADS["softmax"]()}
    )
    write_run(made / "run", model=model, records=DATASET)
    _add_gate(made)
    return made


def _add_gate(made):
    """Set the distance limit so that one of the gradable images is out-of-distribution."""
    run, records = load_run(made / "run"), open_records(made / "records", DATASET)
    features = np.concatenate([run.network(x)[1] for x, _ in batches_of(records, np.arange(len(records)))])
    feature_distribution = fit_feature_distribution(features)
    far = np.sort(feature_distribution.distance(features[records.columns["gradability/score"] >= 0.5]))
    limit = float((far[-1] + far[-2]) / 2)
    rule = dataclasses.replace(run.rule, gradable_from=0.5, distance_limit=limit)
    write_decision(made / "run", rule, run.preparation, feature_distribution)


class DecisionsTest(unittest.TestCase):
    def test_decisions_of_originals_equal_those_of_their_records(self):
        records, run = open_records(folder() / "records", DATASET), load_run(folder() / "run")
        rows = np.arange(len(records))
        found = score_batches(run.network, run.rule.requested_modes(), batches_of(records, rows))
        scored = ScoredRows(rows, found.scores, found.outputs, run.feature_distribution.distance(found.features))
        of_records = decide(run.rule, records, scored)
        paths = [folder() / "drawn/images" / name for name in records.columns["image_id"]]
        of_originals = list(Predictor(run).decisions(paths))
        actions = [decision.action for decision in of_originals]
        self.assertGreaterEqual(actions.count("retake"), 5)
        self.assertGreaterEqual(len(actions) - actions.count("retake"), 5)
        self.assertGreaterEqual(len({decision.reason for decision in of_originals}), 4)  # dark, blurred, unlike, none
        for one, other in zip(of_originals, of_records, strict=True):
            self._same(dataclasses.asdict(one), dataclasses.asdict(other), str(folder() / "drawn/images") + "/")

    def _same(self, one, other, prefix):
        if isinstance(one, dict):
            self.assertEqual(one.keys(), other.keys())
            for key in one:
                with self.subTest(key):
                    self._same(one[key], other[key], prefix)
        elif isinstance(one, tuple):
            for pair in zip(one, other, strict=True):
                self._same(*pair, prefix)
        elif isinstance(one, float):
            self.assertAlmostEqual(one, other, delta=1e-3 + 1e-4 * abs(one))
        else:
            self.assertEqual(one.removeprefix(prefix) if isinstance(one, str) else one, other)

    def test_predictions_csv_has_the_decisions_of_the_originals(self):
        flags = ["--run_dir", folder() / "run", "--records", folder() / "records", "--bootstrap_samples", 20]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main([str(flag) for flag in flags])
        written = folder() / "run/evaluation" / f"{DATASET.replace('/', '-')}-test"
        predictions = read_predictions(written / "predictions.csv")
        paths = [folder() / "drawn/images" / name for name in predictions.ids]
        decisions = list(Predictor.from_run(folder() / "run").decisions(paths))
        self.assertEqual(predictions.action.tolist(), [d.action for d in decisions])
        self.assertEqual(predictions.gradable.tolist(), [d.gradable for d in decisions])
        self.assertEqual(predictions.reason.tolist(), [d.reason for d in decisions])
        np.testing.assert_allclose(predictions.distance, [d.distance for d in decisions], rtol=1e-3)
        page = (written / "report.html").read_text()
        for expected in ("Deployed action (with the gate)", "Retake rate", "The gate rejects"):
            self.assertIn(expected, page)


def _made(n=300, **options):
    """Make predictions of which the gate rejects every fifth image."""
    made = make_graded(n, **options)
    retaken = np.arange(len(made)) % 5 == 0
    action = np.where(retaken, "retake", np.where(made.refer, "refer", "clear"))
    return dataclasses.replace(made, action=action, gradable=~retaken, reason=np.where(retaken, "too dark", ""))


class MetricsTest(unittest.TestCase):
    def test_by_hand(self):
        made = _made()
        found = compute_metrics(made, only=NAMES, bootstrap_samples=50)
        positive, retaken = made.truth_positive == 1, made.action == "retake"
        expected = {
            "sensitivity_deployed": (made.refer | retaken)[positive],
            "specificity_deployed": ~(made.refer | retaken)[~positive],
            "sensitivity_gradable": made.refer[positive & ~retaken],
            "specificity_gradable": ~made.refer[~positive & ~retaken],
            "retake_rate": retaken,
        }
        for name, hits in expected.items():
            with self.subTest(name):
                self.assertAlmostEqual(found[name]["value"], hits.mean())
                self.assertEqual(found[name]["n"], len(hits))
                np.testing.assert_allclose((found[name]["low"], found[name]["high"]), wilson(hits.sum(), len(hits)))

    def test_patients_with_two_eyes_are_drawn_together(self):
        found = compute_metrics(_made(eyes=2), only=NAMES, bootstrap_samples=200)
        for name in NAMES:
            self.assertIn("patient bootstrap, 200 bootstrap samples", found[name]["method"])
            self.assertLess(found[name]["low"], found[name]["value"])
            self.assertGreater(found[name]["high"], found[name]["value"])

    def test_metrics_json_has_the_reasons_and_a_caveat(self):
        metrics = measure(_made(), bootstrap_samples=20)
        self.assertEqual(metrics["retake_reasons"], {"too dark": 60})
        self.assertEqual(sum(map(sum, metrics["confusion"]["action"])), 300)
        self.assertIn("The gate rejects 60 photographs of 300", " ".join(metrics["caveats"]))

    def test_without_a_gate_there_are_no_such_metrics(self):
        metrics = measure(make_graded(50), bootstrap_samples=20)
        self.assertFalse(set(NAMES) & set(metrics))
        self.assertIsNone(metrics["retake_reasons"])


if __name__ == "__main__":
    unittest.main()
