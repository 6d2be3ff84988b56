"""Cross-attention between two eyes with age and sex, from records to decisions, maps and an export."""

import contextlib
import csv
import functools
import io
import json

import numpy as np
import pytest
import tensorflow as tf

import evaluate
from dr_tf.cli import export, predict
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.explain import __main__ as explain
from dr_tf.inference.case import pairs
from dr_tf.inference.patients import read_patient_table
from dr_tf.inference.predictor import Predictor
from tests import tiny, tiny_pairs
from tests.tfrecords_builder.trees import run_builder, write_table

CONFIG = f"""
train.dataset = '{tiny_pairs.DATASET}'
train.heads = {{'labels': @multi_label(), 'referable': @binary()}}
binary.positive = 'referable'
multi_label.positive_weights = 'balanced'
multi_label.focal_gamma = 2.5
multi_label.focal_share = 0.5
train.model = @cross_attention_classifier
train.epochs = 3
train.batch_size = 8
train.modes = ('worse_eye',)
train.operating_point = 'f1'
optimization.learning_rate = 1e-2
cross_attention_classifier.backbone = @backbone()
cross_attention_classifier.width = 16
cross_attention_classifier.attention_heads = 2
cross_attention_classifier.hidden = (8,)
cross_attention_classifier.age_and_sex = True
cross_attention_classifier.drop_eye = 0.3
cross_attention_classifier.drop_age_and_sex = 0.2
{tiny.BACKBONE}
"""
PATIENTS = (4, 5, 6)  # the second one has a left eye only


@functools.cache
def run_dir():
    return tiny.train_run(tiny.temporary_folder(), CONFIG, tiny_pairs.records_root())


def quietly(main, *arguments):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        main([str(argument) for argument in arguments])
    return output.getvalue()


@pytest.mark.slow
class DualEyeTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_dir, cls.temporary = run_dir(), tiny.temporary_folder()
        cls.paths = [path for n in PATIENTS for path in sorted(tiny_pairs.photographs().glob(f"{n}_*.jpg"))]
        cls.table = cls.temporary / "patients.csv"
        rows = [(path.name, *path.stem.split("_"), 50, "F") for path in cls.paths]
        write_table(cls.table, ("image", "patient", "eye", "age", "sex"), rows)

    def test_a_pair_gets_the_decision_that_was_measured(self):
        folder = self.run_dir / "evaluation" / "odir-64-plain-q95-paired-test"
        quietly(
            evaluate.main,
            *("--run_dir", self.run_dir, "--records", tiny_pairs.records_root(), "--split", "test"),
            *("--bootstrap_samples", 20),
        )
        found = read_predictions(folder / "predictions.csv")
        paths = [path for name in found.ids for path in sorted(tiny_pairs.photographs().glob(f"{name}_*.jpg"))]
        table = self.temporary / "test.csv"
        rows = [(path.name, *path.stem.split("_"), 50, "F") for path in paths]
        write_table(table, ("image", "patient", "eye", "age", "sex"), rows)
        cases = pairs(paths, read_patient_table(table))
        decisions = list(Predictor.from_run(self.run_dir).decisions(cases))
        self.assertEqual([d.action for d in decisions], found.action.tolist())
        probabilities = np.array([list(d.probabilities.values()) for d in decisions])
        self.assertAllClose(probabilities, found.probabilities, atol=1e-5)
        metrics = json.loads((folder / "metrics.json").read_text())
        self.assertContainsSubset({"f1_macro", "odir_score", "sensitivity_at_specificity_0.9/D"}, metrics)

    def test_age_and_sex_change_the_prediction_and_may_be_unknown(self):
        predictor = Predictor.from_run(self.run_dir)
        known, unknown = (
            np.array([list(d.probabilities.values()) for d in predictor.decisions(pairs(self.paths, table))])
            for table in (read_patient_table(self.table), None)
        )
        self.assertTrue(np.isfinite(unknown).all())
        self.assertNotAllClose(known, unknown, atol=1e-4)

    def test_the_table_of_predict_names_each_eye(self):
        output = quietly(
            predict.main, "--run_dir", self.run_dir, "--patient_table", self.table, "--format", "csv", *self.paths
        )
        rows = list(csv.DictReader(output.splitlines()))
        self.assertEqual([row["case"] for row in rows], [str(n) for n in PATIENTS])
        self.assertContainsSubset({"p(left eye: D)", "p(right eye: O)", "p(referable: referable)"}, rows[0])

    def test_external_validation_of_an_output_that_does_not_decide(self):
        """A set with grades and without ODIR's labels: referable retinopathy is measured, the labels are not."""
        paths = sorted(tiny_pairs.photographs().glob("[1-4]*_*.jpg"))
        rows = [(path.name, *path.stem.split("_"), 3 * (i // 4 % 2)) for i, path in enumerate(paths)]
        table = write_table(self.temporary / "grades.csv", ("image", "patient", "eye", "grade"), rows)
        status, *output = run_builder(
            *("csv", "--source", tiny_pairs.photographs(), "--labels", table, "--records", tiny_pairs.records_root()),
            *(
                "--image_column",
                "image",
                "--patient_column",
                "patient",
                "--eye_column",
                "eye",
                "--grade_column",
                "grade",
            ),
            *("--name", "graded", "--image_size", 64, "--paired", "--audit", "off", "--workers", 1),
        )
        self.assertEqual(status, 0, output)
        quietly(
            evaluate.main,
            *("--run_dir", self.run_dir, "--records", tiny_pairs.records_root(), "--dataset", "graded"),
            *("--split", "all", "--audit", "off", "--bootstrap_samples", 20),
        )
        folder = self.run_dir / "evaluation" / "graded-64-plain-q95-paired-all"
        metrics = json.loads((folder / "metrics.json").read_text())
        self.assertIsNotNone(metrics["referable_auroc"]["value"])
        self.assertNotIn("odir_score", metrics)
        self.assertRegex(" ".join(metrics["caveats"]), "No label determines whether a case is odir_D: only the other")
        self.assertIn("AUROC of the referable DR", (folder / "report.html").read_text())

    def test_explain_and_export(self):
        for method in ("hires_cam", "cross_attention"):
            folder = self.temporary / method
            arguments = ("--run_dir", self.run_dir, "--method", method, "--output", folder, *self.paths)
            quietly(explain.main, *arguments)
            self.assertTrue((folder / "4.explained.jpg").exists(), method)
        target = self.temporary / "onnx"
        quietly(export.main, "--run_dir", self.run_dir, "--format", "onnx", "--output", target)
        description = json.loads((target / "export.json").read_text())
        self.assertEqual((description["paired"], description["age_and_sex"]), (True, True))
        cases = pairs(self.paths, read_patient_table(self.table))
        expected, found = (list(Predictor.from_run(path).decisions(cases)) for path in (self.run_dir, target))
        for one, other in zip(expected, found, strict=True):
            self.assertEqual(one.action, other.action)
            self.assertAllClose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-4)
            self.assertEqual(list(one.eyes), list(other.eyes))


if __name__ == "__main__":
    tf.test.main()
