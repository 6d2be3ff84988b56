"""Cross-site protocols from the command line: one run per source, and their evaluation."""

import contextlib
import csv
import io
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow as tf

import evaluate
import train
from dr_tf import configuration
from dr_tf.api import train as train_by_api
from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.inference.run import load_run, read_calibration, read_scored_rows
from tests import tiny
from tests.data.sets import eye_fields, write_set
from tests.evaluation.cross_site_test import without_charts
from tests.tfrecords_builder.trees import write_photographs

DATASET = "gdrbench/64-plain-q95"
GRADES = ("nodr", "mild_npdr", "moderate_npdr", "severe_npdr", "pdr")
SOURCES = ("aptos", "idrid")
CONFIG = f"""
{tiny.CONFIG}
train.dataset = '{DATASET}'
train.protocol = 'leave_one_source_out'
train.keep = 'last'
train.modes = ()
"""


@pytest.mark.slow
class SourcesTest(tf.test.TestCase):
    """`run` leaves each of two sources out."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        configuration.set_up_logging()  # the first time it changes what assertLogs has set up
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        for number, (source, grade) in enumerate((s, g) for s in SOURCES for g in GRADES):
            folder = cls.folder / "photographs" / "images" / source.upper() / grade
            write_photographs(folder, [f"{i}.jpg" for i in range(5)], first_seed=10 * number)
        shares = ("--shares", "train=60,calibration=20,test=20")
        tiny.build_records("gdrbench", cls.folder / "photographs", cls.folder / "records", *shares)
        cls.records = open_records(cls.folder / "records", DATASET)
        (cls.folder / "config.gin").write_text(CONFIG)
        cls.log = cls._train(cls.folder / "run")

    @classmethod
    def _train(cls, run, *bindings, flags=()):
        """Run the command and return its log."""
        arguments = ["--gin_file", cls.folder / "config.gin", "--records", cls.folder / "records", "--run_dir", run]
        arguments += [*flags, *(part for binding in bindings for part in ("--gin_param", binding))]
        with cls("run").assertLogs("absl", "INFO") as logs, contextlib.redirect_stdout(io.StringIO()):
            train.main([str(argument) for argument in arguments])
        return logs.output

    def _refused(self, expected, *bindings, **options):
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
            self._train(self.folder / "refused", *bindings, **options)
        self.assertRegex(str(caught.exception), expected)
        self.assertNotIn("\n", str(caught.exception))
        self.assertFalse((self.folder / "refused").exists())

    def _evaluate(self, run, *flags):
        """Run the command and return what it prints and the folder that it writes."""
        arguments = ["--run_dir", run, "--records", self.folder / "records", "--bootstrap_samples", 50, *flags]
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()), without_charts():
            evaluate.main([str(argument) for argument in arguments])
        return output.getvalue(), run / "evaluation" / f"{DATASET.replace('/', '-')}-sources"

    def test_a_run_per_source_never_sees_that_source(self):
        self.assertEqual(
            sorted(path.name for path in (self.folder / "run").iterdir()), [f"source-{s}" for s in SOURCES]
        )
        split, sources = self.records.columns["split"], self.records.sources
        for source in SOURCES:
            path = self.folder / "run" / f"source-{source}"
            held_out, _ = read_scored_rows(path / "held_out.npz")
            self.assertAllEqual(held_out.rows, np.flatnonzero((sources == source) & (split != "test")))
            calibration, more = read_calibration(path)
            self.assertAllEqual(more["fitted"], np.flatnonzero((sources != source) & (split == "train")))
            self.assertAllEqual(calibration.rows, np.flatnonzero((sources != source) & (split == "calibration")))
            self.assertIn("train.protocol = 'leave_one_source_out'", (path / "config.gin").read_text())
            load_run(path)
        self.assertTrue(any("15 training, 0 validation, 5 calibration and 20 held-out examples" in x for x in self.log))

    @pytest.mark.slow
    def test_finished_runs_are_skipped_and_the_others_trained(self):
        run = self.folder / "stopped"
        shutil.copytree(self.folder / "run" / "source-aptos", run / "source-aptos")
        before = os.stat(run / "source-aptos" / "model.keras").st_mtime_ns
        with self.assertRaisesRegex(SystemExit, r"stopped: training is not finished for source-idrid: run the same"):
            self._evaluate(run, "--split", "sources")
        self._train(run)
        self.assertEqual(os.stat(run / "source-aptos" / "model.keras").st_mtime_ns, before)
        ours, first = (read_scored_rows(r / "source-idrid" / "held_out.npz")[0] for r in (run, self.folder / "run"))
        self.assertAllEqual(ours.scores["plain"], first.scores["plain"])

    def test_evaluation(self):
        said, folder = self._evaluate(self.folder / "run", "--split", "sources")
        metrics = json.loads((folder / "metrics.json").read_text())
        self.assertEqual((metrics["split"], metrics["n"], metrics["excluded"]), ("sources", 40, {}))
        self.assertIn("leave one source out: each source by a network trained on the other sources", said)
        [row] = metrics["sources"]["rows"]
        predictions = read_predictions(folder / "predictions.csv")
        sources = np.array([name.split("/")[0].lower() for name in predictions.ids])
        right = [(predictions.truth == predictions.predicted)[sources == source].mean() for source in SOURCES]
        self.assertAllClose([row["targets"][source]["accuracy"]["value"] for source in SOURCES], right)
        self.assertAllClose(row["mean"]["accuracy"]["value"], np.mean(right))
        thresholds = [run["threshold"] for run in metrics["sources"]["runs"]]
        self.assertEqual([run["fold"] for run in metrics["sources"]["runs"]], [f"source-{s}" for s in SOURCES])
        self.assertAllClose(np.unique(predictions.threshold), np.unique(thresholds))
        self._check_outputs(said, folder, row)
        self.assertFalse((self.folder / "run" / "test_evaluations.jsonl").exists())  # no test split was evaluated

    def _check_outputs(self, said, folder, row):
        with open(folder / "sources.csv", newline="") as file:
            lines = {line["metric"]: line for line in csv.DictReader(file)}
        self.assertEqual(list(lines), ["auroc_macro", "accuracy", "f1_macro", "quadratic_kappa", "auroc"])
        self.assertEqual(float(lines["auroc"]["idrid low"]), row["targets"]["idrid"]["auroc"]["low"])
        self.assertEqual(float(lines["f1_macro"]["mean"]), row["mean"]["f1_macro"]["value"])
        self.assertEqual((lines["auroc"]["run"], lines["auroc"]["trained_on"]), ("run", "the other sources"))
        self.assertRegex(said, r"\n +aptos +idrid +mean\n")
        self.assertRegex(said, rf"\nauroc_macro +{row['targets']['aptos']['auroc_macro']['value']:.3f} \(")
        report = (folder / "report.html").read_text()
        for text in ("<h2>Sources</h2>", "each source by a network trained on the other sources", "source-idrid"):
            self.assertIn(text, report)

    def test_only_sources_of_such_a_run_are_evaluated(self):
        run = self.folder / "run"
        for flags, expected in {
            ("--split", "test"): "has one run per source: evaluate them by --split sources",
            ("--split", "folds"): "has no finished fold",
        }.items():
            with self.assertRaisesRegex(SystemExit, expected):
                self._evaluate(run, *flags)
        with self.assertRaisesRegex(SystemExit, "has no finished source: train with train.protocol"):
            self._evaluate(run / "source-idrid", "--split", "sources")

    def test_other_records_than_those_of_the_run(self):
        run = self.folder / "other"
        for source in SOURCES:
            shutil.copytree(self.folder / "run" / f"source-{source}", run / f"source-{source}")
        held_out = run / "source-idrid" / "held_out.npz"
        shutil.copy(self.folder / "run" / "source-aptos" / "held_out.npz", held_out)
        with self.assertRaisesRegex(SystemExit, "its sources and splits are not those that"):
            self._evaluate(run, "--split", "sources")

    def test_what_cannot_be_trained_is_one_line(self):
        self._refused(r"trains one run per source: no --folds and no --grid_file", flags=("--folds", "2"))
        self._refused(r"trains one run per source: no --folds", flags=("--grid_file", "quickstart"))
        self._refused("must be 'splits', 'leave_one_source_out' or 'train_on_one_source'", "train.protocol = 'loso'")
        self._refused("no validation split to select an epoch by: set train.keep = 'last'", "train.keep = 'best'")
        examples = {"train": [eye_fields(0, source="a")], "test": [eye_fields(1, source="b")]}
        write_set(self.folder / "records", examples, name="one", config="32-plain-q95")
        self._refused(
            r"needs several sources, and one/32-plain-q95 has only 'a' outside of its test split",
            "train.dataset = 'one/32-plain-q95'",
        )
        with self.assertRaisesRegex(UserError, "use the command `dr_tf train`"):
            train_by_api(self.folder / "config.gin", self.folder / "records", self.folder / "refused")


if __name__ == "__main__":
    tf.test.main()
