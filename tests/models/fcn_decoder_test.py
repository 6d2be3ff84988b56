"""The decoder: its evidence map is the decision, for every head, frozen backbone, saved file and explanation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from dr_tf.console import UserError
from dr_tf.explain.activations import find_layer
from dr_tf.explain.explainer import Explainer
from dr_tf.models.backbones import build_backbone
from dr_tf.models.backbones.backbone import Backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.ensemble import build_ensemble
from dr_tf.models.fcn_decoder import evidence_maps, fcn_classifier
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.edema import Edema
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.layers.replace_layers import to_plain_keras
from dr_tf.models.network import KerasNetwork
from dr_tf.models.stages import feature_maps, stage_by_variable

GRADES = {"grade": Softmax()}
FILTERS = (16, 8, 8)


def backbone(size=64, **options):
    return build_backbone("resnet_v2", image_size=size, stem=4, filters=(4, 8, 8), **options)


def network(heads=None, size=64, trainable_from="all", **options):
    keras.utils.set_random_seed(0)
    options = {"filters": FILTERS, "reduction": 4} | options
    return fcn_classifier(backbone(size, trainable_from=trainable_from), heads or GRADES, **options)


def images(side=64, n=2):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)


class EvidenceTest(tf.test.TestCase):
    def test_the_mean_of_the_map_is_the_logit_of_every_head(self):
        heads = {"grade": Softmax(), "any_dr": Binary("any_dr"), "dme": Edema(), "labels": MultiLabel()}
        model = network(heads)
        for output, head in heads.items():
            model.get_layer(output).bias.assign(np.linspace(-1, 1, head.outputs))
        maps, logits = evidence_maps(model)(images()), model(images())
        for output, head in heads.items():
            self.assertEqual(maps[output].shape, (2, 16, 16, head.outputs))
            self.assertAllClose(tf.reduce_mean(maps[output], axis=(1, 2)), logits[output], rtol=1e-5, atol=1e-6)
            self.assertNotAllClose(maps[output], np.broadcast_to(logits[output][:, None, None], maps[output].shape))

    def test_a_network_without_a_map(self):
        with self.assertRaisesRegex(UserError, "has no evidence map"):
            evidence_maps(classifier(backbone(), GRADES))

    @pytest.mark.slow
    def test_explanations_are_the_map(self):
        """The gradient is the same at all places: both methods give the positive part of the map, less the bias."""
        model, x, numbers = network(), images(n=5), range(5)
        bias = np.linspace(-0.1, 0.1, 5)
        model.get_layer("grade").bias.assign(bias)
        evidence = evidence_maps(model)(x)["grade"].numpy() - bias
        expected = np.stack([np.maximum(evidence[i, ..., i], 0) for i in numbers])
        means = expected.mean(axis=(1, 2), keepdims=True)
        for method in ("grad_cam", "hires_cam"):
            explanation = Explainer(model, Softmax(), method=method)(x, list(numbers))
            p = np.stack(list(explanation.probabilities.values()))[numbers, numbers][:, None, None]
            scaled = np.divide(expected * p, means, out=np.zeros_like(expected), where=means > 0)
            self.assertAllClose(explanation.maps, scaled, rtol=1e-3, atol=1e-4)

    def test_the_map_is_the_default_layer_also_in_an_ensemble(self):
        self.assertEqual(find_layer(network()).name, "evidence")
        members = [network(), network()]
        both = build_ensemble(members, GRADES)
        self.assertEqual(Explainer(both, Softmax()).layer_name, "evidence")
        self.assertAllClose(
            tf.nn.softmax(both(images())["grade"]), tf.nn.softmax(members[0](images())["grade"]), atol=1e-5
        )


class DecoderTest(tf.test.TestCase):
    def test_sides_that_are_no_multiple_of_the_stride(self):
        """65 pixels have maps of 33, 17, 9, 5 and 3 a side; doubling gives 6 where the backbone has 5."""
        model = network(size=65)
        self.assertEqual(model.get_layer("evidence").output.shape[1:], (17, 17, 8))

    def test_parts_are_optional(self):
        def names(**options):
            return " ".join(layer.name for layer in network(**options).layers)

        self.assertIn("decoder3_cbam_places_weights", names())
        self.assertNotIn("cbam", names(cbam=False))
        self.assertIn("decoder2_skip_conv", names())
        self.assertNotIn("skip", names(skips=False).replace("_skip_", " ").replace("stack", ""))
        self.assertIn("dropout", names(dropout=0.5))

    def test_a_decoder_without_the_coarsest_maps(self):
        model = network(coarsest=16, filters=(8, 8))
        self.assertEqual(model.get_layer("evidence").output.shape[1:], (16, 16, 8))
        self.assertEqual(model.get_layer("decoder_in_conv").input.shape[1:], (4, 4, 8))
        self.assertNotIn("stride_32", feature_maps(model))
        with self.assertRaisesRegex(UserError, "a map of the backbone, 4, 8, 16, 32, not 12"):
            network(coarsest=12)

    def test_stages_are_those_of_the_backbone(self):
        for skips in (True, False):
            model = network(skips=skips)
            self.assertFalse([path for path in stage_by_variable(model) if path.startswith(("decoder", "grade"))])
            self.assertIn("stack3_block1_conv2/kernel", stage_by_variable(model))

    def test_a_frozen_backbone_does_not_change(self):
        model = network(trainable_from="none")
        self.assertTrue(all(v.path.startswith(("decoder", "grade")) for v in model.trainable_variables))
        before = {v.path: v.numpy() for v in model.weights}
        model.compile("sgd", {"grade": Softmax().loss()}, run_eagerly=True)
        model.train_on_batch(images(), {"grade": Softmax().targets({"grade": np.array([0, 3])})})
        moved = {v.path for v in model.weights if not np.array_equal(v, before[v.path])}
        self.assertTrue(all(path.startswith(("decoder", "grade")) for path in moved), moved)
        self.assertIn("decoder_in_conv/kernel", moved)
        self.assertIn("decoder2_cbam_channels_hidden/kernel", moved)

    def test_saved_network_opens_in_plain_keras(self):
        model = network()
        path = f"{self.get_temp_dir()}/model.keras"
        to_plain_keras(model).save(path)
        loaded = keras.saving.load_model(path, safe_mode=True)
        self.assertAllClose(loaded(images())["grade"], model(images())["grade"], atol=1e-5)
        self.assertAllClose(
            tf.reduce_mean(evidence_maps(loaded)(images())["grade"], (1, 2)), model(images())["grade"], atol=1e-5
        )
        for operation in loaded.operations:
            self.assertTrue(type(operation).__module__.startswith("keras."), operation)
        self.assertEqual(KerasNetwork(loaded).width, 8)

    def test_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        model = network()
        self.assertEqual(model.get_layer("decoder3_conv").compute_dtype, "float16")
        maps, logits = evidence_maps(model)(images())["grade"], model(images())["grade"]
        self.assertEqual((maps.dtype, logits.dtype), (tf.float32, tf.float32))
        self.assertAllClose(tf.reduce_mean(maps, axis=(1, 2)), logits, rtol=1e-5, atol=1e-6)

    def test_backbones_that_do_not_fit(self):
        with self.assertRaisesRegex(UserError, "has 6 stages; .* stride 32 can be doubled 1 to 5 times"):
            network(filters=(8,) * 6)
        with self.assertRaisesRegex(UserError, "has 0 stages"):
            network(filters=())
        image = keras.Input((8, 8, 3))
        flat = Backbone("flat", keras.Model(image, {"pooled": layers.Flatten()(image)}), {})
        with self.assertRaisesRegex(UserError, "needs a backbone with feature maps"):
            fcn_classifier(flat, GRADES)


if __name__ == "__main__":
    tf.test.main()
