"""One folder of hostile file names goes through every output: no line breaks, no control codes, no formulas, no loss."""

import csv
import json
import os
import pathlib
import tempfile
import unittest
from unittest import mock

import numpy as np

from dr_tf.cli import explain, predict
from dr_tf.data.records import NO_FOLD, open_records
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.predictions_csv import read_predictions, write_predictions
from dr_tf.evaluation.report.page import report
from dr_tf.inference.find_images import find_images
from dr_tf.inference.formats import FORMATS
from dr_tf.inference.patients import group_by_patient
from dr_tf.inference.predictor import Predictor
from dr_tf.safe_names import from_csv_cell, unescape
from tests import commands
from tests.evaluation.synthetic_predictions import make_graded
from tests.explain.runs import write_run
from tests.tfrecords_builder import trees

NAMES = ["a\nb.jpg", "a\rb.jpg", "\x1b[31mred.jpg", "=1+1.jpg", "+1.jpg", "-1.jpg", "@SUM(A1).jpg", "'=1.jpg", "\u202egpj.jpg",
         'a, "b".jpg', "a\\x0ab.jpg", "\x85next.jpg", "é" * 125 + ".jpeg"]  # fmt: skip
NOT_UTF8 = os.fsdecode(b"\xff\xfe.jpg")
BAD = ["bad\n\x1b[2J.jpg", "=bad.jpg", os.fsdecode(b"bad\xff.jpg")]  # no images
DEAD = "dead\n\x1b[2J.jpg"  # a broken link
RECORDS = "names/64-plain-q95"


class HostileNamesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        cls.photographs = cls.root / "photographs"
        for number, name in enumerate([*NAMES, NOT_UTF8]):
            grade = "none" if number // 2 % 2 else "mild"
            trees.write(cls.photographs / grade / name, trees.jpeg(trees.photograph(number // 2)))  # pairs of copies
        for name in BAD:
            trees.write(cls.photographs / "mild" / name, b"no image")
        (cls.photographs / "mild" / DEAD).symlink_to(cls.root / "nowhere")
        write_run(cls.root / "run")

    def assert_harmless(self, text):
        """The text has no control characters, and it can be stored and sent."""
        for line in text.split("\n"):
            self.assertTrue(line.isprintable(), line)
        text.encode("utf-8")

    def assert_harmless_table(self, text):
        """Rows are lines, and no cell is a formula. Returns the rows."""
        self.assert_harmless(text)
        rows = list(csv.DictReader(text.splitlines()))
        self.assertEqual(len(rows), len(text.splitlines()) - 1)
        for cell in (cell for row in rows for cell in row.values()):
            self.assertFalse(cell[:1] in tuple("=+@"), cell)
            self.assertFalse(cell.startswith("-") and not cell[1:].replace(".", "").isdigit(), cell)
        return rows

    def test_predict(self):
        everything = sorted(os.fspath(path) for path in self.photographs.rglob("*.j*") if path.is_file())
        status, told, warned = commands.run(predict.main, "--run_dir", self.root / "run", self.photographs)
        self.assertEqual((status, len(told.splitlines())), (1, 1 + len(everything)))
        self.assert_harmless(told)
        self.assert_harmless(warned)
        self.assertIn("dead\\x0a\\x1b[2J.jpg: a broken link", warned)

    def test_formats_of_decisions(self):
        predictor = Predictor.from_run(self.root / "run")
        decisions = list(predictor.decisions(find_images([self.photographs / "mild"], on_skipped=list)))
        names = [decision.case for decision in decisions]
        for made in (decisions, group_by_patient(decisions)):
            printed = {name: list(lines(made, predictor.rule)) for name, lines in FORMATS.items()}
            self.assert_harmless("\n".join(line for lines in printed.values() for line in lines))
            rows = self.assert_harmless_table("\n".join(printed["csv"]))
            cases = [json.loads(line) for line in printed["json"]]
            if made is decisions:
                self.assertEqual([from_csv_cell(row["case"]) for row in rows], names)
                self.assertEqual([unescape(case["case"]) for case in cases], names)
                cases = [{"photographs": case["images"]} for case in cases]
            photographs = [unescape(one["photograph"]) for case in cases for one in case["photographs"]]
            self.assertEqual(photographs, names)

    def test_explain(self):
        arguments = "--run_dir", self.root / "run", "--output", self.root / "maps", self.photographs
        status, told, warned = commands.run(explain.main, *arguments)
        self.assertEqual(status, 1)
        self.assert_harmless(told)
        self.assert_harmless(warned.rsplit("\r", 1)[-1].split("\n", 1)[-1])  # after the progress bar
        self.assert_harmless((self.root / "maps" / "explanations.html").read_text(encoding="utf-8"))
        cases = json.loads((self.root / "maps" / "explanations.json").read_text(encoding="utf-8"))["cases"]
        drawn = [case for case in cases if case["picture"]]
        self.assertEqual({os.path.basename(unescape(case["case"])) for case in drawn}, {*NAMES, NOT_UTF8})
        for case in drawn:
            self.assertTrue(case["picture"].isprintable())
            self.assertTrue((self.root / "maps" / case["picture"]).is_file())

    def test_records(self):
        status, told, warned = trees.run_builder(
            "folder", "--source", self.photographs, "--records", self.root / "records", "--image_size", 64,
            "--classes", "none,mild,moderate,severe,proliferative", "--name", "names", "--workers", 1, "--folds", 2,
            "--shares", "train=100", "--sheet", self.root / "sheet.png",
        )  # fmt: skip
        self.assertEqual(status, 0, warned)
        self.assert_harmless(told)
        self.assertTrue((self.root / "sheet.png").is_file())
        target = self.root / "records" / RECORDS / "1.0.0"
        tables = {path.stem: self.assert_harmless_table(path.read_text("utf-8")) for path in target.glob("*.csv")}
        self.assertEqual(set(tables), {"folds", "rejected", "audit"})
        self.assertTrue(tables["audit"])
        left_out = {from_csv_cell(row["path"]) for row in tables["rejected"]}
        self.assertLessEqual({f"mild/{name}" for name in [*BAD, DEAD]}, left_out)
        records = open_records(self.root / "records", RECORDS)
        kept = set(records.columns["image_id"].tolist())
        self.assertEqual({from_csv_cell(row["image_id"]) for row in tables["folds"]}, kept)
        self.assertTrue((records.columns["fold"] != NO_FOLD).all())
        self.assertEqual(len(kept) + len(left_out), len(NAMES) + 1 + len(BAD) + 1)

    def test_evaluation(self):
        names = [*NAMES, *BAD[:2]]
        made = make_graded(len(names), ids=names, patients=[f"={name}" for name in names])
        path = self.root / "predictions.csv"
        write_predictions(path, made)
        self.assert_harmless_table(path.read_text(encoding="utf-8"))
        again = read_predictions(path)
        for field in ("ids", "patients", "p_positive", "probabilities"):
            np.testing.assert_array_equal(getattr(again, field), getattr(made, field))
        wrong = make_graded(
            len(names), ids=names, refer=np.zeros(len(names), bool), truth_positive=np.ones(len(names), int)
        )
        page = report(wrong, measure(wrong, bootstrap_samples=5), images=lambda name: None)
        self.assert_harmless(page)
        self.assertIn("bad\\x0a\\x1b[2J.jpg", page)


class LongPathsTest(unittest.TestCase):
    def test_too_long_paths_are_one_line(self):
        long = "x" * 304
        for main, arguments in (
            (predict.main, ("--run_dir", "run", long)),
            (predict.main, ("--run_dir", long, __file__)),
            (explain.main, ("--run_dir", "run", "--output", "maps", long)),
            (explain.main, ("--run_dir", long, "--output", "maps", __file__)),
        ):
            with self.subTest(arguments=arguments):
                status, _, warned = commands.run(main, *arguments)
                self.assertEqual(status, 2)
                self.assertRegex(warned, "^error: .*\n$")

    def test_a_file_in_a_folder_that_may_not_be_entered_is_one_line(self):
        refused = mock.patch("os.stat", side_effect=PermissionError(13, "Permission denied", "secret/in.jpg"))
        with refused:  # patched, because root may enter every folder
            status, _, warned = commands.run(predict.main, "--run_dir", "run", "secret/in.jpg")
        self.assertEqual((status, warned), (2, "error: secret/in.jpg cannot be read: Permission denied\n"))


if __name__ == "__main__":
    unittest.main()
