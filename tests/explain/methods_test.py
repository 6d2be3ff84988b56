"""Score-CAM, occlusion, integrated gradients and attention rollout, compared with values computed by hand."""

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.attention_rollout import attention_rollout
from dr_tf.explain.blurring import blur
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.methods import METHODS
from dr_tf.explain.occlusion import occlusion
from dr_tf.explain.perturbation import integrated_gradients, score_cam
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.heads import HEADS
from dr_tf.models.paired import paired_classifier
from tests.explain import nets
from tests.explain.squares import SIZE, example, green_counter, green_counter_of_pairs, lesion_at

BINARY = HEADS["binary"]()
WITHOUT_LAYER = ("integrated_gradients", "occlusion")
OF_CONVOLUTIONS = [name for name in METHODS if name not in ("attention_rollout", "cross_attention")]


def red(values):
    """Images [1, side, side, 3] of these red values."""
    values = np.asarray(values, np.float32)
    return np.stack([values, 0 * values, 0 * values], axis=-1)[None]


def total(images):
    """The evidence of a linear network: the sum of all values."""
    return tf.reduce_sum(images, axis=(1, 2, 3))


def photographs(*numbers):
    files = [np.frombuffer(example(number)["image"], np.uint8) for number in numbers]
    return np.stack([cv2.imdecode(file, cv2.IMREAD_COLOR_RGB) for file in files])


def vision_transformer(build=classifier):
    keras.utils.set_random_seed(0)
    backbone = build_backbone(
        "clip_vit", image_size=32, patch_size=8, hidden_dim=8, num_layers=2, num_heads=2, intermediate_dim=8,
        projection_dim=4,
    )  # fmt: skip
    return build(backbone, {"it": BINARY})


class FunctionsTest(tf.test.TestCase):
    def test_score_cam(self):
        # The channels, scaled to 0-1, are 1/4, 1/2, 0, 1 and 0, 1/3, 1, 2/3. They keep 5.25 and 19/3 of the evidence.
        image = red([[1, 2], [3, 4]])
        second = 1 / (1 + np.exp(5.25 - 19 / 3))
        expected = (1 - second) * nets.MAP[..., 0] + second * nets.MAP[..., 1]
        self.assertAllClose(score_cam(nets.MAP[None], image, 0 * image, total), expected[None])

    def test_score_cam_leaves_out_channels_that_do_not_vary(self):
        image = red([[1, 2], [3, 4]])
        with_constant = np.concatenate([nets.MAP, np.full((2, 2, 1), 9, np.float32)], axis=-1)[None]
        expected = score_cam(nets.MAP[None], image, 0 * image, total)
        self.assertAllClose(score_cam(with_constant, image, 0 * image, total), expected)
        self.assertAllEqual(score_cam(0 * with_constant, image, 0 * image, total), np.zeros((1, 2, 2)))

    def test_score_cam_of_the_most_variable_channels(self):
        image = red([[1, 2], [3, 4]])  # the first channel has the larger variance
        self.assertAllClose(score_cam(nets.MAP[None], image, 0 * image, total, channels=1), nets.MAP[None, ..., 0])

    def test_score_cam_of_an_image_that_the_blur_does_not_change(self):
        image = red([[1, 2], [3, 4]])
        self.assertAllEqual(score_cam(nets.MAP[None], image, image, total), np.zeros((1, 2, 2)))

    def test_occlusion(self):
        image = red(np.arange(16).reshape(4, 4))
        # The sums of the quarters 0, 1, 4, 5; 2, 3, 6, 7; ...
        self.assertAllClose(occlusion(image, 0 * image, total, cells=2, patch=1), [[[10, 18], [42, 50]]])
        # Four patches of 2 x 2 cells; the cell in the middle is below all of them.
        map = occlusion(red(np.arange(9).reshape(3, 3)), red(np.zeros((3, 3))), total, cells=3, patch=2)
        self.assertAllClose(map, [[[8, 10, 12], [14, 16, 18], [20, 22, 24]]])

    def test_integrated_gradients(self):
        # The evidence is the sum of all squares; the gradient of a square is linear, so that the midpoints are exact.
        image, blurred = red([[1, 2], [3, 4]]), red([[1, 1], [1, 1]])
        maps = integrated_gradients({None: image}, {None: blurred}, lambda x: {None: 2 * x[None]}, steps=2)
        self.assertAllClose(maps[None], [[[0, 3], [8, 15]]])

    def test_attention_rollout(self):
        # Each token looks at itself, but the class token at the first patch in block 1, at the second in block 2.
        blocks = [np.eye(5)[None, None].astype(np.float32) for _ in range(2)]
        for patch, block in enumerate(blocks, 1):
            block[0, 0, 0] = np.eye(5)[patch]
        # Half of the second patch, and half of what block 1 gave the class token: half of the first patch.
        self.assertAllClose(attention_rollout(blocks), [[[0.25, 0.5], [0, 0]]])
        heads = [np.concatenate([blocks[0], np.eye(5, dtype=np.float32)[None, None]], axis=1)]
        self.assertAllClose(attention_rollout(heads), [[[0.25, 0], [0, 0]]])  # the mean of both heads


class NetworkTest(tf.test.TestCase):
    def test_integrated_gradients_of_a_linear_network(self):
        x = photographs(1, 2)
        image = keras.Input((SIZE, SIZE, 3))
        weights = np.random.default_rng(0).normal(size=(SIZE, SIZE, 3)) / 1000
        model = nets.with_output(image, keras.layers.Flatten()(image), weights)
        found = Explainer(model, BINARY, method="integrated_gradients")(x)
        changes = x.astype(float) - [blur(image) for image in x]
        expected = np.maximum((changes * weights).sum(axis=-1), 0)
        expected *= (found.probabilities["positive"] / expected.mean(axis=(1, 2)))[:, None, None]
        self.assertAllClose(found.maps, expected, rtol=1e-3, atol=1e-3)

    def test_occlusion_of_a_linear_network(self):
        x = photographs(1)
        image = keras.Input((SIZE, SIZE, 3))
        model = nets.with_output(image, keras.layers.Flatten()(image), np.full(SIZE * SIZE * 3, 1e-3))
        changes = 1e-3 * (x[0].astype(float) - blur(x[0])).sum(axis=-1)
        cells = np.maximum(changes.reshape(16, 4, 16, 4).sum(axis=(1, 3)), -np.inf)
        patches = sum(cells[i : 15 + i, j : 15 + j] for i in (0, 1) for j in (0, 1))
        sums, covers = np.zeros((16, 16)), np.zeros((16, 16))
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            sums[i : 15 + i, j : 15 + j] += patches
            covers[i : 15 + i, j : 15 + j] += 1
        expected = np.maximum(sums / covers, 0)
        map = Explainer(model, BINARY, method="occlusion")(x).maps[0]
        self.assertAllClose(map / map.max(), expected / expected.max(), atol=1e-3)

    def test_every_method_finds_the_lesion(self):
        for method in OF_CONVOLUTIONS:
            with self.subTest(method):
                found = Explainer(green_counter(), BINARY, method=method)(photographs(1, 2))
                for number, map in zip((1, 2), found.maps, strict=True):
                    lesion = lesion_at(number)[..., 0]
                    step = SIZE // len(map)
                    self.assertTrue(lesion[::step, ::step].ravel()[map.argmax()])
                self.assertAllClose(found.maps.mean(axis=(1, 2)), found.probabilities["positive"])

    def test_half_precision(self):
        for method in ("score_cam", "integrated_gradients", "occlusion"):
            expected = Explainer(green_counter(), BINARY, method=method)(photographs(1)).maps
            keras.config.set_dtype_policy("mixed_float16")
            try:
                half = green_counter()
            finally:
                keras.config.set_dtype_policy("float32")
            with self.subTest(method):
                found = Explainer(half, BINARY, method=method)(photographs(1))
                self.assertAllClose(found.maps, expected, rtol=1e-3, atol=1e-3)

    @pytest.mark.slow
    def test_every_target_of_every_kind_of_head(self):
        x = photographs(1, 2)
        for name in ("coral", "multi_label", "edema"):
            head = HEADS[name]()
            image = keras.Input((SIZE, SIZE, 3))
            features = keras.layers.Conv2D(3, 8, strides=8, name="map")(keras.layers.Rescaling(1 / 255)(image))
            features = keras.layers.Identity(name="features")(keras.layers.GlobalAveragePooling2D()(features))
            model = keras.Model(image, {"it": keras.layers.Dense(head.outputs, name="it")(features)})
            for method in ("score_cam", "integrated_gradients", "occlusion"):
                explainer = Explainer(model, head, method=method)
                for target in (explainer.targets[0], explainer.targets[-1]):
                    with self.subTest(name, method=method, target=target):
                        found = explainer(x, target)
                        shown = found.maps.any(axis=(1, 2))
                        self.assertAllClose(found.maps[shown].mean(axis=(1, 2)), found.probabilities[target][shown])

    @pytest.mark.slow
    def test_maps_of_each_eye(self):
        """The second patient has no right eye."""
        both = {"left": photographs(0, 1), "right": np.concatenate([photographs(2), np.zeros_like(photographs(2))])}
        both |= {"left_present": np.array([True, True]), "right_present": np.array([True, False])}
        for method in OF_CONVOLUTIONS:
            with self.subTest(method):
                found = Explainer(green_counter_of_pairs(), BINARY, method=method)(both)
                self.assertEqual(list(found.maps), ["left", "right"])
                step = SIZE // found.maps["right"].shape[1]
                self.assertTrue(lesion_at(2)[::step, ::step].ravel()[found.maps["right"][0].argmax()])
                self.assertGreater(found.maps["right"][0].max(), found.maps["left"][0].max())
                self.assertFalse(found.maps["right"][1].any())
                means = sum(of_eye.mean(axis=(1, 2)) for of_eye in found.maps.values())
                self.assertAllClose(means, found.probabilities["positive"])

    def test_a_layer_for_a_method_without_layer(self):
        for method, message in (
            ("occlusion", "changes the pixels of the photograph: a layer .'map'. cannot"),
            ("integrated_gradients", "changes the pixels"),
        ):
            with self.assertRaisesRegex(UserError, message):
                Explainer(green_counter(), BINARY, method=method, layer="map")
        with self.assertRaisesRegex(UserError, "uses all attention layers: 'stride_8' cannot be chosen"):
            Explainer(vision_transformer(), BINARY, method="attention_rollout", layer="stride_8")

    def test_ensembles(self):
        from dr_tf.models.ensemble import build_ensemble

        members = [green_counter(), green_counter()]
        model = build_ensemble(members, {"grade": BINARY})
        for method in ("hires_cam", "score_cam", "occlusion"):
            with self.subTest(method):
                expected = Explainer(members[0], BINARY, method=method)(photographs(1)).maps
                found = Explainer(model, BINARY, method=method)(photographs(1)).maps
                self.assertAllClose(found, expected, rtol=1e-3, atol=1e-3)


class AttentionRolloutTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.x = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)

    def expected(self, model, x):
        """The product of the attention matrices, with the tokens that enter each attention."""
        rollout = np.eye(17)
        for block in (1, 2):
            tokens = keras.Model(model.input, model.get_layer(f"block{block}_norm1").output)(x)
            attention = model.get_layer(f"block{block}_attention")
            scores = attention(tokens, tokens, return_attention_scores=True)[1]
            rollout = (0.5 * np.mean(scores, axis=1) + 0.5 * np.eye(17)) @ rollout
        return rollout[:, 0, 1:].reshape(-1, 4, 4)

    def test_clip_vit(self):
        model = vision_transformer()
        explainer = Explainer(model, BINARY, method="attention_rollout")
        found, expected = explainer(self.x), self.expected(model, self.x)
        scale = (found.probabilities["positive"] / expected.mean(axis=(1, 2)))[:, None, None]
        self.assertAllClose(found.maps, scale * expected, rtol=1e-3)
        self.assertAllClose(found.outputs["it"], model(self.x)["it"], rtol=1e-6, atol=1e-6)
        other = explainer(self.x, "not referable")
        for one, same in zip(other.maps, found.maps, strict=True):
            self.assertAllClose(one / one.max(), same / same.max())

    @pytest.mark.slow
    def test_the_other_methods(self):
        model = vision_transformer()
        for method in ("score_cam", "integrated_gradients", "occlusion"):
            found = Explainer(model, BINARY, method=method)(self.x)
            self.assertTrue(np.isfinite(found.maps).all(), method)

    @pytest.mark.slow
    def test_both_eyes(self):
        model = vision_transformer(paired_classifier)
        both = {"left": self.x[:1], "right": self.x[1:]}
        both |= {f"{eye}_present": np.array([True]) for eye in ("left", "right")}
        maps = Explainer(model, BINARY, method="attention_rollout")(both).maps
        single = Explainer(vision_transformer(), BINARY, method="attention_rollout")(self.x).maps
        for eye, alone in zip(("left", "right"), single, strict=True):
            self.assertAllClose(maps[eye][0] / maps[eye].mean(), alone / alone.mean(), rtol=1e-3)

    def test_networks_without_a_class_token(self):
        with self.assertRaisesRegex(UserError, "no attention layer: attention_rollout is for vision transformers"):
            Explainer(green_counter(), BINARY, method="attention_rollout")
        image = keras.Input((2, 2, 3))
        tokens = keras.layers.Reshape((4, 3))(image)
        tokens = keras.layers.MultiHeadAttention(1, 2)(tokens, tokens)
        model = nets.with_output(image, keras.layers.Flatten()(tokens), np.ones(12))
        with self.assertRaisesRegex(UserError, "with a class token and a square of patches"):
            Explainer(model, BINARY, method="attention_rollout")(nets.images())


if __name__ == "__main__":
    tf.test.main()
