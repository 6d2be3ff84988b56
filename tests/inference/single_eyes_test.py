"""Predictions for each eye alone, their combinations, and what decisions and tables show of them."""

import dataclasses
import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule
from dr_tf.inference.formats import as_dict
from dr_tf.inference.modes import RequestedModes, score_batches, score_images
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule_file import read_rule, write_rule
from dr_tf.inference.single_eyes import COMBINATIONS, eye_probabilities
from dr_tf.models.links import scores_to_probabilities
from tests.inference import heads
from tests.inference.formats_test import lines, rows

HEAD = heads.MultiLabel()
MODES = ("plain", "one_eye", "mean_eye", "worse_eye")


class SumOfEyes:
    """A network whose logits are the sum over the eyes that are present of their first pixel."""

    width = 1

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        logits = sum(x[eye][:, 0, 0].astype(np.float32) * x[f"{eye}_present"][:, None] for eye in ("left", "right"))
        return {"labels": logits}, logits[:, :1]

    def members(self, features):
        return None


def pairs():
    """Logits of three labels: of both eyes, of a left eye only, of a right eye only."""
    left, right = np.zeros((2, 3, 1, 1, 3), np.float32)
    left[:, 0, 0], right[:, 0, 0] = [[2, -1, 0], [1, 1, 1], [9, 9, 9]], [[-2, 3, 0], [9, 9, 9], [-1, 0, 1]]
    present = {"left_present": np.array([True, True, False]), "right_present": np.array([True, False, True])}
    return {"left": left, "right": right} | present


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, float)))


class SingleEyesTest(unittest.TestCase):
    def setUp(self):
        self.requested = RequestedModes.from_names(MODES, {"labels": HEAD}, "labels")

    def test_modes_by_hand(self):
        network = SumOfEyes()
        scored = score_images(network, self.requested, pairs())
        self.assertEqual((network.calls, self.requested.passes), (3, 3))
        left, right = sigmoid([2, -1, 0]), sigmoid([-2, 3, 0])
        alone = sigmoid([1, 1, 1]), sigmoid([-1, 0, 1])
        expected = {
            "plain": sigmoid([0, 2, 0]),
            "one_eye": left,
            "mean_eye": (left + right) / 2,
            "worse_eye": sigmoid([2, 3, 0]),
        }
        for mode, of_both in expected.items():
            with self.subTest(mode):
                probabilities = scores_to_probabilities("labels", scored.scores[mode], 3)
                np.testing.assert_allclose(probabilities, [of_both, *alone], atol=1e-6)
        np.testing.assert_allclose(scored.eye_probabilities["left"], [left, alone[0], [np.nan] * 3], atol=1e-6)
        np.testing.assert_allclose(scored.eye_probabilities["right"], [right, [np.nan] * 3, alone[1]], atol=1e-6)

    def test_batches_and_no_batch(self):
        twice = score_batches(SumOfEyes(), self.requested, [(pairs(),), (pairs(),)])
        self.assertEqual(twice.eye_probabilities["left"].shape, (6, 3))
        none = score_batches(SumOfEyes(), self.requested, [])
        self.assertEqual({mode: scores.shape for mode, scores in none.scores.items()}, dict.fromkeys(MODES, (0, 3)))

    def test_the_worse_eye_of_exclusive_classes(self):
        """The whole distribution of the eye with the higher probability of grade 2, so that it still adds up to 1."""
        head = heads.Softmax(("0", "1", "2"))
        by_eye = {"left": np.array([[0.5, 0.1, 0.4]]), "right": np.array([[0.1, 0.6, 0.3]])}
        worse = "left" if head.p_positive(by_eye["left"])[0] > head.p_positive(by_eye["right"])[0] else "right"
        np.testing.assert_array_equal(COMBINATIONS["worse_eye"](by_eye, head), by_eye[worse])

    def test_a_network_of_single_images_is_refused(self):
        with self.assertRaisesRegex(UserError, "need a network that takes both eyes"):
            eye_probabilities(SumOfEyes(), np.zeros((1, 2, 2, 3)), HEAD, "labels")


class DecisionTest(unittest.TestCase):
    def setUp(self):
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, (200, 3))
        scores = {mode: 2.0 * truth - 1 + rng.normal(size=(200, 3)) for mode in MODES}
        labels = CalibrationLabels(truth, truth, np.arange(200))
        self.rule = fit_rule({"labels": HEAD}, "labels", scores, labels, train_prior=[0.5] * 3)
        requested = self.rule.requested_modes("plain", "worse_eye")
        self.scored = score_images(SumOfEyes(), requested, pairs())
        self.decisions = self.rule.decide(
            self.scored.scores, cases=["a", "b", "c"], eye_probabilities=self.scored.eye_probabilities
        )

    def test_each_eye_is_calibrated_as_the_worse_one(self):
        both, left, right = self.decisions
        self.assertEqual([list(each.eyes) for each in self.decisions], [["left", "right"], ["left"], ["right"]])
        worse = self.rule.probabilities(self.scored.scores, "worse_eye")
        for i, letter in enumerate(HEAD.classes):
            self.assertAlmostEqual(max(of_eye[letter] for of_eye in both.eyes.values()), worse[0, i])
            self.assertAlmostEqual(left.eyes["left"][letter], worse[1, i])
            self.assertAlmostEqual(right.eyes["right"][letter], worse[2, i])
        (plain,) = self.rule.decide(self.scored.scores["plain"][:1], cases=["a"])
        self.assertEqual(plain, dataclasses.replace(both, eyes={}))

    def test_a_rule_read_back_predicts_from_each_eye(self):
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "decision.json"
        write_rule(path, self.rule, Preparation("a/64-plain-q95-paired", 64, "plain", 95, 64))
        again = read_rule(path, heads.HEADS)[0].requested_modes("worse_eye")
        self.assertEqual(again.passes, 3)
        self.assertEqual(again.modes, self.rule.requested_modes("worse_eye").modes)

    def test_formats(self):
        both, left, _ = self.decisions
        row, alone = rows([both, left], self.rule)
        self.assertEqual(float(row["p(right eye: D)"]), both.eyes["right"]["D"])
        self.assertEqual(alone["p(right eye: D)"], "")
        text = f"p(odir_D) by the left eye {both.eyes['left']['D']:.3f}, right eye {both.eyes['right']['D']:.3f}"
        _, first, second = lines("table", [both, left], self.rule)
        self.assertIn(text, first)
        self.assertNotIn("by the", second)
        self.assertEqual(as_dict(both)["eyes"], both.eyes)

    def test_an_ungradable_case_has_no_eyes(self):
        rule = dataclasses.replace(self.rule, distance_limit=1.0)
        decisions = rule.decide(
            self.scored.scores, cases="abc", distances=[2.0] * 3, eye_probabilities=self.scored.eye_probabilities
        )
        self.assertEqual([(each.action, each.eyes) for each in decisions], [("retake", {})] * 3)


if __name__ == "__main__":
    unittest.main()
