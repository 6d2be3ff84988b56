"""Heads: targets, losses with hand-computed values and gradients, metrics, and decoding."""

import json

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.grades import DME_RISKS, GRADES, POSITIVE_DEFINITIONS, is_positive
from dr_tf.models.heads import HEADS
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.coral import Coral
from dr_tf.models.heads.corn import Corn
from dr_tf.models.heads.edema import Edema
from dr_tf.models.heads.head import definition_labels, positive_labels
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.heads.regression import Regression
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.links import get_link, score_count

LN3 = np.log(3)
GRADED = {"grade": np.array([0, 4, -1, 2, 1]), "any_dr": np.array([0, 1, 1, 1, -1]), "dme": np.array([0, -1, 2, 0, 2])}


def metrics_by_name(head):
    return {metric.name: metric for metric in head.metrics()}


def computed_metrics(head, targets, logits):
    metrics = metrics_by_name(head)
    for metric in metrics.values():
        metric.update_state(targets, logits)
    return {name: float(metric.result()) for name, metric in metrics.items()}


class EveryHeadTest(tf.test.TestCase):
    def test_config_round_trip(self):
        for head in (
            Softmax(positive="any_dr", label_smoothing=0.1),
            Binary(positive="odir_D", focal_gamma=2.0),
            Edema(focal_gamma=1.0),
            MultiLabel(positive="odir_G", focal_gamma=2.0),
            Coral(positive="any_dr", importance_weights=[1, 2, 3, 4], label_smoothing=0.1),
            Corn(importance_weights=(1.0, 2.0, 3.0, 4.0)),
            Regression(huber_delta=0.5),
        ):
            config = json.loads(json.dumps(head.get_config()))
            self.assertEqual(HEADS[head.name](**config), head)

    def test_unknown_definition_is_refused(self):
        for kind in HEADS.values():
            with self.assertRaisesRegex(UserError, "unknown positive definition 'x'; known: any_dr, referable"):
                kind(positive="x")

    def test_logits_are_float32_under_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        for kind in HEADS.values():
            features = keras.Input((8,), dtype="float16")
            model = keras.Model(features, kind().logits(features, "task"))
            self.assertEqual((model.output.dtype, model.output.shape[-1]), ("float32", kind().outputs))
            weights = model.get_layer("task").weights
            self.assertEqual({weight.dtype for weight in weights}, {"float32"})

    def test_shapes_agree_with_the_link(self):
        for kind in HEADS.values():
            head = kind()
            scores = get_link(head.link).expand(np.zeros((1, head.outputs)), len(head.classes))
            self.assertEqual(scores.shape[1], score_count(head.link, len(head.classes)))
            probabilities = head.probabilities(np.zeros((2, head.outputs)))
            self.assertEqual(probabilities.shape, (2, len(head.classes)))
            self.assertEqual(head.definition_probabilities(probabilities).shape, (2, len(head.definitions)))
            self.assertIn(head.positive, head.definitions)

    def test_definition_labels(self):
        columns = GRADED | {"labels": np.array([[0, 1] + [-1] * 6] * 5)}
        for head in (Softmax(), Binary(positive="referable_or_dme"), Edema(), MultiLabel()):
            labels = definition_labels(head, columns)
            self.assertEqual(labels.shape, (5, len(head.definitions)))
            for definition, column in zip(head.definitions, labels.T, strict=True):
                self.assertAllEqual(column, positive_labels(definition, columns))
        self.assertAllEqual(labels[:, :3], [[0, 1, -1]] * 5)

    def test_monitored_metric_exists(self):
        for kind in HEADS.values():
            self.assertIn(kind.monitor[0].removeprefix("val_"), metrics_by_name(kind()))

    def test_records_without_label_fields(self):
        for kind in HEADS.values():
            self.assertAllEqual(kind().has_label({"image_id": np.array(["a", "b"])}), [False, False])


class SoftmaxTest(tf.test.TestCase):
    def test_labels(self):
        head = Softmax()
        self.assertAllEqual(head.has_label(GRADED), [True, True, False, True, True])
        self.assertAllEqual(head.targets(GRADED)[[0, 1, 3]], np.eye(5)[[0, 4, 2]])
        self.assertAllEqual(head.true_classes(GRADED), GRADED["grade"])
        self.assertEqual(head.classes, GRADES)

    def test_probabilities_grade_and_p_positive(self):
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

    def test_definition_that_a_grade_cannot_decide_is_refused(self):
        for definition in ("referable_or_dme", "referable_dme", "odir_D"):
            with self.assertRaisesRegex(UserError, f"{definition}.*any_dr, referable, vision_threatening. A @binary"):
                Softmax(positive=definition)

    def test_loss(self):
        """p = 0.25 for the true class: cross-entropy -ln 0.25; focal loss (1 - 0.25)^2 times as much."""
        logits = np.log([[0.25, 0.75 / 4, 0.75 / 4, 0.75 / 4, 0.75 / 4]]).astype(np.float32)
        target = np.float32([[1, 0, 0, 0, 0]])
        self.assertAllClose(Softmax().loss()(target, logits), -np.log(0.25))
        self.assertAllClose(Softmax(focal_gamma=2.0).loss()(target, logits), -np.log(0.25) * 0.75**2)
        smooth = 0.9 * -np.log(0.25) + 0.02 * (-np.log(0.25) - 4 * np.log(0.75 / 4))
        self.assertAllClose(Softmax(label_smoothing=0.1).loss()(target, logits), smooth)

    def test_metrics(self):
        logits = np.float32([[3, 0, 0, 0, 0], [0, 3, 0, 0, 0], [0, 0, 0, 3, 0], [0, 0, 0, 0, 3]])
        got = computed_metrics(Softmax(), np.eye(5, dtype=np.float32)[[0, 0, 2, 4]], logits)
        self.assertAllClose(got["accuracy"], 0.5)
        self.assertAllClose(got["balanced_accuracy"], (0.5 + 0 + 1) / 3)
        self.assertAllClose(got["auroc"], 1.0, atol=1e-3)
        self.assertGreater(got["quadratic_kappa"], 0.8)

    def test_unknown_grade_counts_in_no_metric(self):
        logits = np.float32([[3, 0, 0, 0, 0], [0, 0, 3, 0, 0], [0, 3, 0, 0, 0], [0, 0, 0, 0, 9]])
        targets = np.eye(5, dtype=np.float32)[[0, 2, 2, 0]] * [[1], [1], [1], [0]]
        self.assertEqual(
            computed_metrics(Softmax(), targets, logits), computed_metrics(Softmax(), targets[:3], logits[:3])
        )
        self.assertAllClose(computed_metrics(Softmax(), targets, logits)["accuracy"], 2 / 3)

    def test_auroc_ranks_by_p_positive(self):
        """Grades 0 and 1 are both not referable: confidence in grade 1 must not raise the score of referable."""
        logits = np.float32([[0, 9, 0, 0, 0], [1, 0, 0, 2, 0]])
        targets = np.eye(5, dtype=np.float32)[[1, 3]]
        self.assertAllClose(computed_metrics(Softmax(positive="referable"), targets, logits)["auroc"], 1.0, atol=1e-3)
        self.assertAllClose(computed_metrics(Softmax(positive="any_dr"), targets, logits)["auroc"], 0.0, atol=1e-3)


class EdemaTest(tf.test.TestCase):
    def test_labels(self):
        head = Edema()
        self.assertEqual((head.classes, head.outputs, head.positive), (DME_RISKS, 3, "referable_dme"))
        self.assertAllEqual(head.true_classes(GRADED), GRADED["dme"])
        self.assertAllEqual(head.has_label(GRADED), [True, False, True, True, True])
        self.assertAllEqual(head.targets(GRADED), [[1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]])
        self.assertEqual([head.target_name(row) for row in head.targets(GRADED)[[0, 2]]], [DME_RISKS[0], DME_RISKS[2]])

    def test_p_positive_and_no_grade(self):
        probabilities = Edema().probabilities(np.log([[0.2, 0.5, 0.3]]))
        self.assertAllClose(Edema().p_positive(probabilities), [0.3])
        self.assertIsNone(Edema().grade(probabilities))

    def test_definition_that_the_risk_cannot_decide_is_refused(self):
        for definition in ("referable", "referable_or_dme"):
            with self.assertRaisesRegex(
                UserError, f"the edema head cannot decide '{definition}'; it can decide referable_dme. A"
            ):
                Edema(positive=definition)

    def test_loss_and_gradient_with_an_unknown_label(self):
        """Two examples with p = (0.2, 0.2, 0.6). The first has class 2; the second is unknown and has a weight of 0.

        Cross-entropy with target q: gradient (p - q) / 2, the mean over two examples. Smoothing by 0.1 makes
        q = (1/30, 1/30, 28/30). The focal loss -(1 - p_2)^2 ln p_2 has the derivative
        2 (1 - p_2) p_2 ln p_2 - (1 - p_2)^2 with respect to ln p_2, and d ln p_2 / dz = q - p with q = (0, 0, 1).
        """
        p, target = np.array([0.2, 0.2, 0.6]), np.array([0, 0, 1])
        smoothed = np.array([1, 1, 28]) / 30
        slope = 2 * 0.4 * 0.6 * np.log(0.6) - 0.4**2
        for head, loss, gradient in (
            (Edema(), -np.log(0.6), p - target),
            (Edema(label_smoothing=0.1), -(smoothed * np.log(p)).sum(), p - smoothed),
            (Edema(focal_gamma=2.0), -np.log(0.6) * 0.4**2, slope * (target - p)),
        ):
            logits, targets = tf.Variable(np.float32(np.log([p, p]))), np.float32([target, [0, 0, 0]])
            with tf.GradientTape() as tape:
                computed = head.loss()(targets, logits, sample_weight=np.float32([1, 0]))
            with self.subTest(head):
                self.assertAllClose(computed, loss / 2)
                self.assertAllClose(tape.gradient(computed, logits), [gradient / 2, [0, 0, 0]])

    def test_metrics(self):
        """One right, one wrong, one unknown."""
        logits = np.float32([[3, 0, 0], [3, 0, 0], [0, 0, 9]])
        got = computed_metrics(Edema(), np.float32([[1, 0, 0], [0, 0, 1], [0, 0, 0]]), logits)
        self.assertAllClose([got["accuracy"], got["balanced_accuracy"], got["auroc"]], [0.5, 0.5, 0.5], atol=1e-3)

    def test_evidence(self):
        evidence = Edema().evidence(np.float32(np.log([[0.2, 0.2, 0.6]])))
        self.assertEqual(list(evidence), [*DME_RISKS, "dme >= 1", "dme >= 2", "positive"])
        self.assertAllClose(evidence["dme >= 1"], [np.log(0.8 / 0.2)])
        self.assertAllClose(evidence["positive"], [np.log(0.6 / 0.4)])


class MultiLabelTest(tf.test.TestCase):
    labels = np.array([[1, 0, -1, 0, 0, 0, 0, 0], [-1] * 8, [0, 1, 0, 0, 0, 0, 0, -1]])

    def test_labels(self):
        head, columns = MultiLabel(), {"labels": self.labels}
        self.assertAllEqual(head.has_label(columns), [True, False, True])
        self.assertAllEqual(head.true_classes(columns), self.labels)
        self.assertAllEqual(head.targets(columns), np.float32(self.labels))
        self.assertEqual("".join(head.classes), "NDGCAHMO")
        self.assertEqual([head.target_name(row) for row in head.targets(columns)], ["N", "none", "D"])
        self.assertEqual(head.target_name([0, 1, 1, 0, 0, 0, 0, 1]), "D, G, O")

    def test_each_label_is_decided_and_one_is_positive(self):
        head = MultiLabel(positive="odir_G")
        self.assertEqual(head.definitions[:3], ("odir_N", "odir_D", "odir_G"))
        probabilities = head.probabilities([[0, LN3, -LN3, 0, 0, 0, 0, 0]])
        self.assertAllClose(probabilities[0, :3], [0.5, 0.75, 0.25])
        self.assertAllClose(head.definition_probabilities(probabilities), probabilities)
        self.assertAllClose(head.p_positive(probabilities), [0.25])
        self.assertIsNone(head.grade(probabilities))
        self.assertFalse(head.exclusive)

    def test_definition_that_is_no_label_is_refused(self):
        with self.assertRaisesRegex(
            UserError, "multi_label head cannot decide 'referable'; it can decide odir_N, odir_D"
        ):
            MultiLabel(positive="referable")

    def test_metrics(self):
        """Label D: one of two is detected, and it is unknown for the second example. No other label is present."""
        targets = np.zeros((3, 8), np.float32)
        targets[:, 1] = 1, -1, 1
        logits = np.full((3, 8), -2, np.float32)
        logits[:2, 1] = 2
        got = computed_metrics(MultiLabel(), targets, logits)
        self.assertAllClose(got["f1_macro"], 2 / 3 / 8)
        self.assertAllClose(got["auroc_macro"], 0)  # no label is both present and absent

    def test_evidence(self):
        evidence = MultiLabel(positive="odir_D").evidence(np.arange(8, dtype=np.float32)[None])
        self.assertEqual(list(evidence), [*"NDGCAHMO", "positive"])
        self.assertAllClose([evidence["O"][0], evidence["positive"][0]], [7, 1])


class PairsTest(tf.test.TestCase):
    """The label of a patient from the labels of both eyes."""

    def columns(self, left, right, left_present=True, right_present=True):
        n = len(left)
        return {
            "left/grade": np.array(left),
            "right/grade": np.array(right),
            "left_present": np.broadcast_to(left_present, n),
            "right_present": np.broadcast_to(right_present, n),
        }

    def test_one_positive_eye_is_enough(self):
        columns = self.columns([0, 3, 0, 4], [0, 0, 2, 4])
        self.assertAllEqual(positive_labels("referable", columns), [0, 1, 1, 1])
        self.assertAllEqual(Binary(positive="referable").targets(columns)[:, 0], [0, 1, 1, 1])

    def test_absent_eye_is_ignored(self):
        columns = self.columns(
            [0, 4, -1], [4, 0, 1], right_present=[False, True, True], left_present=[True, False, False]
        )
        self.assertAllEqual(positive_labels("referable", columns), [0, 0, 0])

    def test_unknown_eye_makes_the_patient_unknown_unless_the_other_is_positive(self):
        columns = self.columns([-1, -1, 0, -1], [0, 3, -1, -1])
        self.assertAllEqual(positive_labels("referable", columns), [-1, 1, -1, -1])
        self.assertAllEqual(Binary(positive="referable").has_label(columns), [False, True, False, False])

    def test_all_labels_of_an_eye_count(self):
        columns = self.columns([0, 0, 0], [1, 1, -1]) | {
            "left/dme": np.array([0, 2, 0]),
            "right/dme": np.array([0, 0, 2]),
        }
        self.assertAllEqual(positive_labels("referable_or_dme", columns), [0, 1, 1])

    def test_odir_labels_belong_to_the_patient(self):
        columns = self.columns([0, 0], [0, 0]) | {"labels": np.array([[0, 1] + [0] * 6, [1, 0] + [0] * 6])}
        self.assertAllEqual(positive_labels("odir_D", columns), [1, 0])


class BinaryTest(tf.test.TestCase):
    def test_labels_of_every_definition(self):
        for definition in POSITIVE_DEFINITIONS:
            expected = [
                is_positive(definition, {**{k: v[i] for k, v in GRADED.items()}, "labels": [-1] * 8}) for i in range(5)
            ]
            head = Binary(positive=definition)
            self.assertAllEqual(head.has_label(GRADED), [e is not None for e in expected])
            known = [i for i, e in enumerate(expected) if e is not None]
            self.assertAllEqual(head.targets(GRADED)[known, 0], [float(expected[i]) for i in known])

    def test_odir_labels(self):
        columns = {"labels": np.array([[1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 1], [-1] * 8])}
        self.assertAllEqual(Binary(positive="odir_D").true_classes(columns), [0, 1, -1])

    def test_many_rows(self):
        rng = np.random.default_rng(0)
        columns = {"grade": rng.integers(-1, 5, 90_000), "dme": rng.integers(-1, 3, 90_000)}
        usable = Binary(positive="referable_or_dme").has_label(columns)
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
        got = computed_metrics(Binary(), np.float32([[1], [1], [1], [0], [0]]), np.float32([[2], [-1], [3], [-2], [1]]))
        self.assertAllClose([got["sensitivity"], got["specificity"], got["accuracy"]], [2 / 3, 1 / 2, 3 / 5])
        self.assertAllClose([got["balanced_accuracy"], got["auroc"]], [7 / 12, 5 / 6], atol=1e-3)

    def test_unknown_label_counts_in_no_metric(self):
        targets, logits = np.float32([[1], [1], [0], [-1], [-1]]), np.float32([[2], [-1], [-2], [9], [-9]])
        self.assertEqual(
            computed_metrics(Binary(), targets, logits), computed_metrics(Binary(), targets[:3], logits[:3])
        )
        self.assertAllClose(computed_metrics(Binary(), targets, logits)["accuracy"], 2 / 3)


if __name__ == "__main__":
    tf.test.main()
