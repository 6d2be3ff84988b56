"""Two outputs, the grade and the risk of macular edema, from records to predictions and metrics."""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import pathlib
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import evaluate
import train
from dr_tf.data.records import open_records
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.run import load_run, read_scored_rows
from dr_tf.models.classifier import FEATURES
from dr_tf.training.train import load_weights
from tests import tiny
from tests.tfrecords_builder.trees import run_builder, write_table

DATASET = "edema/64-plain-q95"
CONFIG = f"""
{tiny.CONFIG.replace(tiny.DATASET, DATASET)}
train.heads = {{'grade': @softmax(), 'dme': @edema()}}
train.loss_weights = {{'dme': 0.5}}
train.keep = 'last'
train.modes = ()
"""
COLUMNS = ("file", "grade", "dme", "split")


@functools.cache
def folder():
    """A folder with records of the tiny images with a risk of edema, unknown for every fifth, and a run of two folds."""
    made = pathlib.Path(tempfile.mkdtemp(dir=tiny.records_root().parent))
    source = tiny.records_root().parent / "photographs"
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.jpg"))
    grades = {name: tiny.CLASSES.split(",").index(name.split("/")[1]) for name in names}
    risks = ["" if i % 5 == 0 else max(0, grades[name] - 2) for i, name in enumerate(names)]
    splits = [name.split("/")[0].replace("valid", "validation") for name in names]
    rows = zip(names, grades.values(), risks, splits, strict=True)
    labels = write_table(made / "labels.csv", COLUMNS, rows)
    flags = [part for name in COLUMNS[1:] for part in (f"--{name}_column", name)]
    flags += ["--name", "edema", "--image_size", "64", "--audit", "off", "--workers", "1", "--folds", "2"]
    built = [
        "csv",
        "--source",
        source,
        "--labels",
        labels,
        "--records",
        made / "records",
        "--image_column",
        "file",
        *flags,
    ]
    assert run_builder(*built)[0] == 0
    (made / "config.gin").write_text(CONFIG)
    _quietly(train.main, "--gin_file", made / "config.gin", *_of(made), "--folds", "2")
    return made


def _of(made):
    return "--records", made / "records", "--run_dir", made / "run"


def _quietly(main, *arguments):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        main([str(argument) for argument in arguments])
    return output.getvalue()


class EdemaTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder, self.fold = folder(), folder() / "run" / "fold-0"

    def _open(self):
        """A predictor without gate: at 64 pixels all images are out of focus."""
        run = load_run(self.fold)
        return Predictor(
            dataclasses.replace(run, rule=dataclasses.replace(run.rule, gradable_from=0.0, distance_limit=None))
        )

    def test_the_model_has_an_output_and_the_history_metrics_for_each_head(self):
        model = keras.saving.load_model(self.fold / "model.keras")
        self.assertEqual({name: tensor.shape[1] for name, tensor in model.output.items()}, {"grade": 5, "dme": 3})
        with open(self.fold / "history.csv", newline="") as file:
            row = next(csv.DictReader(file))
        self.assertContainsSubset({"grade_quadratic_kappa", "dme_accuracy", "grade_loss", "dme_loss"}, row)
        self.assertAllClose(float(row["loss"]), float(row["grade_loss"]) + 0.5 * float(row["dme_loss"]), rtol=1e-3)

    def test_the_risk_of_edema_is_predicted(self):
        (gated,) = Predictor.from_run(self.fold).decisions([tiny.photographs()[0]])
        self.assertEqual((gated.gradable, gated.most_probable_class("dme"), gated.other_outputs), (False, None, {}))
        decision, broken = self._open().decisions([tiny.photographs()[0], b"no photograph"])
        self.assertEqual(
            decision.most_probable_class("dme"), int(np.argmax(list(decision.other_outputs["dme"].values())))
        )
        self.assertAllClose(sum(decision.other_outputs["dme"].values()), 1)
        self.assertEqual(broken.other_outputs, {})

    @pytest.mark.slow
    def test_held_out_scores_equal_predictions(self):
        run, (held_out, _) = load_run(self.fold), read_scored_rows(self.fold / "held_out.npz")
        records = open_records(self.folder / "records", DATASET)
        outputs, features = run.network(np.stack([records.image(row) for row in held_out.rows]))
        for name, logits in outputs.items():
            self.assertAllClose(logits, held_out.outputs[name], atol=1e-5)
        self.assertAllClose(run.feature_distribution.distance(features), held_out.distances, rtol=1e-3)

    @pytest.mark.slow
    def test_a_split_is_evaluated(self):
        flags = ["--records", self.folder / "records", "--run_dir", self.fold, "--bootstrap_samples", 20]
        output = _quietly(evaluate.main, *flags, "--split", "validation")
        self.assertIn("joint_accuracy", output)
        self._agree(self.fold / "evaluation" / "edema-64-plain-q95-validation")

    @pytest.mark.slow
    def test_folds_are_evaluated(self):
        _quietly(evaluate.main, *_of(self.folder), "--split", "folds", "--bootstrap_samples", 20)
        metrics = self._agree(self.folder / "run" / "evaluation" / "edema-64-plain-q95-folds")
        pooled = json.loads((self.folder / "run" / "out_of_fold.json").read_text())
        self.assertIn("dme_accuracy", pooled)
        self.assertIn("joint_accuracy", metrics["folds"][0])
        self.assertEqual(metrics["retake_rate"]["value"], 1.0)  # of 64 pixels

    def _agree(self, evaluation):
        """Check metrics.json against predictions.csv and return the metrics."""
        metrics = json.loads((evaluation / "metrics.json").read_text())
        found = read_predictions(evaluation / "predictions.csv")
        truth, decided = found.other_truth["dme"], found.other_predicted["dme"]
        known, right = truth != -1, truth == decided
        self.assertBetween(known.sum(), 1, len(known) - 1)
        self.assertAllClose(metrics["dme_accuracy"]["value"], right[known].mean())
        both = (right & (found.truth == found.predicted))[known]
        self.assertAllClose(metrics["joint_accuracy"]["value"], both.mean())
        self.assertIn("Joint accuracy", (evaluation / "report.html").read_text())
        return metrics

    @pytest.mark.slow
    def test_init_from_a_run_with_other_outputs(self):
        stored, other = (keras.saving.load_model(self.fold / "model.keras") for _ in range(2))
        features = other.get_layer(FEATURES).output
        more = keras.layers.Dense(2, name="more")(features)
        other = keras.Model(other.input, {"grade": other.output["grade"], "more": more})
        for variable in other.variables:
            variable.assign(variable + 1)
        own = other.get_layer("more").kernel.numpy()
        load_weights(other, self.fold)
        for layer in ("grade", "stem_conv"):
            self.assertAllEqual(*(model.get_layer(layer).kernel for model in (stored, other)))
        self.assertAllEqual(other.get_layer("more").kernel, own)

    def test_records_without_the_risk_are_refused(self):
        flags = ["--gin_param", f"train.dataset = '{tiny.DATASET}'", "--run_dir", self.folder / "other"]
        with self.assertRaises(SystemExit) as caught:
            _quietly(train.main, "--gin_file", self.folder / "config.gin", "--records", tiny.records_root(), *flags)
        self.assertRegex(str(caught.exception), "has a label for the output 'dme' .*train.heads")

    @pytest.mark.slow
    def test_a_definition_of_both_labels_can_decide(self):
        heads = "train.heads = {'grade': @softmax(), 'dme': @edema(), 'refer': @binary()}"
        bindings = [heads, "train.decides = 'refer'", "binary.positive = 'referable_or_dme'", "train.epochs = 1"]
        run = self.folder / "refer"
        if not run.exists():
            flags = [part for binding in bindings for part in ("--gin_param", binding)]
            paths = ["--gin_file", self.folder / "config.gin", "--records", self.folder / "records", "--run_dir", run]
            _quietly(train.main, *paths, *flags)
        found = load_run(run)
        self.assertEqual(
            (found.rule.head.positive, list(found.rule.other_outputs)), ("referable_or_dme", ["grade", "dme"])
        )
        rule = dataclasses.replace(found.rule, gradable_from=0.0, distance_limit=None)
        decision = Predictor(dataclasses.replace(found, rule=rule)).decide(tiny.photographs()[0])
        self.assertEqual(list(decision.label_decisions), ["referable_or_dme"])
        self.assertEqual(decision.grade, decision.most_probable_class("grade"))
        self.assertEqual(set(decision.other_outputs), {"grade", "dme"})


if __name__ == "__main__":
    tf.test.main()
