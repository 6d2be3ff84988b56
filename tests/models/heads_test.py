import json

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.grades import DME_RISKS, GRADES, POSITIVE_DEFINITIONS, is_positive
from dr_tf.models.heads import HEADS
from dr_tf.models.heads.binary import Binary
from dr_tf.models.heads.edema import Edema
from dr_tf.models.heads.head import decided_truth, positives
from dr_tf.models.heads.multi_label import MultiLabel
from dr_tf.models.heads.softmax import Softmax
from dr_tf.models.links import width

LN3 = np.log(3)
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
        for head in (
            Softmax(positive="any_dr", label_smoothing=0.1),
            Binary(positive="odir_D", focal_gamma=2.0),
            Edema(focal_gamma=1.0),
            MultiLabel(positive="odir_G", focal_gamma=2.0),
        ):
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
            features = keras.Input((8,), dtype="float16")
            model = keras.Model(features, kind().logits(features, "task"))
            self.assertEqual((model.output.dtype, model.output.shape[-1]), ("float32", kind().outputs))
            self.assertEqual(model.get_layer("task").dtype_policy.name, "float32")

    def test_a_link_takes_the_logits_that_it_gives(self):
        for kind in HEADS.values():
            head = kind()
            self.assertEqual(head.outputs, width(head.link, len(head.classes)))
            probabilities = head.probabilities(np.zeros((2, head.outputs)))
            self.assertEqual(probabilities.shape, (2, len(head.classes)))
            self.assertEqual(head.scores(probabilities).shape, (2, len(head.decided)))
            self.assertIn(head.positive, head.decided)

    def test_what_it_decides_is_in_the_truth_by_definition(self):
        columns = GRADED | {"labels": np.array([[0, 1] + [-1] * 6] * 5)}
        for head in (Softmax(), Binary(positive="referable_or_dme"), Edema(), MultiLabel()):
            found = decided_truth(head, columns)
            self.assertEqual(found.shape, (5, len(head.decided)))
            for definition, column in zip(head.decided, found.T, strict=True):
                self.assertAllEqual(column, positives(definition, columns))
        self.assertAllEqual(found[:, :3], [[0, 1, -1]] * 5)

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
        for definition in ("referable_or_dme", "referable_dme", "odir_D"):
            with self.assertRaisesRegex(UserError, f"{definition}.*any_dr, referable, vision_threatening. A @binary"):
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

    def test_a_row_whose_grade_is_not_known_counts_nowhere(self):
        logits = np.float32([[3, 0, 0, 0, 0], [0, 0, 3, 0, 0], [0, 3, 0, 0, 0], [0, 0, 0, 0, 9]])
        targets = np.eye(5, dtype=np.float32)[[0, 2, 2, 0]] * [[1], [1], [1], [0]]
        self.assertEqual(figures(Softmax(), targets, logits), figures(Softmax(), targets[:3], logits[:3]))
        self.assertAllClose(figures(Softmax(), targets, logits)["accuracy"], 2 / 3)

    def test_auroc_orders_by_what_is_positive(self):
        """For referable disease grades 0 and 1 are one side: sureness of grade 1 must not count for the positive."""
        logits = np.float32([[0, 9, 0, 0, 0], [1, 0, 0, 2, 0]])
        targets = np.eye(5, dtype=np.float32)[[1, 3]]
        self.assertAllClose(figures(Softmax(positive="referable"), targets, logits)["auroc"], 1.0, atol=1e-3)
        self.assertAllClose(figures(Softmax(positive="any_dr"), targets, logits)["auroc"], 0.0, atol=1e-3)


class EdemaTest(tf.test.TestCase):
    def test_labels(self):
        head = Edema()
        self.assertEqual((head.classes, head.outputs, head.positive), (DME_RISKS, 3, "referable_dme"))
        self.assertAllEqual(head.strata(GRADED), GRADED["dme"])
        self.assertAllEqual(head.usable(GRADED), [True, False, True, True, True])
        self.assertAllEqual(head.targets(GRADED), [[1, 0, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]])
        self.assertEqual([head.name_of(row) for row in head.targets(GRADED)[[0, 2]]], [DME_RISKS[0], DME_RISKS[2]])

    def test_near_the_fovea_is_positive_and_no_class_is_a_grade(self):
        probabilities = Edema().probabilities(np.log([[0.2, 0.5, 0.3]]))
        self.assertAllClose(Edema().p_positive(probabilities), [0.3])
        self.assertIsNone(Edema().grade(probabilities))

    def test_what_the_risk_alone_does_not_tell_is_refused(self):
        for definition in ("referable", "referable_or_dme"):
            with self.assertRaisesRegex(
                UserError, f"edema alone does not tell '{definition}'; it can tell referable_dme. A"
            ):
                Edema(positive=definition)

    def test_what_is_not_known_and_has_no_weight_has_neither_loss_nor_gradient(self):
        """Of the first photograph -ln 0.6 for its risk; of the second nobody knows it."""
        logits, targets = tf.Variable(np.float32(np.log([[0.2, 0.2, 0.6]] * 2))), np.float32([[0, 0, 1], [0, 0, 0]])
        for head, factor in ((Edema(), 1), (Edema(focal_gamma=2.0), 0.4**2), (Edema(label_smoothing=0.1), None)):
            with tf.GradientTape() as tape:
                loss = head.loss()(targets, logits, sample_weight=np.float32([1, 0]))
            gradient = tape.gradient(loss, logits).numpy()
            with self.subTest(head):
                self.assertAllEqual(gradient[1], [0, 0, 0])
                self.assertGreater(np.abs(gradient[0]).min(), 0)
                if factor:
                    self.assertAllClose(loss, -np.log(0.6) * factor / 2)

    def test_metrics(self):
        """Right, wrong, and one that nobody knows."""
        logits = np.float32([[3, 0, 0], [3, 0, 0], [0, 0, 9]])
        got = figures(Edema(), np.float32([[1, 0, 0], [0, 0, 1], [0, 0, 0]]), logits)
        self.assertAllClose([got["accuracy"], got["balanced_accuracy"], got["auroc"]], [0.5, 0.5, 0.5], atol=1e-3)

    def test_evidence(self):
        found = Edema().evidence(np.float32(np.log([[0.2, 0.2, 0.6]])))
        self.assertEqual(list(found), [*DME_RISKS, "dme >= 1", "dme >= 2", "positive"])
        self.assertAllClose(found["dme >= 1"], [np.log(0.8 / 0.2)])
        self.assertAllClose(found["positive"], [np.log(0.6 / 0.4)])


class MultiLabelTest(tf.test.TestCase):
    labels = np.array([[1, 0, -1, 0, 0, 0, 0, 0], [-1] * 8, [0, 1, 0, 0, 0, 0, 0, -1]])

    def test_labels(self):
        head, columns = MultiLabel(), {"labels": self.labels}
        self.assertAllEqual(head.usable(columns), [True, False, True])
        self.assertAllEqual(head.strata(columns), self.labels)
        self.assertAllEqual(head.targets(columns), np.float32(self.labels))
        self.assertEqual("".join(head.classes), "NDGCAHMO")
        self.assertEqual([head.name_of(row) for row in head.targets(columns)], ["N", "none", "D"])
        self.assertEqual(head.name_of([0, 1, 1, 0, 0, 0, 0, 1]), "D, G, O")

    def test_each_is_decided_and_one_is_positive(self):
        head = MultiLabel(positive="odir_G")
        self.assertEqual(head.decided[:3], ("odir_N", "odir_D", "odir_G"))
        probabilities = head.probabilities([[0, LN3, -LN3, 0, 0, 0, 0, 0]])
        self.assertAllClose(probabilities[0, :3], [0.5, 0.75, 0.25])
        self.assertAllClose(head.scores(probabilities), probabilities)
        self.assertAllClose(head.p_positive(probabilities), [0.25])
        self.assertIsNone(head.grade(probabilities))
        self.assertFalse(head.exclusive)

    def test_what_no_label_says_is_refused(self):
        with self.assertRaisesRegex(UserError, "multi_label does not tell 'referable'; it can tell odir_N, odir_D"):
            MultiLabel(positive="referable")

    def test_metrics(self):
        """Of D one of two is found; of the rest nothing is there. Nobody knows the second photograph's D."""
        targets = np.zeros((3, 8), np.float32)
        targets[:, 1] = 1, -1, 1
        logits = np.full((3, 8), -2, np.float32)
        logits[:2, 1] = 2
        got = figures(MultiLabel(), targets, logits)
        self.assertAllClose(got["f1_macro"], 2 / 3 / 8)
        self.assertAllClose(got["auroc_macro"], 0)  # no label is both there and not there

    def test_evidence(self):
        found = MultiLabel(positive="odir_D").evidence(np.arange(8, dtype=np.float32)[None])
        self.assertEqual(list(found), [*"NDGCAHMO", "positive"])
        self.assertAllClose([found["O"][0], found["positive"][0]], [7, 1])


class PairsTest(tf.test.TestCase):
    """Labels of both eyes of a patient, by the grade of each."""

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
        self.assertAllEqual(positives("referable", columns), [0, 1, 1, 1])
        self.assertAllEqual(Binary(positive="referable").targets(columns)[:, 0], [0, 1, 1, 1])

    def test_an_eye_that_is_not_there_has_no_say(self):
        columns = self.columns(
            [0, 4, -1], [4, 0, 1], right_present=[False, True, True], left_present=[True, False, False]
        )
        self.assertAllEqual(positives("referable", columns), [0, 0, 0])

    def test_an_unknown_eye_leaves_it_open_unless_the_other_is_positive(self):
        columns = self.columns([-1, -1, 0, -1], [0, 3, -1, -1])
        self.assertAllEqual(positives("referable", columns), [-1, 1, -1, -1])
        self.assertAllEqual(Binary(positive="referable").usable(columns), [False, True, False, False])

    def test_of_an_eye_all_its_labels_count(self):
        columns = self.columns([0, 0, 0], [1, 1, -1]) | {
            "left/dme": np.array([0, 2, 0]),
            "right/dme": np.array([0, 0, 2]),
        }
        self.assertAllEqual(positives("referable_or_dme", columns), [0, 1, 1])

    def test_labels_are_the_patients(self):
        columns = self.columns([0, 0], [0, 0]) | {"labels": np.array([[0, 1] + [0] * 6, [1, 0] + [0] * 6])}
        self.assertAllEqual(positives("odir_D", columns), [1, 0])


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

    def test_a_row_whose_label_is_not_known_counts_nowhere(self):
        targets, logits = np.float32([[1], [1], [0], [-1], [-1]]), np.float32([[2], [-1], [-2], [9], [-9]])
        self.assertEqual(figures(Binary(), targets, logits), figures(Binary(), targets[:3], logits[:3]))
        self.assertAllClose(figures(Binary(), targets, logits)["accuracy"], 2 / 3)


if __name__ == "__main__":
    tf.test.main()
