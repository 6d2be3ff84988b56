"""The risk of macular edema beside the grade, from records to predictions and figures, as a person calls it."""

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
import tensorflow as tf

import evaluate
import train
from dr_tf.data.records import open_records
from dr_tf.evaluation.table import read_predictions
from dr_tf.inference.edema import Edema
from dr_tf.inference.predictor import Predictor
from dr_tf.training.train import load_weights
from tests import tiny
from tests.tfrecords_builder.trees import run_builder, write_table

DATASET = "edema/64-plain-q95"
CONFIG = f"""
{tiny.CONFIG.replace(tiny.DATASET, DATASET)}
softmax.dme_weight = 0.5
train.keep = 'last'
train.modes = ()
backbone.stem = 4
backbone.filters = (4, 8)
"""
COLUMNS = ("file", "grade", "dme", "split")


@functools.cache
def folder():
    """Holds records of the tiny photographs with a risk, which every fifth lacks, and a run of two folds on them."""
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

    def test_the_model_decides_by_grades_alone(self):
        model = keras.saving.load_model(self.fold / "model.keras")
        self.assertEqual(model.output_shape, (None, 5))
        self.assertNotIn("dme", [layer.name for layer in model.layers])
        with open(self.fold / "history.csv", newline="") as file:
            self.assertIn("joint_accuracy", next(csv.DictReader(file)))

    def test_photographs_are_told_their_risk(self):
        predictor = Predictor.of_run(self.fold)
        (read,) = predictor.decisions([tiny.photographs()[0]])
        self.assertEqual((read.gradable, read.dme, read.dme_probabilities), (False, None, {}))  # of 64 pixels
        predictor.rule = dataclasses.replace(predictor.rule, gradable_from=0.0, distance_limit=None)
        told, broken = predictor.decisions([tiny.photographs()[0], b"no photograph"])
        self.assertEqual(told.dme, int(np.argmax(list(told.dme_probabilities.values()))))
        self.assertAllClose(sum(told.dme_probabilities.values()), 1)
        self.assertEqual((broken.dme, broken.dme_probabilities), (None, {}))
        without = Predictor(predictor.network, predictor.rule, predictor.preparation, predictor.cloud)
        same = without.decide(tiny.photographs()[0])
        self.assertEqual((same.probabilities, same.action, same.dme), (told.probabilities, told.action, None))

    def test_what_was_held_out_is_what_is_told(self):
        predictor, held_out = Predictor.of_run(self.fold), np.load(self.fold / "held_out.npz")
        records = open_records(self.folder / "records", DATASET)
        logits, features = predictor.network(np.stack([records.photograph(row) for row in held_out["rows"]]))
        self.assertAllClose(logits, held_out["logits"], atol=1e-5)
        self.assertAllClose(predictor.edema.logits(features), held_out["dme"], atol=1e-5)

    def test_a_split_is_evaluated(self):
        flags = ["--records", self.folder / "records", "--run_dir", self.fold, "--rounds", 20]
        said = _quietly(evaluate.main, *flags, "--split", "validation")
        self.assertIn("joint_accuracy", said)
        self._agree(self.fold / "evaluation" / "edema-64-plain-q95-validation")

    def test_folds_are_evaluated(self):
        _quietly(evaluate.main, *_of(self.folder), "--split", "folds", "--rounds", 20)
        metrics = self._agree(self.folder / "run" / "evaluation" / "edema-64-plain-q95-folds")
        pooled = json.loads((self.folder / "run" / "out_of_fold.json").read_text())
        self.assertIn("joint_accuracy", pooled)
        self.assertIn("joint_accuracy", metrics["folds"][0])

    def _agree(self, evaluation):
        """Figures with the rows that they are of; returns the figures."""
        metrics = json.loads((evaluation / "metrics.json").read_text())
        found = read_predictions(evaluation / "predictions.csv")
        known = found.dme_truth != -1
        self.assertBetween(known.sum(), 1, len(known) - 1)
        right = found.dme_truth == found.dme_decided
        self.assertAllClose(metrics["dme_accuracy"]["value"], right[known].mean())
        both = (right & (found.truth == found.decided))[known]
        self.assertAllClose(metrics["joint_accuracy"]["value"], both.mean())
        self.assertIn("Joint accuracy", (evaluation / "report.html").read_text())
        return metrics

    def test_it_begins_with_the_weights_of_one_that_learned_no_risk(self):
        stored, other = (keras.saving.load_model(self.fold / "model.keras") for _ in range(2))
        risks = keras.layers.Dense(3, name="dme")(other.get_layer("logits").input)
        other = keras.Model(other.input, keras.layers.Concatenate()([other.output, risks]))
        for variable in other.variables:
            variable.assign(variable + 1)
        own = Edema.of_model(other).kernel
        load_weights(other, self.fold)
        for name in ("kernel", "bias"):
            self.assertAllEqual(*(getattr(model.get_layer("logits"), name) for model in (stored, other)))
        self.assertAllEqual(Edema.of_model(other).kernel, own)

    def test_records_that_know_no_risk_are_refused_in_one_line(self):
        flags = ["--gin_param", f"train.dataset = '{tiny.DATASET}'", "--run_dir", self.folder / "other"]
        with self.assertRaises(SystemExit) as caught:
            _quietly(train.main, "--gin_file", self.folder / "config.gin", "--records", tiny.records_root(), *flags)
        self.assertRegex(str(caught.exception), "know no risk of macular edema .*softmax.dme_weight")


if __name__ == "__main__":
    tf.test.main()
