"""Conversion to ONNX: exact GELU, names, and weights in half precision."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from dr_tf.export.onnx_file import halve_weights, save, to_onnx
from dr_tf.inference.onnx_network import open_session


class OnnxFileTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "model.onnx"

    def _convert(self, compute, *, half=False):
        signature = {"images": tf.TensorSpec([None, 4], tf.float32, name="images")}
        function = tf.function(compute, input_signature=[signature], autograph=False)
        model = to_onnx(function, signature)
        if half:
            halve_weights(model)
        save(model, self.path)
        return model, open_session(self.path)

    def test_exact_gelu(self):
        def compute(x):
            gelu = keras.activations.gelu(x["images"], approximate=False)
            return {"gelu": tf.identity(gelu, name="gelu"), "erfc": tf.identity(tf.math.erfc(x["images"]), name="erfc")}

        model, session = self._convert(compute)
        self.assertNotIn("Erfc", {node.op_type for node in model.graph.node})
        x = np.linspace(-4, 4, 12).reshape(3, 4).astype(np.float32)
        gelu, erfc = session.run(["gelu", "erfc"], {"images": x})
        self.assertAllClose(gelu, keras.activations.gelu(x, approximate=False), atol=1e-6)
        self.assertAllClose(erfc, tf.math.erfc(x), atol=1e-6)

    def test_names_and_batch_axis(self):
        model, _ = self._convert(lambda x: {"sums": tf.identity(tf.reduce_sum(x["images"], axis=1), name="sums")})
        (image,), (sums,) = model.graph.input, model.graph.output
        self.assertEqual((image.name, sums.name), ("images", "sums"))
        for node in (image, sums):
            self.assertEqual(node.type.tensor_type.shape.dim[0].dim_param, "batch")

    def test_half_precision_halves_large_weights_only(self):
        weights = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)
        weights[0, 0] = 0.1

        def compute(x):
            return {"y": tf.identity(x["images"] @ weights + np.float32(0.1), name="y")}

        self._convert(compute)
        whole = self.path.stat().st_size
        _, session = self._convert(compute, half=True)
        self.assertLess(self.path.stat().st_size, 0.55 * whole)
        x = np.eye(4, dtype=np.float32)
        (y,) = session.run(["y"], {"images": x})
        self.assertAllClose(y, weights.astype(np.float16).astype(np.float32) + np.float32(0.1), atol=1e-6)


if __name__ == "__main__":
    tf.test.main()
