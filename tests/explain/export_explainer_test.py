"""Maps of exported networks: class-activation maps equal Grad-CAM, and occlusion finds what the network looks at."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.export_explainer import ExportExplainer
from dr_tf.export.graph import ExportedGraph
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.fcn_decoder import fcn_classifier
from dr_tf.models.heads import HEADS


class GraphNetwork:
    """The traced graph behind the interface of an exported network, in TensorFlow."""

    def __init__(self, model):
        self.graph = ExportedGraph(model, "grade")
        self.export = types.SimpleNamespace(map_layer=self.graph.map_layer, decides="grade")
        self.image_size, self.paired = 64, False

    def with_maps(self, images):
        results = {name: value.numpy() for name, value in self.graph.function({"images": images}).items()}
        return {"grade": results["grade"]}, results["features"], results["maps"]

    def __call__(self, images):
        return self.with_maps(images)[:2]


def _network(head, build=classifier, seed=0):
    keras.utils.set_random_seed(seed)
    model = build(build_backbone("resnet_v2", image_size=64), {"grade": HEADS[head]()})
    for layer in model.layers:  # trained biases are not 0
        for variable in layer.trainable_variables:
            if variable.path.endswith("bias"):
                variable.assign(np.random.default_rng(seed).normal(size=variable.shape))
    return model


class ExportExplainerTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)

    def _check_equal(self, model, head, layer=None, targets=("positive", 1)):
        network = GraphNetwork(model)
        found = ExportExplainer(network, HEADS[head]())
        expected = Explainer(model, HEADS[head](), layer=layer or network.export.map_layer)
        self.assertEqual((found.method, found.targets), ("cam", expected.targets))
        for target in targets:
            one, other = expected(self.images, target), found(self.images, target)
            self.assertAllClose(one.maps, other.maps, atol=1e-4, rtol=1e-3)
            for name in found.targets:
                self.assertAllClose(one.evidence[name], other.evidence[name], atol=1e-4)
                self.assertAllClose(one.probabilities[name], other.probabilities[name], atol=1e-5)

    @pytest.mark.slow
    def test_class_activation_maps_equal_grad_cam_of_the_last_feature_map(self):
        for head in ("softmax", "binary", "coral", "corn", "regression"):
            with self.subTest(head):
                self._check_equal(_network(head), head, targets=("positive",))
        self._check_equal(_network("softmax"), "softmax", targets=("grade >= 3", 2))

    @pytest.mark.slow
    def test_the_evidence_map_of_a_decoder(self):
        def build(backbone, heads):
            return fcn_classifier(backbone, heads, filters=(8,), cbam=False)

        self._check_equal(_network("softmax", build), "softmax", layer="evidence")

    def test_a_network_with_hidden_layers_has_no_map_in_closed_form(self):
        model = _network("softmax", lambda backbone, heads: classifier(backbone, heads, hidden=(4,)))
        self.assertEqual(ExportedGraph(model, "grade").map_layer, "")
        network = types.SimpleNamespace(export=types.SimpleNamespace(map_layer="", decides="grade"))
        self.assertEqual(ExportExplainer(network, HEADS["softmax"]()).layer_name, "pixels")
        for method, line in (("cam", "no class-activation maps in closed form"), ("grad_cam", "needs the run itself")):
            with self.assertRaisesRegex(UserError, line):
                ExportExplainer(network, HEADS["softmax"](), method=method)

    def test_occlusion_finds_the_bright_spot_that_the_network_counts(self):
        image = np.full((1, 96, 96, 3), 90, np.uint8)
        image[0, 24:32, 64:72] = 255

        class Counter:
            export = types.SimpleNamespace(map_layer="", decides="grade")

            def __call__(self, images):
                bright = (np.asarray(images)[..., 0] > 200).mean(axis=(1, 2))
                return {"grade": 100 * bright[:, None]}, np.zeros((len(images), 1))

        maps = ExportExplainer(Counter(), HEADS["binary"]())(image).maps
        self.assertEqual(np.unravel_index(maps[0].argmax(), maps[0].shape), (4, 11))
        self.assertEqual(maps[0, 8:, :4].max(), 0)


if __name__ == "__main__":
    tf.test.main()
