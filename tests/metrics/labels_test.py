"""Macro F1 and macro AUROC: values computed by hand, and those of scikit-learn."""

import warnings

import numpy as np
import sklearn.metrics
import tensorflow as tf

from dr_tf.metrics.labels import AUROCMacro, F1Macro


def updated(metric, truth, logits, *, weights=None, batch=None):
    truth, logits = np.float32(truth), np.float32(logits)
    for i in range(0, len(truth), batch or len(truth)):
        part = slice(i, i + (batch or len(truth)))
        metric.update_state(truth[part], logits[part], None if weights is None else weights[part])
    return float(metric.result())


def random_data(n=503, labels=4, unknown=0.2):
    rng = np.random.default_rng(0)
    truth = (rng.random((n, labels)) < [0.5, 0.3, 0.1, 0.05]).astype(int)
    logits = 3 * (rng.normal(0, 1, (n, labels)) + truth - 0.3)
    return np.where(rng.random((n, labels)) < unknown, -1, truth), logits, rng.uniform(0.2, 3, n)


def by_scikit_learn(metric, truth, scores, weights=None):
    """Mean over labels of the metric on the rows whose label is known."""
    values = []
    for label in range(truth.shape[1]):
        known = truth[:, label] >= 0
        values.append(
            metric(truth[known, label], scores[known, label], sample_weight=None if weights is None else weights[known])
        )
    return np.mean(values)


class F1Test(tf.test.TestCase):
    def test_by_hand(self):
        """(TP, FP, FN): (1, 1, 0) for the first label, (1, 0, 1) for the second; the third is never present: F1 = 0."""
        truth, logits = [[1, 1, 0], [0, 1, 0], [-1, 0, 0]], [[2, 3, -1], [1, -1, -1], [9, -2, -1]]
        self.assertAllClose(updated(F1Macro(3), truth, logits), (2 / 3 + 2 / 3 + 0) / 3)

    def test_same_as_scikit_learn(self):
        truth, logits, weights = random_data()
        for sample_weight in (None, weights):
            expected = by_scikit_learn(sklearn.metrics.f1_score, truth, logits > 0, sample_weight)
            self.assertAllClose(
                updated(F1Macro(4), truth, logits, weights=sample_weight, batch=64), expected, rtol=1e-5
            )
        known = np.maximum(truth, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = sklearn.metrics.f1_score(known, logits > 0, average="macro")
        self.assertAllClose(updated(F1Macro(4), known, logits), whole, rtol=1e-5)

    def test_reset(self):
        metric = F1Macro(1)
        updated(metric, [[1]], [[5]])
        metric.reset_state()
        self.assertEqual(float(metric.result()), 0)


class AUROCTest(tf.test.TestCase):
    def test_by_hand(self):
        """First label: three of four pairs in order; second: two equal scores; the third is always present."""
        truth = [[0, 1, 1], [0, 0, 1], [1, -1, 1], [1, -1, -1]]
        logits = [[-2, 3, 0], [1, 3, 1], [0.5, 9, 2], [3, 9, 3]]
        self.assertAllClose(updated(AUROCMacro(3), truth, logits), (3 / 4 + 1 / 2) / 2, atol=1e-6)

    def test_same_as_scikit_learn(self):
        truth, logits, weights = random_data()
        for sample_weight in (None, weights):
            expected = by_scikit_learn(sklearn.metrics.roc_auc_score, truth, logits, sample_weight)
            self.assertAllClose(
                updated(AUROCMacro(4), truth, logits, weights=sample_weight, batch=64), expected, atol=2e-3
            )

    def test_scores_that_saturate_a_sigmoid_keep_their_order(self):
        logits = np.r_[np.linspace(20, 24, 50), np.linspace(30, 35, 50)][:, None]
        self.assertAllClose(updated(AUROCMacro(1), np.repeat([[0], [1]], 50, axis=0), logits), 1.0, atol=1e-3)

    def test_0_if_no_label_is_both_present_and_absent(self):
        self.assertEqual(updated(AUROCMacro(2), [[1, -1], [1, 0]], [[1, 2], [3, 4]]), 0)

    def test_extreme_scores(self):
        self.assertAllClose(updated(AUROCMacro(1), [[0], [1]], [[-1e30], [1e30]]), 1.0)


if __name__ == "__main__":
    tf.test.main()
