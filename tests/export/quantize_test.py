"""Quantization: the project's own settings keep a network right, and a comparison shows where saturation breaks it."""

import pathlib
import tempfile
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dr_tf.export import parity
from dr_tf.export.quantize import float_nodes, quantize_onnx
from dr_tf.inference.onnx_network import open_session

_SIZE, _CHANNELS = 8, 32


def convolutions():
    """Three 1x1 convolutions with large weights of one sign, whose sums of products saturate 16 bits in pairs."""
    rng = np.random.default_rng(0)
    nodes, weights, name = [helper.make_node("Cast", ["images"], ["x0"], to=TensorProto.FLOAT)], [], "x0"
    for layer in range(3):
        inputs = 3 if layer == 0 else _CHANNELS
        values = (0.9 + 0.1 * rng.random((_CHANNELS, inputs, 1, 1))).astype(np.float32)
        values[: _CHANNELS // 2] *= -1  # after ReLU half of the channels are active, side by side
        weights.append(numpy_helper.from_array(values / inputs, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [name, f"w{layer}"], [f"c{layer}"], name=f"conv{layer}"))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"x{layer + 1}"]))
        name = f"x{layer + 1}"
    nodes.append(helper.make_node("GlobalAveragePool", [name], ["features"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [value("images", TensorProto.UINT8, ["batch", 3, _SIZE, _SIZE])],
        [value("features", TensorProto.FLOAT, ["batch", _CHANNELS, 1, 1])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class QuantizeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "float.onnx").write_bytes(convolutions().SerializeToString())
        images = np.random.default_rng(1).integers(128, 256, (8, 1, 3, _SIZE, _SIZE)).astype(np.uint8)
        cls.batches = [{"images": image} for image in images]

    def _error(self, **options):
        """The mean relative error of the quantized features."""
        quantize_onnx(self.folder / "float.onnx", self.folder / "int8.onnx", self.batches, **options)
        expected, found = (
            np.concatenate([open_session(self.folder / name).run(None, batch)[0] for batch in self.batches])
            for name in ("float.onnx", "int8.onnx")
        )
        return np.abs(found - expected).mean() / np.abs(expected).mean()

    def test_its_own_settings_are_right(self):
        self.assertLess(self._error(), 0.02)
        operators = {node.op_type for node in onnx.load(self.folder / "int8.onnx").graph.node}
        self.assertIn("QuantizeLinear", operators)

    def test_the_first_convolution_stays_in_float(self):
        self.assertEqual(float_nodes(self.folder / "float.onnx"), ["conv0"])

    def test_a_saturating_quantization_is_refused(self):
        """A comparison as of a network whose logits are wrong: the line says by how much."""
        saturated = {"cases": 50, "logits": {"grade": 4.6}, "features": 1.0, "probability": 0.8, "equal_actions": 0.7}
        saturated["equal_grades"] = 0.5
        line = parity.problem(saturated, parity.INT8)
        self.assertEqual(line, "70.0 % of 50 actions are equal, needed are 99 %")
        self.assertEqual(parity.problem(saturated | {"equal_actions": 0.99}, parity.INT8), "")
        self.assertIn("logits differ by up to 4.6, allowed is 0.002", parity.problem(saturated, parity.EXACT))

    def test_full_range_weights_saturate_where_the_processor_has_no_wide_sums(self):
        """Signed weights of 8 bits (U8S8): wrong on AVX2 without VNNI, right elsewhere; never better than 7 bits."""
        saturating = self._error(reduce_range=False)
        if _has_vnni():
            self.skipTest("this processor has VNNI: nothing saturates")
        self.assertGreater(saturating, 5 * self._error())


def _has_vnni():
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return "vnni" in flags or "avx2" not in flags


if __name__ == "__main__":
    unittest.main()
