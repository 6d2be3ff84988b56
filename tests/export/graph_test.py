"""Graphs of paired networks and ensembles give the same answers in ONNX Runtime as in Keras."""

import pathlib
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.export.graph import ExportedGraph, members_function
from dr_tf.export.onnx_file import save, to_onnx
from dr_tf.inference.export_file import MEMBERS, Export, write_export
from dr_tf.inference.network import load_network
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.cross_attention import cross_attention_classifier
from dr_tf.models.ensemble import build_ensemble
from dr_tf.models.heads import HEADS
from dr_tf.models.network import KerasNetwork
from dr_tf.models.paired import paired_classifier


def _backbone():
    return build_backbone("resnet_v2", image_size=32)


class GraphTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3)).astype(np.uint8)

    def _exported(self, model, heads):
        """The network of an export folder that holds a model only."""
        network, graph = KerasNetwork(model), ExportedGraph(model, next(iter(heads)))
        save(to_onnx(graph.function, graph.signature), self.folder / "model.onnx")
        if network.ensemble:
            save(to_onnx(*members_function(model, network.outputs)), self.folder / MEMBERS)
        outputs = {name: head.outputs for name, head in heads.items()}
        description = Export(
            "onnx", "tiny", 32, network.width, network.paired, outputs, next(iter(heads)), "age" in graph.signature,
            graph.map_layer, network.members_count,
        )  # fmt: skip
        write_export(self.folder, description)
        return network, load_network(self.folder)

    def _check_equal(self, network, exported, images):
        (expected, features), (found, other) = network(images), exported(images)
        self.assertAllClose(expected, found, atol=1e-4)
        self.assertAllClose(features, other, atol=1e-4)

    def _pairs(self):
        images = dict(zip(("left", "right"), self.pixels, strict=True))
        images |= {"left_present": np.array([True, True, False]), "right_present": np.array([True, False, True])}
        return images | {"age": np.float32([60, -1, 20]), "sex": np.float32([1, -1, 0])}

    def test_pairs(self):
        heads = {"labels": HEADS["multi_label"]()}
        network, exported = self._exported(paired_classifier(_backbone(), heads, fuse="max"), heads)
        self.assertTrue(exported.paired)
        self._check_equal(network, exported, self._pairs())

    def test_cross_attention_with_age_and_sex(self):
        heads = {"labels": HEADS["multi_label"]()}
        model = cross_attention_classifier(
            _backbone(), heads, width=16, attention_heads=2, age_and_sex=True, drop_eye=0.5
        )
        network, exported = self._exported(model, heads)
        self._check_equal(network, exported, self._pairs())
        older = self._pairs() | {"age": np.float32([90, 50, 50])}
        self.assertNotAllClose(exported(older)[0]["labels"], exported(self._pairs())[0]["labels"], atol=1e-3)
        self.assertContainsSubset(["age", "sex"], [node.name for node in exported._session.get_inputs()])

    @pytest.mark.slow
    def test_ensembles(self):
        heads = {"grade": HEADS["softmax"](), "dme": HEADS["edema"]()}
        model = build_ensemble([classifier(_backbone(), heads) for _ in range(2)], heads)
        network, exported = self._exported(model, heads)
        self.assertTrue(exported.ensemble)
        self._check_equal(network, exported, self.pixels[0])
        features = network(self.pixels[0])[1]
        self.assertAllClose(network.members(features), exported.members(features), atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
