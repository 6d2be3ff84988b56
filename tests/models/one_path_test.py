"""Training and decoding are the same code for every head."""

import dataclasses
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.grades import GRADES
from dr_tf.metrics.confusion import Accuracy
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.coral import Coral
from dr_tf.models.heads.corn import Corn
from dr_tf.models.heads.edema import Edema
from dr_tf.models.heads.head import Head
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.heads.regression import Regression
from dr_tf.models.heads.softmax import Softmax


class SharedBias(keras.layers.Layer):
    """One score with a bias per threshold, as in CORAL (Cao et al. 2020)."""

    def build(self, input_shape):
        self.score = self.add_weight(shape=(input_shape[-1], 1), name="score")
        self.bias = self.add_weight(shape=(4,), name="bias")

    def call(self, features):
        return features @ self.score + self.bias


@dataclasses.dataclass(frozen=True)
class Ordinal(Head):
    """A head that the package does not know: four logits for P(grade > k)."""

    name: ClassVar[str] = "ordinal"
    link: ClassVar[str] = "coral"
    monitor: ClassVar[tuple[str, str]] = ("val_accuracy", "max")
    classes: ClassVar[tuple[str, ...]] = GRADES
    outputs: ClassVar[int] = 4

    def logits(self, features, name):
        return SharedBias(name=name, dtype="float32")(features)

    def targets(self, columns):
        return (columns["grade"][:, None] > np.arange(4)).astype(np.float32)

    def true_classes(self, columns):
        return columns["grade"]

    def loss(self):
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def metrics(self):
        ops = keras.ops
        return [
            Accuracy(
                5,
                true=lambda y: ops.sum(ops.cast(y > 0.5, "int32"), axis=-1),
                predicted=lambda z: ops.sum(ops.cast(z > 0, "int32"), axis=-1),
                name="accuracy",
            )
        ]

    def definition_probabilities(self, probabilities):
        return probabilities[:, 2:].sum(axis=1, keepdims=True)

    def grade(self, probabilities):
        return np.argmax(probabilities, axis=1)


class OnePathForAllHeadsTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_fit_predict_decode(self):
        rng = np.random.default_rng(0)
        columns = {"grade": np.arange(7) % 5, "dme": np.arange(7) % 3, "labels": rng.integers(0, 2, (7, 8))}
        images = rng.integers(0, 256, (7, 32, 32, 3), np.uint8)
        backbone = build_backbone("resnet_v2", image_size=32, stem=4, filters=(4,))
        ordinal = Coral(label_smoothing=0.1), Corn(importance_weights=(1, 1, 2, 2)), Regression(), Ordinal()
        for head in (Softmax(), Binary(focal_gamma=2.0, label_smoothing=0.1), Edema(), MultiLabel(), *ordinal):
            with self.subTest(head.name):
                model = classifier(backbone, {"task": head}, hidden=(4,))
                model.compile("adam", {"task": head.loss()}, metrics={"task": head.metrics()}, run_eagerly=True)
                self.assertTrue(head.has_label(columns).all())
                targets = {"task": head.targets(columns)}
                logs = model.fit(
                    images, targets, batch_size=4, sample_weight=np.ones(7), validation_data=(images, targets),
                    verbose=0,
                ).history  # fmt: skip
                self.assertIn(head.monitor[0], logs)
                self.assertTrue(np.isfinite(logs["loss"]).all())
                probabilities = head.probabilities(model.predict(images, verbose=0)["task"])
                self.assertEqual(probabilities.shape, (7, len(head.classes)))
                self.assertAllInRange(head.p_positive(probabilities), 0, 1)

    def test_several_outputs_with_loss_weights(self):
        """With a weight of 0 the layer of the risk does not change, and the loss is that of the grade."""
        heads = {"grade": Softmax(), "edema": Edema()}
        columns = {"grade": np.arange(4), "dme": np.array([0, -1, 2, 1])}
        images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
        model = classifier(build_backbone("resnet_v2", image_size=32, stem=4, filters=(4,)), heads)
        losses = {name: head.loss() for name, head in heads.items()}
        model.compile("adam", losses, loss_weights={"grade": 1.0, "edema": 0.0}, run_eagerly=True)
        before = {name: model.get_layer(name).get_weights()[0] for name in heads}
        targets = {name: head.targets(columns) for name, head in heads.items()}
        logs = model.fit(images, targets, batch_size=4, verbose=0).history
        after = {name: model.get_layer(name).get_weights()[0] for name in heads}
        self.assertAllEqual(before["edema"], after["edema"])
        self.assertNotAllClose(before["grade"], after["grade"], atol=1e-5)
        self.assertAllClose(logs["loss"], logs["grade_loss"], atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
