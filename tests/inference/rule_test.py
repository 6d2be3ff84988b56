import dataclasses
import subprocess
import sys
import types
import unittest

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dr_tf.console import UserError
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.rule import Mode, Rule
from tests.inference import heads
from tests.inference.drawn import fitted


def point(threshold):
    return OperatingPoint(threshold=threshold, guaranteed=True, note="")


def binary_rule(threshold=0.5, **others):
    calibration = Calibration("sigmoid", (2.0,), (0.0,))
    mode = Mode(calibration, (0.5, 0.5), {"sensitivity_0.9": point(threshold)})
    return Rule(heads.Binary(), (0.9, 0.1), "train", "sensitivity_0.9", {"plain": mode}, **others)


class DecideTest(unittest.TestCase):
    def test_by_hand(self):
        # logit 2 * ln 2 -> odds 4 under balance; odds 4 / 9 where one in ten is positive.
        (decision,) = binary_rule(0.3).decide([[np.log(2)]], photographs=["a.jpg"])
        self.assertAlmostEqual(decision.p_positive, 4 / 13)
        self.assertEqual((decision.action, decision.grade, decision.gradable), ("refer", None, True))
        self.assertEqual(list(decision.probabilities), ["no", "yes"])
        self.assertAlmostEqual(decision.probabilities["no"], 9 / 13)

    def test_at_the_threshold_is_positive(self):
        p = binary_rule().probabilities([[0.3]])[0, 1]
        for threshold, action in ((p, "refer"), (np.nextafter(p, 1), "clear")):
            self.assertEqual(binary_rule(float(threshold)).decide([[0.3]], photographs=["a"])[0].action, action)

    def test_refer_follows_p_positive_and_not_the_grade(self):
        mode = Mode(Calibration(), tuple([0.2] * 5), {"youden": point(0.3)})
        rule = Rule(heads.Softmax(), (0.2,) * 5, "fitted", "youden", {"plain": mode})
        (decision,) = rule.decide(np.log([[0.4, 0.2, 0.2, 0.1, 0.1]]), photographs=["a"])
        self.assertEqual((decision.grade, decision.action), (0, "refer"))

    def test_cuts_of_the_expected_grade_decide_the_grade(self):
        mode = Mode(Calibration(), (0.2,) * 5, {"youden": point(0.3)}, cuts=(0.5, 1.2, 2.5, 3.5))
        rule = Rule(heads.Softmax(), (0.2,) * 5, "fitted", "youden", {"plain": mode})
        self.assertEqual(rule.decide(np.log([[0.4, 0.2, 0.2, 0.1, 0.1]]), photographs=["a"])[0].grade, 2)

    def test_what_cannot_be_graded_is_taken_again_and_has_no_grade(self):
        quality = types.SimpleNamespace(score=0.2, reason="too dark")
        good = types.SimpleNamespace(score=0.9, reason="")
        rule = binary_rule(0.01, distance_limit=5.0)
        logits = np.array([[3.0]] * 5 + [[np.nan]])
        found = rule.decide(
            logits,
            photographs=list("abcdef"),
            qualities=[quality, good, good, None, good, good],
            distances=[1, 6, 5, 1, np.nan, 1],
        )
        self.assertEqual([d.action for d in found], ["retake", "retake", "refer", "refer", "retake", "retake"])
        self.assertEqual(
            [d.reason for d in found[:3]], ["too dark", "unlike the photographs that the network learned from", ""]
        )
        self.assertEqual((found[5].reason, found[5].p_positive), ("the network gave no number", None))

    def test_unknown_names_list_the_known(self):
        with self.assertRaisesRegex(UserError, "known: plain"):
            binary_rule().decide([[0.0]], photographs=["a"], mode="tta4")
        with self.assertRaisesRegex(UserError, "known: sensitivity_0.9"):
            Rule(heads.Binary(), (0.5, 0.5), "train", "youden", binary_rule().modes)

    @given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
    @settings(max_examples=100, deadline=None)
    def test_another_prevalence_moves_p_and_refers_the_same(self, logit, cut, before, after):
        assume(abs(logit - cut) > 1e-6)
        rule = Rule(
            heads.Binary(),
            (1 - before, before),
            "train",
            "youden",
            {"plain": Mode(Calibration(), (0.5, 0.5), {"youden": point(0.5)})},
        )
        threshold = point(float(rule.probabilities([[cut]])[0, 1]))
        rule = dataclasses.replace(rule, modes={"plain": Mode(Calibration(), (0.5, 0.5), {"youden": threshold})})
        moved = rule.at_prevalence(after)
        np.testing.assert_allclose(moved.prior, [1 - after, after])
        self.assertEqual(*(r.decide([[logit]], photographs=["a"])[0].action for r in (rule, moved)))

    def test_another_prevalence_with_five_grades(self):
        rule, logits, _ = fitted(heads.Softmax())
        moved = rule.at_prevalence(0.02)
        clear_cut = (
            abs(rule.head.p_positive(rule.probabilities(logits)) - rule.modes["plain"].points[rule.point].threshold)
            > 1e-9
        )
        actions = [
            [d.action for d in r.decide(logits[clear_cut], photographs=range(clear_cut.sum()))] for r in (rule, moved)
        ]
        self.assertEqual(*actions)
        self.assertLess(moved.probabilities(logits)[:, 2:].sum(), rule.probabilities(logits)[:, 2:].sum())


class LightTest(unittest.TestCase):
    def test_serving_loads_numpy_and_opencv_only(self):
        code = (
            "import importlib, sys\n"
            "for m in ('rule_file', 'rule', 'decision', 'patients', 'formats', 'neighbours', 'gate', 'fitting'):\n"
            "    importlib.import_module('dr_tf.inference.' + m)\n"
            "print(sorted(set(sys.modules) & {'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'tqdm', 'pandas'}))"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(found.stdout.strip(), "[]")


if __name__ == "__main__":
    unittest.main()
