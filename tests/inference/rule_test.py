import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dr_tf.console import UserError
from dr_tf.inference.calibration import Calibration, logits_of
from dr_tf.inference.fitting import Truth, fit_rule
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.rule import Mode, Rule
from dr_tf.inference.rule_file import read_rule, write_rule
from tests.inference import heads

NATURAL = np.array([0.7, 0.1, 0.1, 0.06, 0.04])


def point(threshold):
    return OperatingPoint(threshold=threshold, guaranteed=True, note="")


def binary_rule(threshold=0.5, **others):
    calibration = Calibration("sigmoid", (2.0,), (0.0,))
    mode = Mode(calibration, (0.5, 0.5), {"sensitivity_0.9": point(threshold)})
    return Rule(heads.Binary(), (0.9, 0.1), "train", "sensitivity_0.9", {"plain": mode}, **others)


def drawn(head, patients, rng):
    """(logits, grades, patients): two eyes a patient, logits sharper than they should be and under a prior of their own."""
    severity = rng.choice(5, patients, p=NATURAL)
    grades = np.clip(severity[:, None] - rng.integers(0, 2, (patients, 2)) * (severity[:, None] > 0), 0, 4).ravel()
    latent = grades + rng.normal(0, 0.8, 2 * patients)
    density = np.exp(-((latent[:, None] - np.arange(5)) ** 2) / 2 / 0.8**2) + 1e-12
    logits = logits_of(head.calibration, density / density.sum(axis=1, keepdims=True), head.outputs)
    if head.calibration == "coral":
        logits = 1.5 * latent[:, None] - 1.5 * np.arange(4)
    return 2 * logits, grades, np.arange(patients).repeat(2).astype(str)


def truth_of(head, grades, patients):
    strata = (grades >= 2).astype(int) if isinstance(head, heads.Binary) else grades
    return Truth(strata, (grades >= 2).astype(int), patients)


def fitted(head, patients=300, seed=0, **others):
    logits, grades, names = drawn(head, patients, np.random.default_rng(seed))
    prior = [0.8, 0.2] if isinstance(head, heads.Binary) else NATURAL
    return fit_rule(head, {"plain": logits}, truth_of(head, grades, names), train_prior=prior, **others), logits, grades


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


class FitTest(unittest.TestCase):
    def test_every_head_is_calibrated(self):
        for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Binary()):
            with self.subTest(head.name):
                rule, logits, grades = fitted(head)
                report = rule.modes["plain"].report
                self.assertLess(report["ece"]["after"]["p_positive"], report["ece"]["before"]["p_positive"])
                p = head.p_positive(rule.probabilities(logits))
                self.assertAlmostEqual(p.mean(), (grades >= 2).mean(), delta=0.03)
                self.assertEqual((report["photographs"], report["patients"]), (600, 300))

    def test_points_go_by_patient(self):
        rule, logits, grades = fitted(heads.Softmax())
        worst = grades.reshape(-1, 2).max(axis=1) >= 2
        scores = rule.head.p_positive(rule.probabilities(logits)).reshape(-1, 2).max(axis=1)
        found = rule.modes["plain"].points["sensitivity_0.9"]
        self.assertTrue(found.guaranteed)
        self.assertAlmostEqual(found.sensitivity, (scores[worst] >= found.threshold).mean())
        self.assertAlmostEqual(found.specificity, (scores[~worst] < found.threshold).mean())
        self.assertEqual(rule.modes["plain"].report["positive_patients"], worst.sum())

    def test_cuts_are_kept_only_where_they_grade_unseen_patients_better(self):
        rule, _, _ = fitted(heads.Softmax())
        mode = rule.modes["plain"]
        self.assertEqual(mode.cuts is not None, mode.report["kappa"]["cuts"] > mode.report["kappa"]["plain"])
        self.assertIsNone(fitted(heads.Binary())[0].modes["plain"].cuts)

    def test_the_prior_is_one_line_and_moves_all_modes(self):
        head = heads.Softmax()
        logits, grades, names = drawn(head, 200, np.random.default_rng(0))
        modes = {"plain": logits, "knn": logits / 3}
        for prior, mean in (("uniform", 0.6), (0.05, 0.05)):
            rule = fit_rule(head, modes, truth_of(head, grades, names), train_prior=NATURAL, prior=prior)
            self.assertAlmostEqual(sum(rule.prior[2:]), mean)
            self.assertEqual(rule.prior_name, str(prior))
            by_mode = [head.p_positive(rule.probabilities(modes[name], name)) for name in modes]
            np.testing.assert_allclose(*by_mode, atol=0.02)

    def test_multi_label(self):
        rng, head = np.random.default_rng(0), heads.MultiLabel()
        labels = (rng.random((400, 3)) < [0.5, 0.3, 0.1]).astype(int)
        labels[:50, 2] = -1
        logits = 3 * (2 * labels - 1 + rng.normal(0, 1, labels.shape))
        truth = Truth(labels, labels[:, 1], np.arange(400))
        rule = fit_rule(head, {"plain": logits}, truth, train_prior=[0.5, 0.3, 0.1])
        report = rule.modes["plain"].report
        self.assertLess(report["ece"]["after"]["p_positive"], report["ece"]["before"]["p_positive"])
        (decision,) = rule.decide(logits[:1], photographs=["a"])
        self.assertEqual(decision.p_positive, decision.probabilities["D"])
        self.assertIsNone(decision.grade)

    def test_a_split_without_truth_still_gives_a_rule_that_promises_nothing(self):
        head, nothing = heads.Softmax(), np.full(4, -1)
        truth = Truth(nothing, nothing, np.arange(4))
        rule = fit_rule(head, {"plain": np.zeros((4, 5))}, truth, train_prior=NATURAL, learned_prior=np.full(5, 0.2))
        mode = rule.modes["plain"]
        self.assertEqual((mode.calibration, mode.points["youden"].threshold), (Calibration(), 0.5))
        np.testing.assert_allclose(rule.probabilities(np.zeros((1, 5))), [NATURAL])
        empty = Truth(nothing[:0], nothing[:0], np.array([], str))
        fit_rule(head, {"plain": np.zeros((0, 5))}, empty, train_prior=NATURAL)

    def test_few_patients_are_enough_for_a_rule(self):
        for patients in (1, 2, 3, 8):
            rule, _, _ = fitted(heads.Coral(), patients=patients)
            self.assertFalse(rule.modes["plain"].points["sensitivity_0.9"].guaranteed)

    def test_the_gates_limit_is_of_the_calibration_split(self):
        rule, _, _ = fitted(heads.Softmax(), patients=100, distances=np.arange(200))
        self.assertEqual(rule.distance_limit, 198)  # rank ceil(0.99 * 201)

    def test_mistakes_in_what_is_wanted(self):
        for wanted, said in (
            ({"point": "sensitivity_0.8"}, "known: sensitivity_0.9"),
            ({"points": (("recall", 0.9),), "point": "recall_0.9"}, "known: sensitivity, specificity, youden"),
            ({"points": (("sensitivity", 90),), "point": "sensitivity_90"}, "between 0 and 1"),
        ):
            with self.subTest(wanted), self.assertRaisesRegex(UserError, said):
                fitted(heads.Softmax(), patients=20, **wanted)

    @pytest.mark.slow
    def test_the_promise_holds_with_calibration_fitted_on_the_same_patients(self):
        head, rng, low, draws = heads.Softmax(), np.random.default_rng(0), 0, 1000
        everybody, grades, _ = drawn(head, 100_000, rng)
        positive = grades.reshape(-1, 2).max(axis=1) >= 2
        for draw in range(draws):
            rule, _, _ = fitted(head, patients=200, seed=1000 + draw, points=(("sensitivity", 0.9),))
            scores = head.p_positive(rule.probabilities(everybody)).reshape(-1, 2).max(axis=1)
            low += (scores[positive] >= rule.modes["plain"].points["sensitivity_0.9"].threshold).mean() < 0.9
        print(f"broken in {low / draws:.2%}")
        self.assertLess(low / draws, 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5)


class FileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "decision.json"

    def test_what_comes_back_decides_the_same_to_the_last_bit(self):
        for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Binary()):
            rule, logits, _ = fitted(head, patients=30, distances=np.arange(60))
            write_rule(self.path, rule)
            again = read_rule(self.path, heads.HEADS)
            with self.subTest(head.name):
                self.assertEqual(
                    again.decide(logits, photographs=range(60)), rule.decide(logits, photographs=range(60))
                )
                self.assertEqual(again.modes, rule.modes)

    def test_what_is_broken_is_said_in_one_line(self):
        write_rule(self.path, fitted(heads.Softmax(), patients=60)[0])
        whole = self.path.read_text()

        def broken(*place, value):
            document = json.loads(whole)
            part = document
            for step in place[:-1]:
                part = part[step]
            part[place[-1]] = value
            return json.dumps(document)

        mode = ("modes", "plain")
        for text, said in {
            "": "no decision file",
            whole[:200]: "no decision file",
            "[" * 100000: "no decision file",
            "[]": "no JSON object",
            "{}": "version None",
            broken("version", value=2): "version 2; this program reads version 1",
            broken("head", "name", value="os.system"): "unknown head 'os.system'; known: softmax",
            broken("head", "config", value={"x": 1}): "cannot be used",
            broken("positive", value="any_dr"): "another definition of positive",
            broken("operating_point", value="best"): "unknown operating point 'best'",
            broken("prior", "shares", value=[0.5, 0.5]): "one share above 0",
            broken("prior", value={}): "'shares' is missing",
            broken(*mode, "calibration", "slope", value=[-1]): "positive slopes",
            broken(*mode, "calibration", "bias", value=[0.0]): "1 logits, the head 5",
            broken(*mode, "calibration", "bias", value=["0"] * 5): "stands where a number belongs",
            broken(*mode, "cuts", value=[3, 2, 1, 0]): "rising",
            broken(*mode, "points", "youden", "threshold", value=None): "stands where a number belongs",
            broken(*mode, "points", "youden", "surprise", value=1): "cannot be used",
            broken("gates", "distance_limit", value="far"): "stands where a number belongs",
            whole.replace('"gradable_from": 0.5', '"gradable_from": NaN'): "NaN is no number",
        }.items():
            self.path.write_text(text)
            with self.subTest(said), self.assertRaisesRegex(UserError, said) as caught:
                read_rule(self.path, heads.HEADS)
            self.assertNotIn("\n", str(caught.exception))

    def test_an_absent_file(self):
        with self.assertRaisesRegex(UserError, "no decision file that can be read"):
            read_rule(self.path, heads.HEADS)


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
