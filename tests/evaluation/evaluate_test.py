"""The command evaluate.py on a small run."""

import contextlib
import io
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import evaluate
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.evaluation.protocol.test_log import log_test_evaluation, repeated_test_caveat
from dr_tf.inference.fit_rule import UNKNOWN_PATIENTS
from dr_tf.inference.predictor import Predictor
from tests import tiny


class EvaluateTest(tf.test.TestCase):
    def _run(self, *arguments, run_dir=None):
        output = io.StringIO()
        records = ["--run_dir", run_dir or tiny.run_dir(), "--records", tiny.records_root(), "--bootstrap_samples", 50]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main(list(map(str, [*records, *arguments])))
        return output.getvalue()

    def _folder(self, split):
        return tiny.run_dir() / "evaluation" / f"tiny-64-plain-q95-{split}"

    def test_predictions_equal_those_of_the_predictor(self):
        self.assertIn("15 photographs of unknown patients", self._run("--split", "validation"))
        predictions = read_predictions(self._folder("validation") / "predictions.csv")
        root = tiny.records_root().parent / "photographs"
        decisions = list(Predictor.from_run(tiny.run_dir()).decisions([root / name for name in predictions.ids]))
        measured = dict(zip(predictions.ids, predictions.p_positive, strict=True))
        for decision in decisions:
            name = decision.case.removeprefix(f"{root}/")
            self.assertAllClose(decision.p_positive, measured[name], atol=1e-6)
        self.assertEqual(predictions.action.tolist(), [decision.action for decision in decisions])

    def test_metrics_and_report(self):
        self._run("--split", "calibration")
        metrics = json.loads((self._folder("calibration") / "metrics.json").read_text())
        predictions = read_predictions(self._folder("calibration") / "predictions.csv")
        self.assertAllClose(metrics["accuracy"]["value"], np.mean(predictions.truth == predictions.predicted))
        self.assertEqual((metrics["n"], metrics["positive"], metrics["patients_known"]), (15, "referable", False))
        report = (self._folder("calibration") / "report.html").read_text()
        self.assertIn("tiny/64-plain-q95", report)
        self.assertEqual(metrics["conformal"]["no_guarantee"], UNKNOWN_PATIENTS)
        self.assertIn(f"without a coverage guarantee:\n{UNKNOWN_PATIENTS}", report)
        self.assertNotIn("http://", report.replace("http://www.w3.org", ""))

    def test_a_test_set_evaluation_is_logged(self):
        self._run()
        metrics = json.loads((self._folder("test") / "metrics.json").read_text())
        entries = [json.loads(line) for line in (tiny.run_dir() / "test_evaluations.jsonl").read_text().splitlines()]
        self.assertEqual(metrics["test_evaluations"], sum(entry["split"] == "test" for entry in entries))
        self.assertEqual(next(iter(metrics.items())), ("version", 2))

    @pytest.mark.slow
    def test_two_evaluations_compared(self):
        self._run("--split", "validation")
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            evaluate.main(["--compare", *[str(self._folder("validation"))] * 2, "--bootstrap_samples", "50"])
        self.assertRegex(output.getvalue(), r"accuracy +(0\.\d{3}) +\1 +\+0\.000")

    def test_user_errors_are_one_line(self):
        for expected, arguments in {
            "has no split 'tset'; it has train": ["--split", "tset"],
            "no records 'else/1' in": ["--dataset", "else/1"],
        }.items():
            with self.subTest(expected), self.assertRaises(SystemExit) as caught:
                self._run(*arguments)
            self.assertIn(expected, str(caught.exception))
        with self.assertRaises(SystemExit) as caught:
            self._run(run_dir="/nowhere")
        self.assertIn("no finished run", str(caught.exception))


def count(run, dataset, split):
    """Log a finished evaluation; return its number."""
    with log_test_evaluation(run, dataset, split) as number:
        return number


class TestLogTest(tf.test.TestCase):
    def test_each_split_of_each_set_is_counted_by_itself(self):
        run = self.create_tempdir().full_path
        evaluations = [("a/b", "test"), ("a/b", "validation"), ("a/b", "test"), ("c/d", "test")]
        self.assertEqual([count(run, *evaluation) for evaluation in evaluations], [1, 1, 2, 1])

    def test_an_evaluation_that_was_stopped_is_not_counted(self):
        run = self.create_tempdir().full_path
        for expected in (1, 1):
            with self.assertRaises(KeyboardInterrupt), log_test_evaluation(run, "a/b", "test") as number:
                self.assertEqual(number, expected)
                raise KeyboardInterrupt
        self.assertEqual([count(run, "a/b", "test"), count(run, "c/d", "test"), count(run, "a/b", "test")], [1, 1, 2])

    def test_a_log_of_the_former_name_is_renamed_and_counted_on(self):
        run = pathlib.Path(self.create_tempdir().full_path)
        for _ in range(2):
            count(run, "a/b", "test")
        (run / "test_evaluations.jsonl").rename(run / "looks.jsonl")
        self.assertEqual([count(run, "a/b", "test") for _ in range(2)], [3, 4])
        self.assertFalse((run / "looks.jsonl").exists())
        self.assertLen((run / "test_evaluations.jsonl").read_text().splitlines(), 4)

    def test_a_repeated_test_evaluation_is_a_caveat(self):
        self.assertEqual([repeated_test_caveat("validation", 9), repeated_test_caveat("test", 1)], [[], []])
        self.assertIn("This is evaluation 2 of this test split", repeated_test_caveat("test", 2)[0])
