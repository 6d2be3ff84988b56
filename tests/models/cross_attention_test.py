"""Cross-attention between two eyes: symmetry, absent eyes, what attention depends on, saving, freezing and training."""

import pathlib
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.cross_attention import received_attention
from dr_tf.explain.explainer import Explainer
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.cross_attention import attention_scores, cross_attention_classifier, mirrored_eyes
from dr_tf.models.ensemble import build_ensemble
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.network import KerasNetwork
from dr_tf.models.stages import eye_features, stages

SIDE, PLACES = 64, 16  # of a map of 4 x 4
HEADS = {"labels": MultiLabel()}


def build(trainable_from="all", **options):
    keras.utils.set_random_seed(0)
    backbone = build_backbone("resnet_v2", image_size=SIDE, stem=4, filters=(4, 8), trainable_from=trainable_from)
    return cross_attention_classifier(backbone, HEADS, width=16, attention_heads=2, hidden=(6,), **options)


def patients(left, right, left_present=(1, 1, 1), right_present=(1, 1, 1)):
    return {
        "left": left,
        "right": right,
        "left_present": np.array(left_present, bool),
        "right_present": np.array(right_present, bool),
        "age": np.float32([50, -1, 70]),
        "sex": np.float32([0, 1, -1]),
    }


def mirror(images):
    return images[:, :, ::-1]


class CrossAttentionTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.left, cls.right, cls.noise = (
            np.random.default_rng(0).integers(0, 256, (3, 3, SIDE, SIDE, 3)).astype(np.uint8)
        )
        cls.model = build(blocks=2, age_and_sex=True, drop_eye=0.5, dropout=0.1)
        cls.network = KerasNetwork(cls.model)

    def test_two_eyes_of_one_laterality_may_be_exchanged(self):
        present = (1, 1, 0), (1, 0, 1)
        one = self.network(patients(self.left, self.right, *present))
        other = self.network(patients(mirror(self.right), mirror(self.left), *present[::-1]))
        for before, after in zip(one, other, strict=True):
            self.assertAllClose(before, after, rtol=0, atol=1e-5)
        plainly = self.network(patients(self.right, self.left, *present[::-1]))
        self.assertNotAllClose(one[1], plainly[1], atol=1e-3)  # not mirrored: another anatomy

    def test_an_absent_eye_has_no_influence(self):
        present = (1, 0, 1), (0, 1, 1)
        hidden = patients(
            np.where(np.reshape(present[0], (3, 1, 1, 1)) == 1, self.left, self.noise),
            np.where(np.reshape(present[1], (3, 1, 1, 1)) == 1, self.right, 0).astype(np.uint8),
            *present,
        )
        for seen, unseen in zip(
            self.network(patients(self.left, self.right, *present)), self.network(hidden), strict=True
        ):
            self.assertAllClose(seen, unseen, atol=1e-5)
        outputs, features = self.network(patients(self.left, self.right, (0, 0, 0), (0, 0, 0)))
        self.assertTrue(np.isfinite(outputs["labels"]).all() and np.isfinite(features).all())

    def test_a_change_in_one_eye_moves_what_the_other_attends_to(self):
        scores = keras.Model(self.model.input, attention_scores(self.model))
        before, after = scores(patients(self.left, self.right)), scores(patients(self.left, self.noise))
        self.assertLen(before["left"], 2)
        for eye in ("left", "right"):
            self.assertAllClose(tf.reduce_sum(before[eye][0], axis=-1), np.ones((3, 2, PLACES)))
            self.assertNotAllClose(before[eye][0], after[eye][0], atol=1e-3)
        self.assertNotAllClose(
            self.network(patients(self.left, self.right))[1],
            self.network(patients(self.left, self.noise))[1],
            atol=1e-3,
        )

    def test_position_matters(self):
        """Each place has a bias of its own, so that the same tokens in another order give other features."""
        kernel, bias = self.model.get_layer("tokens").get_weights()
        self.assertEqual(bias.shape, (PLACES, 16))
        model = build()
        model.get_layer("tokens").set_weights([kernel, np.random.default_rng(0).normal(size=bias.shape)])
        network = KerasNetwork(model)
        one, other = (
            network(patients(x, y))[1] for x, y in ((self.left, self.right), (self.left[:, ::-1], self.right))
        )
        self.assertNotAllClose(one, other, atol=1e-3)

    def test_saved_model_predicts_the_same_in_plain_keras(self):
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(f"{folder}/model.keras")
            again = KerasNetwork.load(pathlib.Path(folder) / "model.keras")
        x = patients(self.left, self.right, (1, 0, 1), (0, 1, 1))
        self.assertTrue(again.paired)
        self.assertEqual(mirrored_eyes(again.model), ("right",))
        for one, other in zip(again(x), self.network(x), strict=True):
            self.assertAllClose(one, other, atol=1e-6)

    def test_tied_and_untied_backbones(self):
        tied, untied = build("none"), build("none", tied=False)
        (shared,), features = eye_features(tied)
        self.assertEqual(list(features), ["left", "right"])
        backbones, _ = eye_features(untied)
        self.assertLen(backbones, 2)
        self.assertEqual(untied.count_params() - tied.count_params(), shared.count_params())
        self.assertFalse(any(backbone.trainable_variables for backbone in backbones))
        for stage, layers in stages(tied).items():
            self.assertLen(stages(untied)[stage], 2 * len(layers))
        trained = build(tied=False)
        first, second = (backbone.trainable_variables[0] for backbone in eye_features(trained)[0])
        first.assign(first + 1)
        self.assertNotAllClose(first, second)

    def test_mixed_precision_and_training(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        model = build(age_and_sex=True, drop_eye=0.5, drop_age_and_sex=0.2, dropout=0.1)
        self.assertEqual(model.get_layer("block1_query").compute_dtype, "float16")
        head = HEADS["labels"]
        model.compile("adam", {"labels": head.loss()}, metrics={"labels": head.metrics()}, run_eagerly=True)
        targets = {"labels": np.float32([[1, 0, -1, 0, 0, 0, 0, 0]] * 3)}
        logs = model.fit(patients(self.left, self.right, (1, 0, 1)), targets, verbose=0).history
        self.assertTrue(np.isfinite(logs["loss"]).all())
        self.assertEqual(KerasNetwork(model)(patients(self.left, self.right))[0]["labels"].dtype, np.float32)

    def test_wrong_settings(self):
        with self.assertRaisesRegex(UserError, "width is a multiple of attention_heads = 3, not 16"):
            build_with = build_backbone("resnet_v2", image_size=SIDE, stem=4, filters=(4,))
            cross_attention_classifier(build_with, HEADS, width=16, attention_heads=3)


class MapsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.left, cls.right = np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, SIDE, 3)).astype(np.uint8)
        cls.model = build()

    @pytest.mark.slow
    def test_maps_lie_on_the_given_images(self):
        """Exchanging the mirrored eyes exchanges their maps, mirrored: the map of the right eye is mirrored back."""
        one, other = patients(self.left, self.right), patients(mirror(self.right), mirror(self.left))
        for method in ("hires_cam", "score_cam", "occlusion", "cross_attention"):
            explainer = Explainer(self.model, HEADS["labels"], method=method)
            before, after = explainer(one, "D").maps, explainer(other, "D").maps
            with self.subTest(method):
                self.assertTrue(before["right"].any())
                largest = before["right"].max()
                self.assertAllClose(after["left"] / largest, mirror(before["right"]) / largest, atol=2e-2)
                self.assertAllClose(after["right"] / largest, mirror(before["left"]) / largest, atol=2e-2)

    def test_cross_attention_of_an_absent_eye(self):
        explainer = Explainer(self.model, HEADS["labels"], method="cross_attention")
        self.assertFalse(explainer.by_target)
        maps = explainer(patients(self.left, self.right, (1, 0, 1), (1, 1, 0))).maps
        self.assertAllEqual(maps["left"].any(axis=(1, 2)), [True, True, False])  # attended to by the right eye
        self.assertAllEqual(maps["right"].any(axis=(1, 2)), [True, False, True])

    def test_received_attention(self):
        """Of 2 x 2 places, all attend to the lower left one; of a mirrored image that is the lower right one."""
        scores = np.zeros((1, 2, 4, 4), np.float32)
        scores[..., 2] = 1
        self.assertAllEqual(received_attention([scores]), [[[0, 0], [1, 0]]])
        self.assertAllEqual(received_attention([scores, 0 * scores], mirrored=True), [[[0, 0], [0, 0.5]]])

    @pytest.mark.slow
    def test_ensembles_and_other_networks(self):
        ensemble = build_ensemble([self.model, build()], HEADS)
        self.assertEqual(mirrored_eyes(ensemble), ("right",))
        x = patients(self.left, self.right)
        for method in ("cross_attention", "hires_cam"):
            one = Explainer(self.model, HEADS["labels"], method=method)(x).maps["right"]
            both = Explainer(ensemble, HEADS["labels"], method=method)(x).maps["right"]
            self.assertAllClose(one / one.max(), both / both.max(), atol=1e-3)
        with self.assertRaisesRegex(UserError, "uses all blocks: 'x' cannot be chosen"):
            Explainer(self.model, HEADS["labels"], method="cross_attention", layer="x")
        single = classifier(build_backbone("resnet_v2", image_size=SIDE, stem=4, filters=(4,)), HEADS)
        with self.assertRaisesRegex(UserError, "no attention between the eyes: it was not made by"):
            Explainer(single, HEADS["labels"], method="cross_attention")


if __name__ == "__main__":
    tf.test.main()
