"""Prototypes: cosines by hand, class means, prompts of CLIP's text tower, anchors, saving and ensembles."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.explain.explainer import Explainer
from dr_tf.grades import ABSENT, GRADES
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import FEATURES, classifier
from dr_tf.models.clip import encode_prompts
from dr_tf.models.ensemble import build_ensemble
from dr_tf.models.heads import HEADS
from dr_tf.models.heads.prototypes import Prototypes, mean_embeddings
from dr_tf.models.layers.replace_layers import to_plain_keras
from dr_tf.models.network import KerasNetwork

CLIP = str(pathlib.Path(__file__).parent / "fixtures/clip")
WIDTH = 12  # of the embeddings of this CLIP
PROMPTS = {grade: [f"retina of grade {i}", f"{i} bleeds"] for i, grade in enumerate(GRADES)}
TEXT = {"prompts": PROMPTS, "text_encoder": CLIP}


def network(head, width=2):
    """A network of the output layer alone."""
    features = keras.Input((width,))
    return keras.Model(features, {"grade": head.logits(features, "grade")})


def images(count=2):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def whole(head, **options):
    """A small classifier with the head."""
    backbone = build_backbone("resnet_v2", image_size=32, stem=4, filters=(WIDTH,))
    return classifier(backbone, {"grade": head}, **{"hidden": (8,), "projection": WIDTH} | options)


class PrototypesTest(tf.test.TestCase):
    def test_class_means_and_cosines(self):
        """The class means of unit vectors along x and y, and of one vector between them, decide by their angle."""
        head = Prototypes(scale=10.0)
        model = network(head)
        features = np.array([[2.0, 0], [4, 0], [0, 3], [1, 1], [-1, 0], [0, -5], [9, 9]])
        head.initialize(model.get_layer("grade"), features, np.array([0, 0, 1, 2, 3, 4, ABSENT]))
        half = np.sqrt(0.5)
        expected = [[10, 0, 10 * half, -10, 0], [10 * half, 10 * half, 10, -10 * half, -10 * half]]
        self.assertAllClose(model(np.array([[7.0, 0], [3, 3]]))["grade"], expected, atol=1e-5)
        self.assertAllClose(model(np.zeros((1, 2)))["grade"], np.zeros((1, 5)))

    def test_the_mean_of_directions_not_of_features(self):
        """A long vector counts as much as a short one: (1, 0) and (0, 1) have the mean direction (1, 1)."""
        head = Prototypes(scale=1.0)
        model = network(head)
        rows = np.concatenate([[[100.0, 0], [0, 1]], np.eye(2)[[0, 0, 1, 1]]])
        head.initialize(model.get_layer("grade"), rows, np.array([0, 0, 1, 2, 3, 4]))
        self.assertAllClose(model(np.array([[1.0, 0]]))["grade"][0, 0], np.sqrt(0.5), atol=1e-6)

    def test_prompts_are_averaged(self):
        prompts = tuple(tuple(group) for group in PROMPTS.values())
        embeddings = mean_embeddings(CLIP, prompts)
        for group, embedding in zip(prompts, embeddings, strict=True):
            mean = encode_prompts(CLIP, group).mean(axis=0)
            self.assertAllClose(embedding, mean / np.linalg.norm(mean), atol=1e-6)
        features = np.random.default_rng(0).normal(size=(3, WIDTH))
        cosines = features @ embeddings.T / np.linalg.norm(features, axis=1, keepdims=True)
        for anchors in ("trained", "fixed"):
            model = network(Prototypes(anchors=anchors, **TEXT), WIDTH)
            self.assertAllClose(model(features)["grade"], 100 * cosines, atol=1e-3)
            self.assertLen(model.trainable_variables, 1 if anchors == "trained" else 0)

    def test_projected_anchors_pass_through_the_layers_of_the_features(self):
        head = Prototypes(anchors="projected", **TEXT)
        model = whole(head)
        embeddings = mean_embeddings(CLIP, tuple(tuple(group) for group in PROMPTS.values()))
        anchors = model.get_layer("head_projection")(model.get_layer("hidden1")(embeddings)).numpy()
        x, features = images(3), keras.Model(model.input, model.get_layer(FEATURES).output)
        rows = features(x).numpy()
        norms = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(anchors, axis=1)
        self.assertAllClose(model(x)["grade"], 100 * rows @ anchors.T / norms, atol=1e-3)
        self.assertNotIn("grade_anchors", {v.path.split("/")[0] for v in model.trainable_variables})

    def test_trained_prototypes_keep_their_length(self):
        head = Prototypes(scale=5.0)
        model = network(head)
        model.compile(keras.optimizers.SGD(1.0), loss={"grade": head.loss()})
        rows = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
        targets = head.targets({"grade": np.arange(20) % 5})
        model.fit(rows, {"grade": targets}, epochs=2, verbose=0)
        kernel = model.get_layer("grade").get_layer("cosines").get_weights()[0]
        self.assertAllClose(np.linalg.norm(kernel, axis=0), np.ones(5), atol=1e-5)

    def test_saved_and_opened_with_the_same_logits(self):
        x = images()
        for anchors in ("trained", "fixed", "projected"):
            model, path = whole(Prototypes(anchors=anchors, **TEXT)), f"{self.get_temp_dir()}/{anchors}.keras"
            to_plain_keras(model).save(path)
            with self.subTest(anchors):
                self.assertAllClose(KerasNetwork.load(path)(x)[0]["grade"], model(x)["grade"], atol=1e-3)

    def test_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = whole(Prototypes(anchors="projected", **TEXT))
        finally:
            keras.config.set_dtype_policy("float32")
        logits = model(images())["grade"]
        self.assertEqual(logits.dtype, tf.float32)
        self.assertTrue(np.isfinite(logits).all())

    @pytest.mark.slow
    def test_ensemble_and_explanation(self):
        x = images()
        for anchors in ("trained", "projected"):
            head = Prototypes(anchors=anchors, **TEXT)
            members = [whole(head) for _ in range(2)]
            model = build_ensemble(members, {"grade": head})
            path = f"{self.get_temp_dir()}/{anchors}.keras"
            model.save(path)
            mean = np.mean([head.probabilities(member(x)["grade"]) for member in members], axis=0)
            with self.subTest(anchors):
                self.assertAllClose(head.probabilities(model(x)["grade"]), mean, atol=1e-5)
                self.assertAllClose(KerasNetwork.load(path)(x)[0]["grade"], model(x)["grade"], atol=1e-4)
                self.assertTrue(np.isfinite(Explainer(model, head)(x).maps).all())

    def test_config(self):
        head = Prototypes(anchors="projected", **TEXT)
        self.assertEqual(HEADS["prototypes"](**head.get_config()), head)

    def test_mistakes(self):
        incomplete = {grade: prompts for grade, prompts in PROMPTS.items() if grade != "no DR"}
        mistakes = {
            "need each other": {"prompts": PROMPTS},
            "for each of no DR": {"prompts": incomplete, "text_encoder": CLIP},
            "of 'no DR' must be a list of texts": {"prompts": PROMPTS | {"no DR": ["  "]}, "text_encoder": CLIP},
            "needs prototypes.prompts": {"anchors": "projected"},
        }
        for message, options in mistakes.items():
            with self.subTest(message), self.assertRaisesRegex(UserError, message):
                Prototypes(**options)
        with self.assertRaisesRegex(UserError, "set classifier.projection = 12"):
            network(Prototypes(**TEXT), 7)
        projected = Prototypes(anchors="projected", **TEXT)
        with self.assertRaisesRegex(UserError, "set classifier.hidden or"):
            network(projected, WIDTH)
        with self.assertRaisesRegex(UserError, "embeddings of 12 numbers cannot pass"):
            classifier(build_backbone("resnet_v2", image_size=32, filters=(4,)), {"grade": projected}, hidden=(8,))


if __name__ == "__main__":
    tf.test.main()
