"""Checks of an experiment before anything is built, and losses of examples without a label."""

import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.models.heads import HEADS
from dr_tf.training.experiment import Experiment

SOFTMAX, EDEMA, LABELS, BINARY = (HEADS[name] for name in ("softmax", "edema", "multi_label", "binary"))


def experiment(**options):
    return Experiment(**{"dataset": "a/b", "heads": {"grade": SOFTMAX()}, "model": None} | options)


class ExperimentTest(unittest.TestCase):
    def _refused(self, expected, **options):
        with self.assertRaisesRegex(UserError, expected) as caught:
            experiment(**options)
        self.assertNotIn("\n", str(caught.exception))

    def test_invalid_heads(self):
        self._refused("train.heads names no output; it is {output: head}", heads={})

    def test_invalid_output_names(self):
        for name in ("features", "members_grade", "a/b", "1st", "plain", "knn", "tta4", ""):
            self._refused("an output cannot be called", heads={name: SOFTMAX()})
        self.assertEqual(experiment(heads={"risk_of_edema2": EDEMA()}).deciding_output, "risk_of_edema2")

    def test_a_multi_label_output_has_to_decide(self):
        heads = {"sick": BINARY(), "labels": LABELS()}
        self._refused("the multi-label output 'labels' has to decide", heads=heads)
        self.assertEqual(experiment(heads=heads, decides="labels").deciding_output, "labels")


class UnknownLabelTest(unittest.TestCase):
    def test_the_loss_of_an_unknown_label_is_finite(self):
        """Its weight is 0, but 0 times NaN would be NaN."""
        for gamma in (None, 1.5, 2.0):
            loss = BINARY(focal_gamma=gamma).loss()
            targets, logits = np.float32([[-1], [1], [0]]), np.float32([[2.0], [0.5], [0.5]])
            whole = loss(targets, logits, sample_weight=np.float32([0, 1, 1]))
            known = loss(targets[1:], logits[1:])
            self.assertAlmostEqual(float(whole), float(known) * 2 / 3, places=6)

    def test_focal_loss_by_hand(self):
        """At a logit of 0 both probabilities are one half: (1 / 2)**gamma * log 2."""
        loss = BINARY(focal_gamma=1.5).loss()
        self.assertAlmostEqual(float(loss(np.float32([[1]]), np.float32([[0.0]]))), 0.5**1.5 * np.log(2), places=6)


if __name__ == "__main__":
    unittest.main()
