"""Cross-site protocols: the metrics of each source and their mean, and the evaluation of runs with synthetic logits."""

import contextlib
import csv
import html
import io
import json
import pathlib
import tempfile
import unittest
from unittest import mock

import numpy as np

import evaluate
from dr_tf.data.records import open_records
from dr_tf.evaluation.metrics.cross_site import METRICS, metrics_by_source
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.evaluation.protocol.cross_site import OTHER_SOURCE
from dr_tf.evaluation.report.cross_site import source_tables, terminal_lines, write_sources_csv
from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule_file import write_rule
from dr_tf.inference.run import ScoredRows, write_scored_rows
from dr_tf.models.heads import HEADS
from tests.data.sets import eye_fields, write_set
from tests.evaluation.synthetic_predictions import make_graded

CONFIG = "32-plain-q95"
SOURCES = ("a", "b", "c")
HOSTILE = "=<b>\n"


@contextlib.contextmanager
def without_charts():
    """Evaluations without their charts, each of which takes a fifth of a second to write."""
    uri = "data:image/svg+xml;base64,"
    with (
        mock.patch("dr_tf.evaluation.report.page.svg_data_uri", lambda figure: uri),
        mock.patch("dr_tf.evaluation.evaluation_folder.charts", lambda predictions, metrics: {}),
    ):
        yield


class MetricsBySourceTest(unittest.TestCase):
    def test_the_mean_counts_each_source_alike(self):
        of = metrics_by_source({"small": make_graded(30), "large": make_graded(90, seed=2)}, bootstrap_samples=100)
        self.assertEqual([target["n"] for target in of["targets"].values()], [30, 90])
        for name in METRICS:
            values = [target[name]["value"] for target in of["targets"].values()]
            mean = of["mean"][name]
            self.assertAlmostEqual(mean["value"], sum(values) / 2)
            self.assertTrue(mean["low"] < mean["value"] < mean["high"])
            self.assertEqual(mean["n"], 120)
        self.assertEqual(of["mean"]["auroc"]["method"], "bootstrap within each source, 100 bootstrap samples")

    def test_sources_are_resampled_independently(self):
        """The standard error of a mean of two is that of one over the root of two."""
        one = make_graded(100)
        single, double = (
            metrics_by_source(dict.fromkeys(names, one), bootstrap_samples=2000)["mean"]["accuracy"]
            for names in ("a", "ab")
        )
        ratio = (double["high"] - double["low"]) / (single["high"] - single["low"])
        self.assertAlmostEqual(ratio, 0.5**0.5, delta=0.07)

    def test_a_metric_that_a_source_does_not_define_has_no_mean(self):
        negative = make_graded(20, truth_positive=np.zeros(20, int))
        mean = metrics_by_source({"a": make_graded(20), "b": negative}, bootstrap_samples=20)["mean"]
        self.assertEqual((mean["auroc"]["value"], mean["auroc"]["method"]), (None, "undefined for b"))
        self.assertIsNotNone(mean["accuracy"]["value"])


class TablesTest(unittest.TestCase):
    def _sources(self, targets_of):
        one = make_graded(40)
        rows = [
            {"trained_on": trained_on, **metrics_by_source(dict.fromkeys(targets, one), bootstrap_samples=20)}
            for trained_on, targets in targets_of.items()
        ]
        return json.loads(json.dumps({"run": "run", "rows": rows}))

    def test_a_row_for_each_metric(self):
        sources = self._sources({"the other sources": "ab"})
        [table] = source_tables(sources)
        self.assertEqual((table.first, table.columns), ("Metric", ("a", "b", "mean")))
        self.assertEqual([row.name for row in table.rows][:3], ["Cases", "AUROC, macro", "Accuracy"])
        self.assertEqual(table.rows[0].cells, ("40", "40", None))
        value = sources["rows"][0]["mean"]["accuracy"]["value"]
        self.assertEqual(table.rows[2].cells[2].value, value)
        head, *lines = terminal_lines(sources)
        self.assertEqual(head.split(), ["a", "b", "mean"])
        self.assertEqual(len(lines), len(METRICS))
        self.assertIn(f"{value:.3f} (", lines[1])

    def test_a_table_for_each_metric(self):
        sources = self._sources({"a": "bc", "b": "ac", "c": "ab"})
        tables = source_tables(sources)
        self.assertEqual(len(tables), 1 + len(METRICS))
        self.assertEqual([row.name for row in tables[1].rows], list("abc"))
        self.assertIsNone(tables[1].rows[1].cells[1])  # trained on b
        self.assertIn("quadratic_kappa, trained on c ", "\n".join(terminal_lines(sources)))

    def test_hostile_names(self):
        sources = self._sources({HOSTILE: "ab", "a": ("b", HOSTILE)})
        with tempfile.NamedTemporaryFile("r", newline="", encoding="utf-8") as file:
            write_sources_csv(file.name, sources)
            lines = list(csv.reader(file))
        self.assertEqual(len(lines), 1 + 2 * len(METRICS))
        self.assertEqual({len(line) for line in lines}, {3 + 3 * 4})
        self.assertFalse([cell for line in lines for cell in line if cell.startswith("=") or "\n" in cell])
        self.assertFalse([line for line in terminal_lines(sources) if "\n" in line])


class TrainOnOneTest(unittest.TestCase):
    """Three runs, each of which holds two sources out, with logits that a rule of its own decides on."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        examples = {"train": [], "calibration": [], "test": []}
        for number in range(60):
            split = "test" if number % 4 == 3 else "calibration" if number % 4 == 2 else "train"
            examples[split].append(eye_fields(number, source=SOURCES[number // 20]))
        write_set(cls.folder / "records", examples, config=CONFIG)
        cls.records = open_records(cls.folder / "records", f"drawn/{CONFIG}")
        grade = cls.records.columns["grade"]
        seen = grade[:, None] + np.random.default_rng(0).normal(scale=0.8, size=(60, 1))
        cls.logits = (-((seen - np.arange(5)) ** 2)).astype(np.float32)
        for source in SOURCES:
            cls._write_run(source)

    @classmethod
    def _write_run(cls, source):
        columns, head = cls.records.columns, HEADS["softmax"](positive="referable")
        path = cls.folder / "run" / f"source-{source}"
        path.mkdir(parents=True)
        rows = np.flatnonzero((cls.records.sources == source) & (columns["split"] == "calibration"))
        labels = CalibrationLabels.from_records({"grade": head}, "grade", columns, rows)
        scores = {"plain": -cls.logits[rows], "tta2": cls.logits[rows]}
        rule = fit_rule({"grade": head}, "grade", scores, labels, train_prior=[0.2] * 5)
        write_rule(path / "decision.json", rule, Preparation.from_records_name(cls.records.name, 32))
        (path / "model.keras").touch()
        names = columns["image_id"][rows]
        write_scored_rows(path / "calibration.npz", cls._scored(rows), names=names, fitted=rows[:0])
        write_scored_rows(path / "held_out.npz", cls._scored(cls._held_out(source)))

    @classmethod
    def _held_out(cls, source):
        return np.flatnonzero((cls.records.sources != source) & (cls.records.columns["split"] != "test"))

    @classmethod
    def _scored(cls, rows):
        """The plain mode is wrong throughout, so that no other mode is taken for it."""
        scores = {"plain": -cls.logits[rows], "tta2": cls.logits[rows]}
        return ScoredRows(rows, scores, {"grade": -cls.logits[rows]}, np.zeros(len(rows)))

    def _evaluate(self, mode):
        flags = ("--run_dir", self.folder / "run", "--records", self.folder / "records", "--bootstrap_samples", "20")
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()), without_charts():
            evaluate.main([*map(str, flags), "--split", "sources", "--mode", mode])
        return output.getvalue()

    def test_a_mode_that_was_not_scored(self):
        with self.assertRaisesRegex(SystemExit, r"was not scored in mode 'knn' \(train.modes\); it was in plain, tta2"):
            self._evaluate("knn")

    def test_evaluation_in_a_mode(self):
        said = self._evaluate("tta2")
        folder = self.folder / "run" / "evaluation" / f"drawn-{CONFIG}-sources-tta2"
        metrics = json.loads((folder / "metrics.json").read_text())
        predictions = read_predictions(folder / "predictions.csv")
        self.assertEqual((metrics["mode"], metrics["sources"]["protocol"]), ("tta2", "train_on_one_source"))
        self.assertEqual((metrics["n"], metrics["patients"]), (90, 45))  # two networks hold each image out
        self.assertIn("counted once for each of the 2 networks", " ".join(metrics["caveats"]))
        self.assertEqual(metrics["conformal"]["no_guarantee"], OTHER_SOURCE)
        self._check_table(metrics["sources"]["rows"], predictions)
        report = html.unescape((folder / "report.html").read_text())
        for text in ("trained on: b", "Quadratic kappa: agreement", "not guaranteed for another source"):
            self.assertIn(text, report)
        self.assertRegex(said, r"\nauroc_macro, trained on a +- +0\.9")

    def _check_table(self, rows, predictions):
        """Each cell is of the images of one source, by the network of another."""
        numbers = np.array([int(name[1:4]) for name in predictions.ids])
        trained_on = np.array([name.removesuffix(")").split("trained on ")[1] for name in predictions.ids])
        self.assertEqual([row["trained_on"] for row in rows], list(SOURCES))
        for row in rows:
            self.assertEqual(list(row["targets"]), [s for s in SOURCES if s != row["trained_on"]])
            for target, metrics in row["targets"].items():
                mine = (trained_on == row["trained_on"]) & (numbers // 20 == SOURCES.index(target))
                right = (predictions.truth == predictions.predicted)[mine]
                self.assertEqual(metrics["n"], 15)
                self.assertAlmostEqual(metrics["accuracy"]["value"], right.mean())
                self.assertEqual(len(np.unique(predictions.threshold[mine])), 1)


if __name__ == "__main__":
    unittest.main()
