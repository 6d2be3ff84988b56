"""Confusion-matrix metrics: values computed by hand, and those of scikit-learn."""

import warnings

import keras
import numpy as np
import sklearn.metrics
import tensorflow as tf
from keras import ops

from dr_tf.metrics.confusion import Accuracy, BalancedAccuracy, QuadraticKappa, Recall


def updated(kind, true, predicted, *, classes=5, weights=None, batch=None, **options):
    """The metric after all batches."""
    metric = kind(classes, true=lambda numbers: numbers, predicted=lambda numbers: numbers, **options)
    size = batch or len(true)
    for i in range(0, len(true), size):
        part = slice(i, i + size)
        metric.update_state(
            np.array(true[part]), np.array(predicted[part]), None if weights is None else np.array(weights[part])
        )
    return metric


class ByHandTest(tf.test.TestCase):
    def test_matrix_counts_true_by_predicted(self):
        metric = updated(Accuracy, [0, 0, 1, 2], [0, 1, 1, 0], classes=3)
        self.assertAllEqual(metric.matrix, [[1, 1, 0], [0, 1, 0], [1, 0, 0]])
        self.assertAllClose(metric.result(), 0.5)

    def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur(self):
        self.assertAllClose(updated(BalancedAccuracy, [0, 0, 0, 0, 4], [0, 0, 0, 1, 3]).result(), (0.75 + 0) / 2)

    def test_quadratic_kappa(self):
        """Observed 2; expected from the margins (2, 1, 1) and (1, 1, 2) of n = 4: (2*1*1 + 2*2*4 + 1*1*1 + 1*2*1 + 1*1*4 + 1*1*1) / 4 = 6.5."""
        metric = updated(QuadraticKappa, [0, 0, 1, 2], [0, 1, 2, 2], classes=3)
        self.assertAllClose(metric.result(), 1 - 2 / 6.5)

    def test_sensitivity_and_specificity(self):
        true, predicted = [1, 1, 1, 0, 0], [1, 0, 1, 0, 1]
        self.assertAllClose(updated(Recall, true, predicted, classes=2, class_number=1).result(), 2 / 3)
        self.assertAllClose(updated(Recall, true, predicted, classes=2, class_number=0).result(), 1 / 2)

    def test_weights(self):
        metric = updated(Accuracy, [0, 1, 1], [0, 1, 0], weights=[1.0, 0.5, 2.5], classes=2)
        self.assertAllClose(metric.matrix, [[1, 0], [2.5, 0.5]])
        self.assertAllClose(metric.result(), 1.5 / 4)

    def test_unknown_labels_do_not_count(self):
        metric = updated(Accuracy, [0, -1, 1, -1], [0, 0, 0, 1], classes=2)
        self.assertAllEqual(metric.matrix, [[1, 0], [1, 0]])
        self.assertAllClose(metric.result(), 0.5)
        weighted = updated(BalancedAccuracy, [0, -1, 1], [0, 0, 0], classes=2, weights=[1.0, 9.0, 2.0])
        self.assertAllClose(weighted.result(), 0.5)

    def test_no_data_or_a_single_class(self):
        for kind in (Accuracy, BalancedAccuracy, QuadraticKappa):
            self.assertAllEqual(updated(kind, [], [], batch=1).result(), 0)
        self.assertAllEqual(updated(QuadraticKappa, [3, 3], [3, 3]).result(), 0)

    def test_reset(self):
        metric = updated(Accuracy, [0, 1], [0, 0], classes=2)
        metric.reset_state()
        self.assertAllEqual(metric.matrix, np.zeros((2, 2)))


class ScikitLearnTest(tf.test.TestCase):
    def test_same_values_with_a_partial_last_batch_and_weights(self):
        rng = np.random.default_rng(0)
        true, weights = rng.choice(5, 103, p=[0.5, 0.1, 0.2, 0.15, 0.05]), rng.uniform(0.2, 3, 103)
        predicted = np.clip(true + rng.integers(-2, 3, 103), 0, 4)
        for sample_weight in (None, weights):
            options = {"weights": sample_weight, "batch": 16}
            expected = {
                Accuracy: sklearn.metrics.accuracy_score(true, predicted, sample_weight=sample_weight),
                BalancedAccuracy: sklearn.metrics.balanced_accuracy_score(true, predicted, sample_weight=sample_weight),
                QuadraticKappa: sklearn.metrics.cohen_kappa_score(
                    true, predicted, weights="quadratic", sample_weight=sample_weight
                ),
            }
            for kind, value in expected.items():
                with self.subTest(kind=kind.__name__, weighted=sample_weight is not None):
                    self.assertAllClose(updated(kind, true, predicted, **options).result(), value, rtol=1e-5)

    def test_classes_that_do_not_occur(self):
        true, predicted = [0, 0, 2, 2], [0, 1, 2, 4]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = sklearn.metrics.balanced_accuracy_score(true, predicted)
        self.assertAllClose(updated(BalancedAccuracy, true, predicted).result(), expected)

    def test_over_an_epoch_of_fit_and_evaluate(self):
        """Keras' own loop: a last batch of 1, and a reset at every epoch."""
        true = np.array([0, 1, 2, 1, 0])
        model = keras.Sequential([keras.Input((3,)), keras.layers.Activation("linear")])
        numbers = {"true": lambda y: ops.reshape(y, (-1,)), "predicted": lambda y: ops.argmax(y, axis=-1)}
        model.compile(
            loss="sparse_categorical_crossentropy",
            metrics=[QuadraticKappa(3, name="kappa", **numbers)],
            run_eagerly=True,
        )
        predicted = np.array([0, 2, 2, 1, 1])
        expected = sklearn.metrics.cohen_kappa_score(true, predicted, weights="quadratic")
        for _ in range(2):
            logs = model.evaluate(np.eye(3)[predicted], true[:, None], batch_size=2, verbose=0, return_dict=True)
            self.assertAllClose(logs["kappa"], expected)
