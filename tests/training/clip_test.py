"""A head on a frozen CLIP is trained on cached features; the run then predicts and explains."""

import json
import pathlib
import tempfile
import unittest

import pytest

from dr_tf.cli import explain, predict
from tests import commands, tiny

CLIP = pathlib.Path(__file__).parents[1] / "models/fixtures/clip"
CONFIG = (
    tiny.CONFIG.replace(tiny.BACKBONE, "")
    + f"""
backbone.name = 'clip_vit'
backbone.weights = '{CLIP}'
backbone.image_size = 64
backbone.trainable_from = 'none'
train.feature_bank = @feature_bank()
train.modes = ('plain', 'knn')
"""
)


@pytest.mark.slow
class ClipRunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        bank = f"feature_bank.directory = '{cls.folder / 'bank'}'\n"
        cls.run_dir = tiny.train_run(cls.folder, CONFIG + bank, tiny.records_root())

    def test_features_are_cached(self):
        self.assertTrue(list((self.folder / "bank").iterdir()))

    def test_modes_and_gate(self):
        rule = json.loads((self.run_dir / "decision.json").read_text())
        self.assertIn("knn", json.dumps(rule))
        self.assertIn("gate", rule)

    def test_predict(self):
        photographs = tiny.photographs()[:2]
        status, said, errors = commands.run(predict.main, "--run_dir", self.run_dir, "--format", "json", *photographs)
        self.assertIn(status, (0, 1), errors)  # 1: the gate asks for other photographs than these tiny ones
        self.assertIn(photographs[0].name, said)

    def test_explain(self):
        photographs = tiny.photographs()[:2]
        for layer in ((), ("--layer", "stage_block1")):
            output = self.folder / f"why{len(layer)}"
            status, _, errors = commands.run(
                explain.main, "--run_dir", self.run_dir, "--output", output, *layer, *photographs
            )
            self.assertEqual(status, 0, errors)
            self.assertEqual(len(list(output.glob("*.explained.jpg"))), 2)


if __name__ == "__main__":
    unittest.main()
