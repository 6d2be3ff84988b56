"""The model that comes with dr_tf: it is small, answers without a run, and is what its card says."""

import csv
import os
import pathlib
import re
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from dr_tf.cli import predict
from dr_tf.explain import __main__ as explain
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.ready import MEASURED, READY
from tests import commands
from tests.tfrecords_builder.trees import jpeg, photograph

ROOT = pathlib.Path(__file__).resolve().parents[1]
IDRID = pathlib.Path(os.environ.get("DR_TF_SHARED", ROOT.parent / "shared")) / "data/idrid/B. Disease Grading"


class ReadyTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.photograph = self.folder / "eye.jpg"
        self.photograph.write_bytes(jpeg(photograph()))

    def test_it_is_small_and_knows_no_machine(self):
        self.assertLess(sum(path.stat().st_size for path in READY.iterdir()), 8e6)
        self.assertNotRegex((READY / "config.gin").read_text(), r"'(/|\.)")

    def test_it_answers_without_a_run_and_says_on_whom_it_was_measured(self):
        _, output, errors = commands.run(predict.main, self.photograph)
        self.assertRegex(output, r"p\(referable\).*\n(refer|clear|retake)")
        self.assertIn((READY / MEASURED).read_text().strip(), errors)

    def test_it_explains_without_a_run(self):
        _, output, errors = commands.run(explain.main, "--output", self.folder / "why", self.photograph)
        self.assertIn("explanations.html", output)
        self.assertIn((READY / MEASURED).read_text().strip(), errors)

    def test_its_figures_are_those_of_the_card_and_of_the_results(self):
        figures = re.findall(r"\d\.\d{3} \(\d\.\d{3}-\d\.\d{3}\)", (READY / MEASURED).read_text())
        self.assertLen(figures, 3)
        for place in (READY / "README.md", ROOT / "RESULTS.md"):
            for figure in figures:
                self.assertTrue(figure in place.read_text(encoding="utf-8"), f"{figure} in {place}")

    @pytest.mark.slow
    def test_on_the_photographs_themselves_it_is_as_good_as_it_says(self):
        if not IDRID.exists():
            self.skipTest(f"no IDRiD in {IDRID}")
        with open(next(IDRID.glob("2. Groundtruths/*Testing*.csv")), newline="", encoding="utf-8-sig") as file:
            grades = {row["Image name"]: int(row["Retinopathy grade"]) for row in csv.DictReader(file)}
        paths = [next(IDRID.glob(f"1. Original Images/*Testing*/{name}.jpg")) for name in grades]
        decisions = list(Predictor.of_run(READY).decisions(paths))
        truth = np.array([grade >= 2 for grade in grades.values()])
        p_positive = np.array([decision.p_positive for decision in decisions])
        refer = p_positive >= decisions[0].threshold
        found = roc_auc_score(truth, p_positive), refer[truth].mean(), 1 - refer[~truth].mean()
        said = [float(value) for value in re.findall(r"(\d\.\d{3}) \(", (READY / MEASURED).read_text())]
        self.assertAllClose(found, said, atol=0.002)


if __name__ == "__main__":
    tf.test.main()
