"""AUROC of log-odds: values computed by hand, and those of scikit-learn."""

import numpy as np
import sklearn.metrics
import tensorflow as tf
from keras import ops

from dr_tf.metrics.auroc import AUROC


def area(true, z, weights=None, batch=32):
    flat = {"positive": lambda y: ops.reshape(y, (-1,)), "log_odds": lambda z: ops.reshape(z, (-1,))}
    metric = AUROC(**flat)
    for i in range(0, len(true), batch):
        part = slice(i, i + batch)
        metric.update_state(
            np.float32(true[part])[:, None], np.float32(z[part])[:, None], None if weights is None else weights[part]
        )
    return float(metric.result())


class AurocTest(tf.test.TestCase):
    def test_by_hand(self):
        """Three of the four pairs of a positive and a negative are in order."""
        self.assertAllClose(area([0, 0, 1, 1], [-2.0, 1.0, 0.5, 3.0]), 3 / 4, atol=1e-3)

    def test_same_as_scikit_learn(self):
        rng = np.random.default_rng(0)
        true = rng.random(1003) < 0.3
        for centre, spread in ((0, 1), (0, 12), (-9, 6)):  # an unsure, a confident and a shifted network
            with self.subTest(centre=centre, spread=spread):
                z = centre + spread * (rng.normal(size=1003) + true)
                self.assertAllClose(area(true, z), sklearn.metrics.roc_auc_score(true, z), atol=1e-3)

    def test_weighted(self):
        rng = np.random.default_rng(1)
        true, weights = rng.random(500) < 0.5, rng.uniform(0.1, 4, 500)
        z = rng.normal(size=500) + true
        expected = sklearn.metrics.roc_auc_score(true, z, sample_weight=weights)
        self.assertAllClose(area(true, z, weights), expected, atol=1e-3)

    def test_unknown_labels_do_not_count(self):
        """The fourth example would be ranked wrong, and has the largest weight."""
        flat = {"positive": lambda y: ops.reshape(y, (-1,)), "log_odds": lambda z: ops.reshape(z, (-1,))}
        targets, logits = np.float32([[0], [1], [1], [-1]]), np.float32([[0], [1], [-1], [9]])
        for weights, expected in ((None, 1 / 2), (np.float32([1, 3, 1, 50]), 3 / 4)):
            metric = AUROC(known=lambda y: ops.reshape(y, (-1,)) >= 0, **flat)
            metric.update_state(targets, logits, weights)
            self.assertAllClose(metric.result(), expected, atol=1e-3)

    def test_scores_that_saturate_a_sigmoid_keep_their_order(self):
        true, z = [0] * 50 + [1] * 50, np.r_[np.linspace(20, 24, 50), np.linspace(30, 35, 50)]
        self.assertAllClose(area(true, z), 1.0, atol=1e-3)
