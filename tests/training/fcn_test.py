"""A run with decoder and CBAM: trained for one epoch, predicted, explained, opened by plain Keras, with a feature bank."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import pytest

import train
from dr_tf.cli import explain, predict
from dr_tf.console import EXIT_USER_ERROR
from tests import commands, tiny

CONFIG = (
    tiny.CONFIG.replace("classifier", "fcn_classifier").replace("(4, 8)", "(4, 8, 8)")
    + """
softmax.focal_gamma = 2.0
backbone.trainable_from = 'none'
fcn_classifier.filters = (8, 8, 8)
fcn_classifier.reduction = 4
train.patience = 1
train.modes = ()
"""
)
WITH_BANK = "train.feature_bank = @feature_bank()\n"
OPEN = """
import sys, keras, numpy as np
model = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
assert not [name for name in sys.modules if name.startswith("dr_tf")]
print(model(np.zeros((1, 64, 64, 3)))["grade"].shape, model.get_layer("evidence").output.shape)
"""


@pytest.mark.slow
class RunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        cls.run_dir = tiny.train_run(cls.root, CONFIG, tiny.records_root())

    def test_predict_and_explain(self):
        photographs = tiny.photographs()[:2]
        _, rows, _ = commands.run(predict.main, "--run_dir", self.run_dir, "--format", "csv", *photographs)
        self.assertEqual(len(rows.splitlines()), 3)
        why = self.root / "why"
        commands.run(explain.main, "--run_dir", self.run_dir, "--output", why, *photographs)
        self.assertEqual(json.loads((why / "explanations.json").read_text())["layer"], "evidence")

    def test_plain_keras_opens_the_model(self):
        model = self.run_dir / "model.keras"
        opened = subprocess.run(
            [sys.executable, "-P", "-c", OPEN, model], cwd=self.root, capture_output=True, text=True
        )
        self.assertEqual(opened.stdout.split("\n")[0], "(1, 5) (None, 16, 16, 8)", opened.stderr[-500:])


@pytest.mark.slow
class FeatureBankTest(unittest.TestCase):
    def test_without_skips(self):
        """The bank holds the last map of the frozen backbone; with skips the decoder also needs earlier ones."""
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            tiny.train_run(folder, CONFIG + WITH_BANK + "fcn_classifier.skips = False\n", tiny.records_root())
            self.assertTrue((folder / "run" / "model.keras").exists())
            (folder / "refused").mkdir()
            (folder / "refused" / "config.gin").write_text(CONFIG + WITH_BANK)
            status, _, errors = commands.run(
                train.main, "--gin_file", folder / "refused/config.gin", "--records", tiny.records_root(),
                "--run_dir", folder / "refused/run",
            )  # fmt: skip
            self.assertEqual(status, EXIT_USER_ERROR)
            self.assertIn("set fcn_classifier.skips = False", errors)


if __name__ == "__main__":
    unittest.main()
