"""The pretrained model that comes with dr_tf: its size, its default use, and the metrics in its model card."""

import csv
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from dr_tf.cli import explain, predict, recalibrate
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.ready import MEASURED, READY
from tests import commands, tiny
from tests.tfrecords_builder.trees import jpeg, photograph, run_builder, write_folder

ROOT = pathlib.Path(__file__).resolve().parents[1]
IDRID = pathlib.Path(os.environ.get("DR_TF_SHARED", ROOT.parent / "shared")) / "data/idrid/B. Disease Grading"


class ReadyTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.image = self.folder / "eye.jpg"
        self.image.write_bytes(jpeg(photograph()))

    def test_it_is_small_and_its_config_contains_no_absolute_paths(self):
        self.assertLess(sum(path.stat().st_size for path in READY.rglob("*")), 15e6)
        self.assertNotRegex((READY / "config.gin").read_text(), r"'(/|\.)")

    def test_predict_uses_it_by_default_and_prints_its_test_metrics(self):
        _, output, errors = commands.run(predict.main, self.image)
        self.assertRegex(output, r"p\(referable\).*\n(refer|clear|retake)")
        self.assertIn((READY / MEASURED).read_text().strip(), errors)

    @pytest.mark.slow
    def test_explain_uses_it_by_default_and_prints_its_test_metrics(self):
        _, output, errors = commands.run(explain.main, "--output", self.folder / "explanations", self.image)
        self.assertIn("explanations.html", output)
        self.assertIn((READY / MEASURED).read_text().strip(), errors)

    def test_it_is_recalibrated_on_photographs_of_another_clinic(self):
        write_folder(self.folder / "photographs", splits=("train",), each=4)
        flags = ["--image_size", 512, "--audit", "off", "--workers", 1, "--name", "clinic", "--classes", tiny.CLASSES]
        folders = ["--source", self.folder / "photographs", "--records", self.folder / "records"]
        status, _, errors = run_builder("folder", *folders, *flags)
        self.assertEqual(status, 0, errors)
        flags = ["--records", self.folder / "records", "--dataset", "clinic", "--output", self.folder / "run"]
        status, _, errors = commands.run(recalibrate.main, *flags)
        self.assertEqual(status, 0, errors)
        self.assertRegex(errors, r"fitted on \d+ photographs\n")
        _, output, _ = commands.run(predict.main, "--model", self.folder / "run", self.image)
        self.assertRegex(output, r"(refer|clear|retake)")

    def test_onnx_runtime_keeps_and_sends_no_usage_data(self):
        home, temporary = self.folder / "home", self.folder / "temporary"
        home.mkdir()
        temporary.mkdir()
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
        code = "from dr_tf.inference.predictor import Predictor; from dr_tf.inference.ready import READY; "
        code += "print(Predictor.from_run(READY).run.network.runtime)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
            env=environment | {"HOME": str(home), "TMPDIR": str(temporary)},
        )  # fmt: skip
        self.assertEqual(done.stdout.strip(), "ONNX Runtime")
        self.assertEmpty([*home.rglob("*"), *temporary.rglob("*")])

    def test_its_metrics_are_those_of_the_model_card_and_of_the_results(self):
        metrics = re.findall(r"\d\.\d{3} \(\d\.\d{3}-\d\.\d{3}\)", (READY / MEASURED).read_text())
        self.assertLen(metrics, 3)
        for path in (READY / "README.md", ROOT / "RESULTS.md"):
            for metric in metrics:
                self.assertTrue(metric in path.read_text(encoding="utf-8"), f"{metric} in {path}")

    @pytest.mark.slow
    def test_on_the_test_split_it_has_the_metrics_of_its_card(self):
        if not IDRID.exists():
            self.skipTest(f"no IDRiD in {IDRID}")
        with open(next(IDRID.glob("2. Groundtruths/*Testing*.csv")), newline="", encoding="utf-8-sig") as file:
            grades = {row["Image name"]: int(row["Retinopathy grade"]) for row in csv.DictReader(file)}
        paths = [next(IDRID.glob(f"1. Original Images/*Testing*/{name}.jpg")) for name in grades]
        decisions = list(Predictor.from_run(READY).decisions(paths))
        positive = np.array([grade >= 2 for grade in grades.values()])
        p_positive = np.array([decision.p_positive for decision in decisions])
        referred = p_positive >= decisions[0].threshold
        metrics = roc_auc_score(positive, p_positive), referred[positive].mean(), 1 - referred[~positive].mean()
        expected = [float(value) for value in re.findall(r"(\d\.\d{3}) \(", (READY / MEASURED).read_text())]
        self.assertAllClose(metrics, expected, atol=0.002)


if __name__ == "__main__":
    tf.test.main()
