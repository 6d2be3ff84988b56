"""The copy of a run at half its size predicts like the run."""

import contextlib
import io
import pathlib
import tempfile
import zipfile

import h5py
import keras
import numpy as np
import tensorflow as tf

from dr_tf.export import half
from dr_tf.inference.predictor import Predictor
from tests import tiny


def _arrays(weights):
    """{name: array} of a weights file."""
    arrays = {}
    with h5py.File(io.BytesIO(weights), "r") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if hasattr(item, "shape") else None)
    return arrays


class HalfTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def _halve(self, run_dir, output):
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            half.main(["--run_dir", str(run_dir), "--output", str(output)])
        return stdout.getvalue()

    def test_it_predicts_like_the_run(self):
        self.assertRegex(self._halve(tiny.run_dir(), self.folder / "half"), r"half: \d\.\d MB")
        whole, halved = Predictor.from_run(tiny.run_dir()), Predictor.from_run(self.folder / "half")
        for one, other in zip(*(predictor.run.network.model.variables for predictor in (whole, halved)), strict=True):
            self.assertEqual(other.dtype, "float32")
            self.assertAllEqual(np.asarray(one, np.float16), np.asarray(other))
        for image in tiny.photographs()[:3]:
            one, other = whole.decide(image), halved.decide(image)
            self.assertEqual(one.action, other.action)
            self.assertNear(one.distance, other.distance, 0.05)

    def test_only_weights_change(self):
        half.halve_model(tiny.run_dir() / "model.keras", self.folder / "half.keras")
        before, after = zipfile.ZipFile(tiny.run_dir() / "model.keras"), zipfile.ZipFile(self.folder / "half.keras")
        self.assertEqual(before.read("config.json"), after.read("config.json"))
        weights, halved = (_arrays(file.read("model.weights.h5")) for file in (before, after))
        self.assertEqual(weights.keys(), halved.keys())
        self.assertIn(np.dtype("float32"), {values.dtype for values in weights.values()})
        for name, values in weights.items():
            expected = values.astype(np.float16) if values.dtype == np.float32 else values
            self.assertEqual(halved[name].dtype, expected.dtype)
            self.assertAllEqual(halved[name], expected)
        self.assertIsInstance(keras.saving.load_model(self.folder / "half.keras"), keras.Model)

    def test_mistakes_in_one_line(self):
        with self.assertRaisesRegex(SystemExit, "is no finished run: it has no decision.json and no model.keras"):
            self._halve(self.folder, self.folder / "half")
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.layers[0].kernel.assign([[1e6]])
        model.save(self.folder / "large.keras")
        with self.assertRaisesRegex(Exception, "exceed the range of float16"):
            half.halve_model(self.folder / "large.keras", self.folder / "half.keras")


if __name__ == "__main__":
    tf.test.main()
