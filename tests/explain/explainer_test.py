"""Class-activation maps, evidence and probabilities, compared with values computed by hand."""

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.activations import find_layer
from dr_tf.explain.colour_scale import stretch_maps
from dr_tf.explain.explainer import Explainer
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.heads import HEADS
from tests.explain import nets

BINARY = HEADS["binary"]()


def maps_of(model, *, x=None, target="positive", **options):
    """Maps stretched to 0-1."""
    return stretch_maps(Explainer(model, BINARY, **options)(nets.images() if x is None else x, target).maps)


class LinearTest(tf.test.TestCase):
    def test_hires_cam(self):
        # 1*1, 2*2 + 1*0; 3*1, 4*-1 + 2*1
        self.assertAllClose(maps_of(nets.linear(), method="hires_cam"), [[[1 / 4, 1], [3 / 4, 0]]])

    def test_grad_cam(self):
        # Mean weights 1/2 and 1/4.
        self.assertAllClose(maps_of(nets.linear(), method="grad_cam"), [[[0.2, 0.5], [0.3, 1]]])

    def test_grad_cam_plus_plus(self):
        # The first channel sums to 7: 1 / (2 + 7) + 2 / (2 + 14) = 17/72; the second to 6: twice 1 / (2 + 6).
        expected = np.array([[[17, 34 + 18], [54, 68 + 36]]]) / 104
        self.assertAllClose(maps_of(nets.linear(), method="grad_cam_plus_plus"), expected)

    def test_grad_cam_plus_plus_of_small_gradients(self):
        tiny = maps_of(nets.linear(1e-20 * nets.WEIGHTS), method="grad_cam_plus_plus")
        # Without the cubes the shares are 1/2: weights 3/2 and 1.
        self.assertAllClose(tiny, np.array([[[3 / 2, 4], [3, 8]]]) / 8)

    def test_negative_evidence_is_not_shown(self):
        against = maps_of(nets.linear(), method="hires_cam", target="not referable")
        self.assertAllClose(against, [[[0, 0], [0, 1]]])
        nothing = maps_of(nets.linear(-abs(nets.WEIGHTS)), method="hires_cam")
        self.assertAllEqual(nothing, np.zeros((1, 2, 2)))

    def test_outputs_evidence_and_features(self):
        found = Explainer(nets.linear(), BINARY)(nets.images())
        self.assertAllClose(found.outputs["it"], [[6]])
        self.assertAllClose(found.evidence["positive"], [6])
        self.assertAllClose(found.evidence["not referable"], [-6])
        self.assertAllClose(found.features, nets.MAP.reshape(1, 8))

    def test_target_per_example(self):
        x = nets.images(np.stack([nets.MAP, nets.MAP, 2 * nets.MAP]))
        explainer = Explainer(nets.linear(), BINARY, method="hires_cam")
        maps = stretch_maps(explainer(x, ["positive", "not referable", 1]).maps)
        self.assertAllClose(maps, [[[1 / 4, 1], [3 / 4, 0]], [[0, 0], [0, 1]], [[1 / 4, 1], [3 / 4, 0]]])
        explainer(x[:2], "not referable")
        self.assertEqual(explainer._computer._run.function.experimental_get_tracing_count(), 1)

    def test_mean_of_a_map_is_the_probability(self):
        for weights, p in ((nets.WEIGHTS, 1 / (1 + np.exp(-6))), (-nets.WEIGHTS / 6, 1 / (1 + np.exp(1)))):
            for method in ("grad_cam", "grad_cam_plus_plus", "hires_cam"):
                found = Explainer(nets.linear(weights), BINARY, method=method)(nets.images())
                self.assertAllClose(found.probabilities["positive"], [p])
                if found.maps.any():
                    self.assertAllClose(found.maps.mean(axis=(1, 2)), [p])
        # 1, 4; 3, 0 of 8.
        self.assertAllClose(
            Explainer(nets.linear(), BINARY, method="hires_cam")(nets.images()).maps,
            [np.array([[0.5, 2], [1.5, 0]]) / (1 + np.exp(-6))],
        )

    def test_map_of_a_probability_of_0_keeps_its_shape(self):
        weights = np.where(nets.WEIGHTS > 0, nets.WEIGHTS, 1000 * nets.WEIGHTS)  # evidence below -100
        self.assertAllClose(maps_of(nets.linear(weights), method="hires_cam"), [[[1 / 4, 1], [3 / 4, 0]]])

    def test_image_size_and_map_layer(self):
        explainer = Explainer(nets.linear(), BINARY)
        self.assertEqual((explainer.image_size, explainer.layer_name), (2, "conv"))

    def test_half_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            half = nets.linear(1e-9 * nets.WEIGHTS)  # below the range of float16
        finally:
            keras.config.set_dtype_policy("float32")
        self.assertEqual(half.get_layer("conv").compute_dtype, "float16")
        self.assertAllClose(maps_of(half, method="hires_cam"), [[[1 / 4, 1], [3 / 4, 0]]])
        self.assertEqual(half.get_layer("conv").compute_dtype, "float16")


class EyesTest(tf.test.TestCase):
    def test_map_of_each_eye_in_any_order_of_calls(self):
        x = {"left": nets.images(), "right": nets.images()}
        for order in (("left", "right"), ("right", "left")):
            maps = maps_of(nets.eyes(order), x=x, method="hires_cam")
            self.assertAllClose(maps["right"], [[[1 / 4, 1], [3 / 4, 0]]])
            self.assertAllClose(maps["left"], maps["right"] / 3)
            found = Explainer(nets.eyes(order), BINARY)(x)
            self.assertAllClose(sum(of.mean() for of in found.maps.values()), found.probabilities["positive"][0])

    def test_layer_after_the_eyes_are_combined(self):
        x = {"left": nets.images(), "right": nets.images()}
        with self.assertRaisesRegex(UserError, "no map for each eye"):
            maps_of(nets.eyes(), x=x, layer="both")


class TransformerTest(tf.test.TestCase):
    def test_default_is_the_input_of_the_last_attention(self):
        model = nets.transformer()
        self.assertIn("enter attention", Explainer(model, BINARY).layer_name)
        # Red minus green: 1, 1; -3, 2.
        self.assertAllClose(maps_of(model, method="hires_cam"), [[[0.5, 0.5], [0, 1]]])

    def test_patches_after_the_last_attention_have_no_effect(self):
        self.assertAllEqual(maps_of(nets.transformer(), layer="attention"), np.zeros((1, 2, 2)))


class LayersTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = classifier(build_backbone("resnet_v2", image_size=64), {"grade": HEADS["softmax"]()})
        cls.x = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)

    def maps(self, layer=None, target="positive", head="softmax"):
        return Explainer(self.model, HEADS[head](), layer=layer)(self.x, target).maps

    def test_default_layer(self):
        self.assertEqual(
            Explainer(self.model, BINARY).identity, Explainer(self.model, BINARY, layer="stride_16").identity
        )
        self.assertEqual(
            Explainer(nets.linear(), BINARY).layer_name, "conv"
        )  # the last feature map, in a network without strides
        self.assertEqual(find_layer(self.model, "stride_4").layer.name, "stage_stem")

    def test_probabilities_of_exclusive_classes(self):
        found = Explainer(self.model, HEADS["softmax"]())(self.x, "mild NPDR")
        p = HEADS["softmax"]().probabilities(found.outputs["grade"])
        self.assertAllClose(found.probabilities["mild NPDR"], p[:, 1])
        self.assertAllClose(found.probabilities["grade >= 2"], p[:, 2:].sum(axis=1))
        self.assertAllClose(found.maps.mean(axis=(1, 2)), p[:, 1])

    def test_any_layer(self):
        self.assertEqual(self.maps("stack1_block1_conv1").shape, (2, 8, 8))  # with a shortcut around it

    def test_unknown_layer(self):
        with self.assertRaisesRegex(UserError, "no layer 'stack9'; there are stride_4, .*stack3_block1_conv2.* more$"):
            self.maps("stack9")

    def test_layer_without_feature_map(self):
        with self.assertRaisesRegex(UserError, "^pool gives no feature map.* shape 64$"):
            self.maps("pool")

    def test_unknown_target(self):
        explainer = Explainer(self.model, HEADS["softmax"]())
        for target in (5, "-1", "grade >= 5", "blindness"):
            with self.assertRaisesRegex(UserError, "there are no DR, .*grade >= 4, positive, or .* 0 to 4"):
                explainer(self.x, target)

    def test_unknown_method(self):
        with self.assertRaisesRegex(UserError, "'scam'; known: grad_cam, grad_cam_plus_plus, hires_cam"):
            Explainer(self.model, BINARY, method="scam")

    def test_network_inside_another(self):
        photograph = keras.Input((64, 64, 3))
        features = keras.layers.Identity(name="features")(self.inner()(photograph))
        outer = keras.Model(photograph, {"grade": keras.layers.Dense(5, name="grade")(features)})
        maps = Explainer(outer, HEADS["softmax"](), layer="stride_16")(self.x).maps
        self.assertEqual(maps.shape, (2, 4, 4))

    def inner(self):
        return keras.Model(self.model.input, self.model.get_layer("grade").input)


class EvidenceTest(tf.test.TestCase):
    def test_softmax(self):
        head = HEADS["softmax"](positive="vision_threatening")
        found = head.evidence(tf.math.log([[0.1, 0.2, 0.3, 0.25, 0.15]]) + 7)
        self.assertAllClose(found["mild NPDR"], [np.log(0.2) + 7])
        self.assertAllClose(found["grade >= 1"], [np.log(9)])
        self.assertAllClose(found["positive"], [np.log(0.4 / 0.6)])
        self.assertAllClose(found["positive"], found["grade >= 3"])

    def test_softmax_does_not_saturate(self):
        self.assertAllClose(
            HEADS["softmax"]().evidence(tf.constant([[0, 0, 500.0, 0, 0]]))["positive"], [500 - np.log(2)]
        )


if __name__ == "__main__":
    tf.test.main()
