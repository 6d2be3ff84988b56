import dataclasses
import json
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.grades import GRADES, POSITIVE_DEFINITIONS, is_positive
from dr_tf.metrics.confusion import Accuracy
from dr_tf.models.backbones import build_backbone
from dr_tf.models.classifier import classifier
from dr_tf.models.heads import HEADS
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.head import Head, sigmoid
from dr_tf.models.heads.softmax import Softmax

GRADED = {"grade": np.array([0, 4, -1, 2, 1]), "any_dr": np.array([0, 1, 1, 1, -1]), "dme": np.array([0, -1, 2, 0, 2])}


def named(head):
    return {metric.name: metric for metric in head.metrics()}


def figures(head, targets, logits):
    metrics = named(head)
    for metric in metrics.values():
        metric.update_state(targets, logits)
    return {name: float(metric.result()) for name, metric in metrics.items()}


class EveryHeadTest(tf.test.TestCase):
    def test_its_config_makes_it_again(self):
        for head in (Softmax(positive="any_dr", dme_weight=0.5), Binary(positive="odir_D", focal_gamma=2.0)):
            config = json.loads(json.dumps(head.get_config()))
            self.assertEqual(HEADS[head.name](**config), head)

    def test_an_unknown_definition_lists_the_known_ones(self):
        for kind in HEADS.values():
            with self.assertRaisesRegex(UserError, "unknown positive definition 'x'; known: any_dr, referable"):
                kind(positive="x")

    def test_logits_are_float32_under_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        for kind in HEADS.values():
            logits = kind().logits(keras.Input((8,), dtype="float16"))
            self.assertEqual((logits.dtype, logits.shape[-1]), ("float32", kind.outputs))

    def test_the_figure_that_chooses_is_among_the_metrics(self):
        for kind in HEADS.values():
            self.assertIn(kind.monitor[0].removeprefix("val_"), named(kind()))

    def test_rows_without_labels_at_all(self):
        for kind in HEADS.values():
            self.assertAllEqual(kind().usable({"image_id": np.array(["a", "b"])}), [False, False])


class SoftmaxTest(tf.test.TestCase):
    def test_labels(self):
        head = Softmax()
        self.assertAllEqual(head.usable(GRADED), [True, True, False, True, True])
        self.assertAllEqual(head.targets(GRADED)[[0, 1, 3]], np.eye(5)[[0, 4, 2]])
        self.assertAllEqual(head.strata(GRADED), GRADED["grade"])
        self.assertEqual(head.classes, GRADES)

    def test_probabilities_grade_and_what_is_positive(self):
        logits = np.log([[0.4, 0.1, 0.2, 0.2, 0.1], [0.1, 0.6, 0.1, 0.1, 0.1]])
        logits += np.array([[5], [-700]])
        for positive, expected in (
            ("any_dr", [0.6, 0.9]),
            ("referable", [0.5, 0.3]),
            ("vision_threatening", [0.3, 0.2]),
        ):
            head = Softmax(positive=positive)
            probabilities = head.probabilities(logits)
            self.assertAllClose(probabilities.sum(axis=1), [1, 1])
            self.assertAllClose(head.p_positive(probabilities), expected)
            self.assertAllEqual(head.grade(probabilities), [0, 1])

    def test_what_a_grade_does_not_tell_is_refused(self):
        for definition in ("referable_or_dme", "odir_D"):
            with self.assertRaisesRegex(UserError, f"{definition}.*any_dr, referable, vision_threatening$"):
                Softmax(positive=definition)

    def test_loss(self):
        """Of one photograph with p = 0.25 for its class: -ln 0.25; focal: (1 - 0.25)^2 as much."""
        logits = np.log([[0.25, 0.75 / 4, 0.75 / 4, 0.75 / 4, 0.75 / 4]]).astype(np.float32)
        target = np.float32([[1, 0, 0, 0, 0]])
        self.assertAllClose(Softmax().loss()(target, logits), -np.log(0.25))
        self.assertAllClose(Softmax(focal_gamma=2.0).loss()(target, logits), -np.log(0.25) * 0.75**2)
        smooth = 0.9 * -np.log(0.25) + 0.02 * (-np.log(0.25) - 4 * np.log(0.75 / 4))
        self.assertAllClose(Softmax(label_smoothing=0.1).loss()(target, logits), smooth)

    def test_metrics(self):
        logits = np.float32([[3, 0, 0, 0, 0], [0, 3, 0, 0, 0], [0, 0, 0, 3, 0], [0, 0, 0, 0, 3]])
        got = figures(Softmax(), np.eye(5, dtype=np.float32)[[0, 0, 2, 4]], logits)
        self.assertAllClose(got["accuracy"], 0.5)
        self.assertAllClose(got["balanced_accuracy"], (0.5 + 0 + 1) / 3)
        self.assertAllClose(got["auroc"], 1.0, atol=1e-3)
        self.assertGreater(got["quadratic_kappa"], 0.8)

    def test_auroc_orders_by_what_is_positive(self):
        """For referable disease grades 0 and 1 are one side: sureness of grade 1 must not count for the positive."""
        logits = np.float32([[0, 9, 0, 0, 0], [1, 0, 0, 2, 0]])
        targets = np.eye(5, dtype=np.float32)[[1, 3]]
        self.assertAllClose(figures(Softmax(positive="referable"), targets, logits)["auroc"], 1.0, atol=1e-3)
        self.assertAllClose(figures(Softmax(positive="any_dr"), targets, logits)["auroc"], 0.0, atol=1e-3)


class SecondHeadTest(tf.test.TestCase):
    """The risk of macular edema beside the grade; of the second photograph it is not known."""

    def setUp(self):
        super().setUp()
        self.head = Softmax(dme_weight=0.5)
        self.targets = np.zeros((2, 8), np.float32)
        self.targets[[0, 0, 1], [1, 7, 4]] = 1
        grades, risks = np.log([0.25, 0.5, 0.1, 0.1, 0.05]), np.log([0.2, 0.2, 0.6])
        self.logits = np.float32([[*grades, *risks]] * 2)

    def test_targets(self):
        expected = [[1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]
        self.assertAllEqual(self.head.targets(GRADED)[:, 5:], expected)
        self.assertAllEqual(self.head.targets(GRADED)[:, :5], Softmax().targets(GRADED))
        self.assertEqual([self.head.name_of(target) for target in self.targets], [GRADES[1], GRADES[4]])

    def test_nobody_knows_the_risk(self):
        for columns in ({"grade": np.array([0, 1])}, {"grade": np.array([0, 1]), "dme": np.array([-1, -1])}):
            with self.assertRaisesRegex(UserError, "know no risk of macular edema"):
                self.head.targets(columns)
        with self.assertRaisesRegex(UserError, "dme_weight is 0 or a positive number, not -1"):
            Softmax(dme_weight=-1)

    def test_loss(self):
        """Grades: -ln 0.5 and -ln 0.05; the risk: -ln 0.6, of the first alone."""
        expected = (-np.log(0.5) - np.log(0.05) - 0.5 * np.log(0.6)) / 2
        self.assertAllClose(self.head.loss()(self.targets, self.logits), expected)
        weighted = (2 * (-np.log(0.5) - 0.5 * np.log(0.6)) - np.log(0.05)) / 2
        self.assertAllClose(self.head.loss()(self.targets, self.logits, sample_weight=[2.0, 1.0]), weighted)
        focal = (-np.log(0.5) * 0.5**2 - np.log(0.05) * 0.95**2 - 0.5 * np.log(0.6)) / 2
        self.assertAllClose(Softmax(dme_weight=0.5, focal_gamma=2.0).loss()(self.targets, self.logits), focal)

    def test_what_is_not_known_has_no_gradient(self):
        for head in (self.head, Softmax(dme_weight=0.5, label_smoothing=0.1)):
            logits = tf.Variable(self.logits)
            with tf.GradientTape() as tape:
                loss = head.loss()(self.targets, logits)
            gradient = tape.gradient(loss, logits).numpy()
            self.assertAllEqual(gradient[1, 5:], [0, 0, 0])
            self.assertAllClose(gradient[0, 5:], 0.25 * np.array([0.2, 0.2, -0.4]))
            self.assertGreater(np.abs(gradient[1, :5]).min(), 0)

    def test_metrics(self):
        """Right in both, in the grade alone, in the risk alone, and one whose risk is not known."""
        targets = np.concatenate([np.eye(5)[[0, 1, 2, 3]], [*np.eye(3)[[2, 1, 0]], np.zeros(3)]], axis=1)
        said = np.concatenate([np.eye(5)[[0, 1, 3, 3]], np.eye(3)[[2, 2, 0, 0]]], axis=1)
        got = figures(self.head, targets.astype(np.float32), 3 * said.astype(np.float32))
        self.assertAllClose(got.pop("joint_accuracy"), 1 / 3)
        plain = figures(Softmax(), targets[:, :5].astype(np.float32), 3 * said[:, :5].astype(np.float32))
        self.assertEqual(got, plain)
        self.assertAllClose(got["accuracy"], 0.75)

    def test_both_read_the_same_features(self):
        features = keras.Input((8,), dtype="float16")
        both = keras.Model(features, self.head.logits(features))
        self.assertEqual((both.output.dtype, both.output.shape[-1]), ("float32", 8))
        self.assertIs(both.get_layer("dme").input, both.get_layer("logits").input)


class BinaryTest(tf.test.TestCase):
    def test_labels_as_grades_tell_them(self):
        for definition in POSITIVE_DEFINITIONS:
            expected = [
                is_positive(definition, {**{k: v[i] for k, v in GRADED.items()}, "labels": [-1] * 8}) for i in range(5)
            ]
            head = Binary(positive=definition)
            self.assertAllEqual(head.usable(GRADED), [e is not None for e in expected])
            known = [i for i, e in enumerate(expected) if e is not None]
            self.assertAllEqual(head.targets(GRADED)[known, 0], [float(expected[i]) for i in known])

    def test_labels_of_patients(self):
        columns = {"labels": np.array([[1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 1], [-1] * 8])}
        self.assertAllEqual(Binary(positive="odir_D").strata(columns), [0, 1, -1])

    def test_many_rows_in_no_time(self):
        rng = np.random.default_rng(0)
        columns = {"grade": rng.integers(-1, 5, 90_000), "dme": rng.integers(-1, 3, 90_000)}
        usable = Binary(positive="referable_or_dme").usable(columns)
        self.assertAllEqual(usable, (columns["grade"] >= 2) | (columns["dme"] == 2) | ((columns["grade"] >= 0) & (columns["dme"] >= 0)))  # fmt: skip

    def test_probabilities(self):
        head = Binary(positive="any_dr")
        probabilities = head.probabilities(np.array([[0.0], [np.log(3)], [-800.0]]))
        self.assertAllClose(probabilities, [[0.5, 0.5], [0.25, 0.75], [1, 0]])
        self.assertAllClose(head.p_positive(probabilities), [0.5, 0.75, 0])
        self.assertIsNone(head.grade(probabilities))
        self.assertEqual(head.classes, ("not any_dr", "any_dr"))

    def test_loss(self):
        logits, target = np.float32([[np.log(3)]]), np.float32([[0.0]])
        self.assertAllClose(Binary().loss()(target, logits), -np.log(0.25))
        self.assertAllClose(Binary(focal_gamma=2.0).loss()(target, logits), -np.log(0.25) * 0.75**2)

    def test_metrics(self):
        got = figures(Binary(), np.float32([[1], [1], [1], [0], [0]]), np.float32([[2], [-1], [3], [-2], [1]]))
        self.assertAllClose([got["sensitivity"], got["specificity"], got["accuracy"]], [2 / 3, 1 / 2, 3 / 5])
        self.assertAllClose([got["balanced_accuracy"], got["auroc"]], [7 / 12, 5 / 6], atol=1e-3)


class SharedBias(keras.layers.Layer):
    """One score for all thresholds, as CORAL has it (Cao et al. 2020)."""

    def build(self, input_shape):
        self.score = self.add_weight(shape=(input_shape[-1], 1), name="score")
        self.bias = self.add_weight(shape=(4,), name="bias")

    def call(self, features):
        return features @ self.score + self.bias


@dataclasses.dataclass(frozen=True)
class Ordinal(Head):
    """A stranger to the package: four logits for P(grade > k), classes by their differences."""

    name: ClassVar[str] = "ordinal"
    monitor: ClassVar[tuple[str, str]] = ("val_accuracy", "max")
    classes: ClassVar[tuple[str, ...]] = GRADES
    outputs: ClassVar[int] = 4

    def logits(self, features):
        return SharedBias(name="logits", dtype="float32")(features)

    def usable(self, columns):
        return columns["grade"] >= 0

    def targets(self, columns):
        return (columns["grade"][:, None] > np.arange(4)).astype(np.float32)

    def strata(self, columns):
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

    def probabilities(self, logits):
        above = np.minimum.accumulate(sigmoid(logits), axis=1)
        return -np.diff(np.pad(above, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0))), axis=1)

    def p_positive(self, probabilities):
        return probabilities[:, 2:].sum(axis=1)

    def grade(self, probabilities):
        return np.argmax(probabilities, axis=1)


@dataclasses.dataclass(frozen=True)
class Several(Head):
    """Another stranger: one sigmoid per label."""

    positive: str = "odir_D"
    name: ClassVar[str] = "several"
    monitor: ClassVar[tuple[str, str]] = ("val_auc", "max")
    classes: ClassVar[tuple[str, ...]] = tuple("NDGCAHMO")
    outputs: ClassVar[int] = 8

    def usable(self, columns):
        return (columns["labels"] >= 0).all(axis=1)

    def targets(self, columns):
        return columns["labels"].astype(np.float32)

    def strata(self, columns):
        return columns["labels"]

    def loss(self):
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def metrics(self):
        return [keras.metrics.AUC(multi_label=True, from_logits=True, num_labels=8, name="auc")]

    def probabilities(self, logits):
        return sigmoid(logits)

    def p_positive(self, probabilities):
        return probabilities[:, 1]

    def grade(self, probabilities):
        return None


class OnePathForAllHeadsTest(tf.test.TestCase):
    """Nothing but the head knows the task: the same lines fit and decode every head, of this package or not."""

    def test_fit_predict_decode(self):
        rng = np.random.default_rng(0)
        columns = {"grade": np.arange(7) % 5, "labels": rng.integers(0, 2, (7, 8))}
        photographs = rng.integers(0, 256, (7, 32, 32, 3), np.uint8)
        backbone = build_backbone("resnet_v2", image_size=32, stem=4, filters=(4,))
        for head in (Softmax(), Binary(focal_gamma=2.0, label_smoothing=0.1), Ordinal(), Several()):
            with self.subTest(head.name):
                model = classifier(backbone, head, hidden=(4,))
                model.compile("adam", head.loss(), metrics=head.metrics(), run_eagerly=True)
                self.assertTrue(head.usable(columns).all())
                targets = head.targets(columns)
                logs = model.fit(
                    photographs, targets, batch_size=4, sample_weight=np.ones(7), validation_data=(photographs, targets),
                    verbose=0,
                ).history  # fmt: skip
                self.assertIn(head.monitor[0], logs)
                self.assertTrue(np.isfinite(logs["loss"]).all())
                probabilities = head.probabilities(model.predict(photographs, verbose=0))
                self.assertEqual(probabilities.shape, (7, len(head.classes)))
                self.assertAllInRange(head.p_positive(probabilities), 0, 1)


if __name__ == "__main__":
    tf.test.main()
