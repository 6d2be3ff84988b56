"""CORAL, CORN and regression: losses and gradients by hand and of the authors' code, order of probabilities, decoding."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.grades import GRADES
from dr_tf.models.heads.coral import Coral
from dr_tf.models.heads.corn import Corn
from dr_tf.models.heads.regression import Regression
from dr_tf.models.keras_private import layers_within
from tests.models.heads_test import computed_metrics

LN2, LN3 = np.log(2), np.log(3)
AUTHORS = dict(np.load(pathlib.Path(__file__).parent / "fixtures" / "coral_values.npz"))
HEADS = Coral(), Corn(), Regression()


def loss_and_gradient(head, targets, logits, **options):
    """Return a head's loss of a batch and its gradient with respect to the logits."""
    logits = tf.Variable(np.float32(logits))
    with tf.GradientTape() as tape:
        loss = head.loss()(np.float32(targets).reshape(-1, 1), logits, **options)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


def network(head, width=3):
    """A network of the output layer alone."""
    features = keras.Input((width,))
    return keras.Model(features, {"grade": head.logits(features, "grade")})


class LossTest(tf.test.TestCase):
    def test_coral(self):
        """P(grade > k) = 0.75, 0.5, 0.5, 0.25: grade 2 costs ln 4/3 + ln 2 + ln 2 + ln 4/3, grade 0 ln 4 + 2 ln 2 + ln 4/3.

        The gradient of a task is P(grade > k) minus its target; both are halved by the mean over the examples.
        """
        logits = [[LN3, 0, 0, -LN3]] * 2
        loss, gradient = loss_and_gradient(Coral(), [2, 0], logits)
        self.assertAllClose(loss, (2 * np.log(4 / 3) + 2 * LN2 + np.log(4) + 2 * LN2 + np.log(4 / 3)) / 2)
        self.assertAllClose(gradient, np.array([[-0.25, -0.5, 0.5, 0.25], [0.75, 0.5, 0.5, 0.25]]) / 2)

    def test_coral_weights_and_smoothing(self):
        _, gradient = loss_and_gradient(Coral(importance_weights=(1, 2, 3, 4)), [2], [[LN3, 0, 0, -LN3]])
        self.assertAllClose(gradient, [[-0.25, -1, 1.5, 1]])
        # A fifth of the grade is spread over all grades: P(grade > k) = 0.8 of the target + 0.16, 0.12, 0.08, 0.04.
        _, gradient = loss_and_gradient(Coral(label_smoothing=0.2), [2], [[LN3, 0, 0, -LN3]])
        self.assertAllClose(gradient, [[0.75 - 0.96, 0.5 - 0.92, 0.5 - 0.08, 0.25 - 0.04]])

    def test_corn(self):
        """Grade 0 trains task 0 only, grade 2 tasks 0 to 2, grade 4 all."""
        logits = [[LN3, 0, 0, -LN3]] * 3
        loss, gradient = loss_and_gradient(Corn(), [0, 2, 4], logits)
        expected = np.log(4) + (np.log(4 / 3) + 2 * LN2) + (np.log(4 / 3) + 2 * LN2 + np.log(4))
        self.assertAllClose(loss, expected / 3)
        tasks = [[0.75, 0, 0, 0], [-0.25, -0.5, 0.5, 0], [-0.25, -0.5, -0.5, -0.75]]
        self.assertAllClose(gradient, np.array(tasks) / 3)
        _, gradient = loss_and_gradient(Corn(importance_weights=[1, 2, 3, 4]), [2], logits[:1])
        self.assertAllClose(gradient, [[-0.25, -1, 1.5, 0]])

    def test_regression(self):
        loss, gradient = loss_and_gradient(Regression(), [2, 0], [[1.5], [3.0]])
        self.assertAllClose(loss, (0.25 + 9) / 2)
        self.assertAllClose(gradient, [[-0.5], [3]])
        loss, gradient = loss_and_gradient(Regression(huber_delta=1.0), [2, 0], [[1.5], [3.0]])
        self.assertAllClose(loss, (0.125 + 2.5) / 2)
        self.assertAllClose(gradient, [[-0.25], [0.5]])

    def test_unknown_grades_change_nothing(self):
        for head in (*HEADS, Coral(label_smoothing=0.3), Regression(huber_delta=0.5)):
            logits = np.random.default_rng(0).normal(0, 3, (4, head.outputs))
            known = loss_and_gradient(head, [1, 3], logits[:2])
            for weights in (None, np.float32([1, 1, 0, 0])):
                loss, gradient = loss_and_gradient(head, [1, 3, -1, -1], logits, sample_weight=weights)
                with self.subTest(head):
                    self.assertAllClose(loss, known[0] / 2)  # the mean over four examples
                    self.assertAllClose(gradient, np.concatenate([known[1] / 2, np.zeros((2, head.outputs))]))

    def test_large_logits_are_finite(self):
        for head in HEADS:
            loss, gradient = loss_and_gradient(head, [0, 4, -1], np.full((3, head.outputs), 1e4))
            self.assertAllEqual(np.isfinite([loss, gradient.min(), gradient.max()]), [True] * 3)


class AuthorsTest(tf.test.TestCase):
    """Values of coral-pytorch; `fixtures/coral_values.py` wrote them."""

    def test_coral(self):
        weights = AUTHORS["weights"].tolist()
        for name, head in {"coral": Coral(), "coral_weighted": Coral(importance_weights=weights)}.items():
            loss, gradient = loss_and_gradient(head, AUTHORS["grades"], AUTHORS["logits"])
            self.assertAllClose(loss, AUTHORS[f"{name}_loss"], rtol=1e-6)
            self.assertAllClose(gradient, AUTHORS[f"{name}_gradient"], atol=1e-6)

    def test_corn_but_for_the_number_that_divides_the_sum(self):
        """The mean over examples here, over pairs of example and task there."""
        grades = AUTHORS["grades"]
        factor = len(grades) / np.minimum(grades + 1, 4).sum()
        loss, gradient = loss_and_gradient(Corn(), grades, AUTHORS["logits"])
        self.assertAllClose(loss * factor, AUTHORS["corn_loss"], rtol=1e-6)
        self.assertAllClose(gradient * factor, AUTHORS["corn_gradient"], atol=1e-6)

    def test_the_coral_layer_starts_as_theirs(self):
        model = network(Coral(), AUTHORS["features"].shape[1])
        kernel = next(variable for variable in model.variables if variable.name == "kernel")
        kernel.assign(AUTHORS["kernel"])
        self.assertAllClose(model(AUTHORS["features"])["grade"], AUTHORS["coral_logits"], atol=1e-5)

    def test_grades(self):
        for head, logits, grades in (
            (Coral(), AUTHORS["coral_logits"], AUTHORS["coral_grades"]),
            (Corn(), AUTHORS["logits"], AUTHORS["corn_grades"]),
        ):
            self.assertAllEqual(head.grade(head.probabilities(logits)), grades)
            self.assertAllEqual(head.class_of_logits(logits), grades)


class CoralLayerTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)

    def test_probabilities_stay_in_order_after_any_step(self):
        """Training on reversed and random grades by large steps pushes the biases towards each other."""
        rng = np.random.default_rng(0)
        model = network(Coral())
        model.compile(keras.optimizers.SGD(3.0), {"grade": Coral().loss()})
        for step in range(40):
            grades = np.float32(rng.integers(0, 5, (16, 1)) if step % 2 else rng.choice([0, 4], (16, 1)))
            model.train_on_batch(rng.normal(0, 1, (16, 3)).astype(np.float32), {"grade": grades})
            inputs = np.concatenate([rng.normal(0, scale, (50, 3)) for scale in (1e-3, 1, 1e3)]).astype(np.float32)
            logits = model(inputs)["grade"].numpy()
            self.assertLessEqual(np.diff(logits, axis=1).max(), 0)
            self.assertGreaterEqual(Coral().probabilities(logits).min(), 0)

    def test_order_holds_for_any_weights(self):
        model, rng = network(Coral()), np.random.default_rng(0)
        for scale in (1, 30, 1000):
            model.set_weights([rng.normal(0, scale, weights.shape) for weights in model.get_weights()])
            logits = model(rng.normal(0, scale, (100, 3)).astype(np.float32))["grade"].numpy()
            self.assertLessEqual(np.diff(logits, axis=1).max(), 0)

    def test_one_weight_vector_and_four_biases(self):
        model = network(Coral())
        shapes = {variable.name: tuple(variable.shape) for variable in model.trainable_variables}
        self.assertEqual(shapes, {"kernel": (3, 1), "bias": (1,), "beta": (3,)})
        self.assertAllClose(model(np.zeros((1, 3), np.float32))["grade"], [[1, 0.75, 0.5, 0.25]])

    def test_every_layer_is_of_keras_and_computes_in_float32(self):
        keras.config.set_dtype_policy("mixed_float16")
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        model = network(Coral())
        with tempfile.TemporaryDirectory() as folder:
            model.save(f"{folder}/model.keras")
            again = keras.saving.load_model(f"{folder}/model.keras", safe_mode=True)
        self.assertEqual({type(layer).__module__.split(".")[0] for layer in layers_within(again)}, {"keras"})
        x = np.random.default_rng(0).normal(0, 100, (5, 3)).astype(np.float32)
        logits = again(x)["grade"]
        self.assertEqual(logits.dtype, "float32")
        exact = x @ again.get_weights()[0] + [1, 0.75, 0.5, 0.25]
        self.assertAllClose(logits, exact, rtol=2e-3)  # the input is float16, the output is not
        self.assertAllClose(np.diff(logits), np.full((5, 3), -0.25), atol=1e-4)

    def test_it_learns_rising_grades(self):
        """One feature is the grade. The largest error must go: no grade is out of reach."""
        grades = np.float32(np.arange(300 * 40) % 5)[:, None]
        model = network(Coral(), 1)
        model.compile(keras.optimizers.Adam(0.1), {"grade": Coral().loss()})
        model.fit(grades, {"grade": grades}, batch_size=40, verbose=0)
        probabilities = Coral().probabilities(model.predict(np.arange(5.0)[:, None], verbose=0)["grade"])
        self.assertAllEqual(Coral().grade(probabilities), np.arange(5))


class DecodingTest(tf.test.TestCase):
    def test_log_probabilities_are_those_of_the_link(self):
        rng = np.random.default_rng(0)
        for head in HEADS:
            logits = rng.normal(1, 2, (30, head.outputs))
            if head.name == "coral":
                logits = -np.sort(-logits, axis=1)
            probabilities = head.probabilities(logits)
            with self.subTest(head.name):
                self.assertAllClose(np.exp(head.log_probabilities(np.float32(logits))), probabilities, atol=1e-5)
                class_logits = head.class_logits(np.float32(logits))
                self.assertAllClose(keras.ops.softmax(class_logits), probabilities, atol=1e-5)
                self.assertAllClose(np.mean(class_logits, axis=1), np.zeros(30), atol=1e-5)
                self.assertAllEqual(head.grade(probabilities), head.class_of_logits(np.float32(logits)))

    def test_the_grade_is_the_median(self):
        probabilities = [[0.4, 0.05, 0.05, 0.2, 0.3], [0.6, 0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0.4, 0.6]]
        for head in HEADS:
            self.assertAllEqual(head.grade(probabilities), [2, 0, 4])

    def test_labels(self):
        columns = {"grade": np.array([0, 4, -1])}
        for head in HEADS:
            self.assertAllEqual(head.targets(columns), [[0], [4], [-1]])
            self.assertAllEqual(head.has_label(columns), [True, True, False])
            names = [head.target_name(target) for target in head.targets(columns)]
            self.assertEqual(names, [GRADES[0], GRADES[4], "unknown"])

    def test_metrics(self):
        """Grades 0, 1, 3 and 4 as predicted, grade 2 one too high; an unknown grade does not count."""
        numbers = np.float32([[0], [1], [3], [3], [4], [0]])
        cumulative = 9 * (numbers - np.arange(4, dtype=np.float32) - 0.5)
        targets = np.float32([[0], [1], [2], [3], [4], [-1]])
        for head, logits in zip(HEADS, (cumulative, cumulative, numbers), strict=True):
            got = computed_metrics(head, targets, logits)
            with self.subTest(head.name):
                self.assertAllClose([got["accuracy"], got["balanced_accuracy"]], [0.8, 0.8])
                self.assertAllClose(got["quadratic_kappa"], 1 - 1 / 21)  # sum of w O: 1; of w E: 105 / 5
                self.assertAllClose(got["auroc"], 1.0, atol=1e-3)
                self.assertEqual(got, computed_metrics(head, targets[:5], logits[:5]))

    def test_evidence(self):
        """P(grade > k) = 0.75, 0.5, 0.5, 0.25."""
        evidence = Coral(positive="vision_threatening").evidence(np.float32([[LN3, 0, 0, -LN3]]))
        names = [*GRADES, *(f"grade >= {k}" for k in range(1, 5)), "positive"]
        self.assertEqual(list(evidence), names)
        for name, expected in {"grade >= 1": LN3, "grade >= 2": 0, "grade >= 4": -LN3, "positive": 0}.items():
            self.assertAllClose(evidence[name], [expected], atol=1e-5)
        self.assertAllClose(evidence["no DR"] - evidence["mild NPDR"], [0], atol=1e-5)  # 0.25 each

    def test_evidence_of_a_confident_prediction_has_a_gradient(self):
        for head in HEADS:
            logits = tf.Variable(np.full((1, head.outputs), 30, np.float32) - np.arange(head.outputs, dtype=np.float32))
            for name in (GRADES[4], "grade >= 1", "positive"):
                with tf.GradientTape() as tape:
                    evidence = head.evidence(logits)[name]
                gradient = np.abs(tape.gradient(evidence, logits)).sum()
                with self.subTest(f"{head.name}, {name}"):
                    self.assertTrue(np.isfinite(gradient) and gradient > 0.5, gradient)


class ConfigTest(tf.test.TestCase):
    def test_a_wrong_number_of_weights_is_refused(self):
        for kind in (Coral, Corn):
            with self.assertRaisesRegex(UserError, f"{kind.name}.importance_weights needs 4 weights.* got 2"):
                kind(importance_weights=(1, 2))

    def test_definition_that_a_grade_cannot_decide_is_refused(self):
        for kind in map(type, HEADS):
            with self.assertRaisesRegex(
                UserError, f"the {kind.name} head cannot decide 'referable_dme'; it can decide"
            ):
                kind(positive="referable_dme")


if __name__ == "__main__":
    tf.test.main()
