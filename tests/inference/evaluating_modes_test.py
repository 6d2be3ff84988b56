"""Evaluation of other modes than plain: it measures the same decisions that prediction gives."""

import contextlib
import io
import json

import pytest
import tensorflow as tf

import evaluate
from dr_tf.evaluation.predictions_csv import read_predictions
from dr_tf.inference.predictor import Predictor
from tests import tiny


class EvaluatingModesTest(tf.test.TestCase):
    def _run(self, *arguments):
        flags = [
            "--run_dir",
            tiny.run_dir(),
            "--records",
            tiny.records_root(),
            "--bootstrap_samples",
            20,
            "--split",
            "validation",
        ]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            evaluate.main(list(map(str, [*flags, *arguments])))

    @pytest.mark.slow
    def test_views(self):
        self._run("--mode", "tta4")
        folder = tiny.run_dir() / "evaluation" / "tiny-64-plain-q95-validation-tta4"
        metrics = json.loads((folder / "metrics.json").read_text())
        self.assertEqual((metrics["mode"], "tta_spread" in metrics["referral_curves"]), ("tta4", True))
        self.assertRegex((folder / "report.html").read_text(), r"<dt>Mode</dt>\s*<dd>tta4</dd>")
        predictions = read_predictions(folder / "predictions.csv")
        root = tiny.records_root().parent / "photographs"
        decisions = Predictor.from_run(tiny.run_dir(), "tta4").decisions([root / name for name in predictions.ids])
        self.assertAllClose([d.p_positive for d in decisions], predictions.p_positive, atol=1e-6)

    def test_an_unfitted_mode_is_refused_in_one_line(self):
        with self.assertRaises(SystemExit) as caught:
            self._run("--mode", "tta8")
        self.assertIn("the mode 'tta8' was not fitted", str(caught.exception))
