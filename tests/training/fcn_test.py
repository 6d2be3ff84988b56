"""A run with decoder and CBAM: trained for one epoch, predicted, explained, opened by plain Keras, with a feature bank."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import keras
import numpy as np
import pytest

from dr_tf.cli import explain, predict
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
    def test_training_on_maps_of_every_stride_gives_equal_weights(self):
        models = []
        for name, binding in (("bank", ""), ("images", "feature_bank.stored = False\n")):
            folder = self.enterContext(tempfile.TemporaryDirectory())
            bank = f"feature_bank.directory = '{folder}/{name}'\n"
            run_dir = tiny.train_run(pathlib.Path(folder), CONFIG + WITH_BANK + bank + binding, tiny.records_root())
            models.append(keras.saving.load_model(run_dir / "model.keras"))
        for one, other in zip(models[0].variables, models[1].variables, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-3, err_msg=one.path)  # features are float16


if __name__ == "__main__":
    unittest.main()
