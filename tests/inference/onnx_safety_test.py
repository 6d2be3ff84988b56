"""An ONNX file of unknown origin is refused if it has custom operators or external data, or is no network of dr_tf."""

import dataclasses
import pathlib
import tempfile
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dr_tf.console import UserError
from dr_tf.inference.export_file import EXPORT, Export, read_export, write_export
from dr_tf.inference.network import load_network
from dr_tf.inference.onnx_network import OnnxNetwork, open_session
from dr_tf.inference.onnx_safety import read_safe_onnx

EXPORTED = Export("onnx", "the mean, 9 weights", 16, 3, False, {"grade": 2}, "grade")
WEIGHTS = np.array([[1, 0], [0, 1], [1, 1]], np.float32)


def mean_network(**changes):
    """features: the mean colour; grade: two sums of it."""
    batch_image = ["batch", 16, 16, 3]
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["features"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["features", "w"], ["grade"], domain=changes.get("domain", "")),
    ]
    weights = numpy_helper.from_array(WEIGHTS, "w")
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(changes.get("input", "images"), TensorProto.UINT8, batch_image)],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info(changes.get("output", "grade"), TensorProto.FLOAT, ["batch", 2]),
        ],
        [weights],
    )
    nodes[0].input[0] = changes.get("input", "images")
    graph.node[0].input[0] = changes.get("input", "images")
    graph.node[2].output[0] = changes.get("output", "grade")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class OnnxSafetyTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        write_export(self.folder, EXPORTED)

    def save(self, model):
        (self.folder / "model.onnx").write_bytes(model.SerializeToString())
        return self.folder / "model.onnx"

    def refused(self, line):
        with self.assertRaisesRegex(UserError, line) as caught:
            load_network(self.folder)
        self.assertEqual(len(str(caught.exception).splitlines()), 1)

    def test_a_good_file(self):
        self.save(mean_network())
        images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
        network = load_network(self.folder)
        outputs, features = network(images)
        mean = images.astype(np.float64).mean(axis=(1, 2))
        np.testing.assert_allclose(features, mean, rtol=1e-5)
        np.testing.assert_allclose(outputs["grade"], mean @ WEIGHTS, rtol=1e-5)
        self.assertEqual(network.description, "the mean, 9 weights, in ONNX Runtime")
        self.assertIsNone(network.members(features))

    def test_custom_operators(self):
        self.save(mean_network(domain="evil.corp"))
        self.refused("an operator of the domain 'evil.corp'")

    def test_external_data(self):
        model = mean_network()
        (self.folder.parent / "secret").write_bytes(WEIGHTS.tobytes())
        onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="../secret")
        model.graph.initializer[0].ClearField("raw_data")
        self.save(model)
        self.refused("tensors in other files")

    def test_external_data_in_a_subgraph(self):
        inner = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(WEIGHTS))
        onnx.external_data_helper.set_external_data(inner.attribute[0].t, location="/etc/passwd")
        branch = helper.make_graph(
            [inner], "branch", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, [3, 2])]
        )
        model = mean_network()
        model.graph.node.append(helper.make_node("If", ["b"], ["y"], then_branch=branch, else_branch=branch))
        self.save(model)
        self.refused("tensors in other files")

    def test_other_names_and_shapes(self):
        self.save(mean_network(output="score"))
        self.refused("has no output 'grade'; it has features, score")
        self.save(mean_network(input="pixels"))
        self.refused("has no input 'images'")
        self.save(mean_network())
        write_export(self.folder, dataclasses.replace(EXPORTED, image_size=32))
        self.refused(r"the input 'images' has the shape \[16, 16, 3\], not \[32, 32, 3\]")

    def test_damaged_files(self):
        data = mean_network().SerializeToString()
        for damaged in (b"", b"\xff" * 40, data[: len(data) // 2], b"not a model at all"):
            (self.folder / "model.onnx").write_bytes(damaged)
            self.refused("model.onnx")
        rng = np.random.default_rng(0)
        for _ in range(60):  # whatever a byte becomes: an answer or one line
            changed = bytearray(data)
            changed[rng.integers(len(data))] = rng.integers(256)
            (self.folder / "model.onnx").write_bytes(changed)
            try:
                network = load_network(self.folder)
                network(np.zeros((1, 16, 16, 3), np.uint8))
            except UserError as error:
                self.assertEqual(len(str(error).splitlines()), 1)

    def test_a_missing_file(self):
        self.refused("is not a file")
        with self.assertRaisesRegex(UserError, "is not a file"):
            read_safe_onnx(self.folder)
        with self.assertRaisesRegex(UserError, "is not a file"):
            open_session(self.folder / "none.onnx")

    def test_a_damaged_description(self):
        self.save(mean_network())
        for text in ("", "[]", "{}", '{"version": 2}', (self.folder / EXPORT).read_text().replace('"onnx"', '"exe"')):
            (self.folder / EXPORT).write_text(text)
            self.refused("export.json cannot be used")
        write_export(self.folder, dataclasses.replace(EXPORTED, width=1 << 40))
        self.refused("a size is out of range")

    def test_a_description_round_trips(self):
        self.assertEqual(read_export(self.folder), EXPORTED)
        self.assertIsNone(read_export(self.folder / "none"))
        self.assertEqual(OnnxNetwork.runtime, "ONNX Runtime")


if __name__ == "__main__":
    unittest.main()
