import dataclasses
import subprocess
import sys
import unittest

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dr_tf.console import UserError
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.decision import ImageInfo, LabelDecision
from dr_tf.inference.fit_rule import fit_rule
from dr_tf.inference.modes import ModeDefinition
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.rule import NOT_FINITE, OUT_OF_DISTRIBUTION, UNFAMILIAR, Mode, OtherOutput, Rule
from tests.inference import heads
from tests.inference.synthetic_patients import NATURAL, fit_example_rule, fit_label_rule, labels_of, sample_scores

LN2, LN3 = np.log(2), np.log(3)
LABELS = ("odir_N", "odir_D", "odir_G")
GOOD = ImageInfo("a.jpg", 0.9)


def point(threshold):
    return OperatingPoint(threshold=threshold, guaranteed=True, note="")


def mode_of(head, threshold, prior, *, point_name="youden", calibration=None, **others):
    """A mode with the same threshold for each definition."""
    points = {definition: {point_name: point(threshold)} for definition in head.definitions}
    return Mode(calibration or Calibration(head.link), prior, points, **others)


def rule_of(head, mode, prior, **others):
    others = {"operating_point_name": "youden", "heads": {"": head}, "decides": "", **others}
    return Rule(prior=prior, prior_name="train", modes={"plain": mode}, **others)


def binary_rule(threshold=0.5, **others):
    calibration = Calibration("binary", (2.0,), (0.0,))
    mode = mode_of(heads.Binary(), threshold, (0.5, 0.5), calibration=calibration)
    return rule_of(heads.Binary(), mode, (0.9, 0.1), **others)


def graded_rule(threshold=0.3, prior=(0.2,) * 5, **others):
    return rule_of(heads.Softmax(), mode_of(heads.Softmax(), threshold, prior, **others), prior)


def label_rule(**thresholds):
    points = {f"odir_{label}": {"youden": point(threshold)} for label, threshold in thresholds.items()}
    mode = Mode(Calibration("labels"), (0.5, 0.5, 0.5), points)
    return rule_of(heads.MultiLabel(), mode, (0.5, 0.5, 0.2))


class DecideTest(unittest.TestCase):
    def test_by_hand(self):
        # logit 2 * ln 2 -> odds 4 at equal class shares; odds 4 / 9 at a prevalence of 0.1.
        (decision,) = binary_rule(0.3).decide([[LN2]], cases=["a.jpg"])
        self.assertAlmostEqual(decision.p_positive, 4 / 13)
        self.assertEqual((decision.action, decision.grade, decision.gradable), ("refer", None, True))
        self.assertEqual(decision.label_decisions, {"referable": LabelDecision(decision.p_positive, 0.3, yes=True)})
        self.assertEqual(list(decision.probabilities), ["no", "yes"])
        self.assertAlmostEqual(decision.probabilities["no"], 9 / 13)
        self.assertEqual((decision.case, decision.images, decision.missing), ("a.jpg", {}, ()))

    def test_at_the_threshold_is_positive(self):
        p = binary_rule().probabilities({"plain": [[0.3]]})[0, 1]
        for threshold, action in ((p, "refer"), (np.nextafter(p, 1), "clear")):
            self.assertEqual(binary_rule(float(threshold)).decide([[0.3]], cases=["a"])[0].action, action)

    def test_the_action_follows_p_positive_and_not_the_grade(self):
        (decision,) = graded_rule().decide(np.log([[0.4, 0.2, 0.2, 0.1, 0.1]]), cases=["a"])
        self.assertEqual((decision.grade, decision.action), (0, "refer"))

    def test_grade_thresholds_determine_the_grade(self):
        rule = graded_rule(grade_thresholds=(0.5, 1.2, 2.5, 3.5))
        self.assertEqual(rule.decide(np.log([[0.4, 0.2, 0.2, 0.1, 0.1]]), cases=["a"])[0].grade, 2)

    def test_another_operating_point_of_the_run(self):
        mode = mode_of(heads.Binary(), 0.3, (0.5, 0.5))
        mode = dataclasses.replace(mode, operating_points={"referable": {"youden": point(0.3), "high": point(0.8)}})
        rule = rule_of(heads.Binary(), mode, (0.5, 0.5))
        self.assertEqual([rule.operating_point().threshold, *rule.thresholds(operating_point_name="high")], [0.3, 0.8])
        other = dataclasses.replace(rule, operating_point_name="high")
        self.assertEqual([r.decide([[LN2]], cases=["a"])[0].action for r in (rule, other)], ["refer", "clear"])

    def test_ungradable_cases_have_to_be_retaken_and_have_no_grade(self):
        dark = ImageInfo("a", 0.2, "too dark")
        rule = binary_rule(0.01, distance_limit=5.0)
        result = rule.decide(
            np.array([[3.0]] * 5 + [[np.nan]]),
            cases=list("abcdef"),
            images=[{"": dark}, {"": GOOD}, {"": GOOD}, {"": ImageInfo("d")}, {"": GOOD}, {"": GOOD}],
            distances=[1, 6, 5, 1, np.nan, 1],
        )
        self.assertEqual([d.action for d in result], ["retake", "retake", "refer", "refer", "retake", "retake"])
        self.assertEqual([d.reason for d in result[:3]], ["too dark", OUT_OF_DISTRIBUTION, ""])
        self.assertEqual((result[5].reason, result[5].p_positive), (NOT_FINITE, None))
        self.assertEqual((result[4].distance, result[4].reason), (None, OUT_OF_DISTRIBUTION))
        # The prediction is reported all the same.
        self.assertGreater(result[0].p_positive, 0.5)

    def test_an_unfamiliar_case_is_decided_with_a_warning(self):
        rule = binary_rule(0.01, distance_limit=5.0, warning_limit=2.0)
        dark = ImageInfo("a", 0.2, "too dark")
        result = rule.decide(
            [[3.0]] * 4, cases="abcd", distances=[2, 3, 6, 3], images=[{"": GOOD}, {"": GOOD}, {"": GOOD}, {"": dark}]
        )
        self.assertEqual([d.action for d in result], ["refer", "refer", "retake", "retake"])
        self.assertEqual([d.warning for d in result], ["", UNFAMILIAR, "", ""])

    def test_the_rule_sets_the_limit_of_gradability(self):
        dark, blurred = ImageInfo("a", 0.2, "too dark"), ImageInfo("a", 0.6)
        for gradable_from, reasons in ((0.1, ("", "")), (0.7, ("too dark", "gradability 0.60 is below 0.70"))):
            rule = binary_rule(gradable_from=gradable_from)
            result = rule.decide([[1.0]] * 2, cases="ab", images=[{"": dark}, {"": blurred}])
            self.assertEqual(tuple(d.reason for d in result), reasons)
            self.assertEqual(tuple(d.images[""].reason for d in result), reasons)

    def test_unknown_names_list_the_known(self):
        with self.assertRaisesRegex(UserError, "the mode 'tta4' was not fitted; known: plain"):
            binary_rule().decide([[0.0]], cases=["a"], mode="tta4")
        with self.assertRaisesRegex(UserError, "unknown operating point 'sensitivity_0.9'; known: youden"):
            binary_rule(operating_point_name="sensitivity_0.9")

    def test_requested_modes(self):
        head, prior = heads.Coral(), (0.2,) * 5
        modes = {
            "plain": mode_of(head, 0.5, prior),
            "knn": mode_of(
                head, 0.5, prior, calibration=Calibration("softmax"), definition=ModeDefinition(vote="ordinal")
            ),
            "plain+knn": mode_of(
                head,
                0.5,
                prior,
                calibration=Calibration("softmax"),
                definition=ModeDefinition(mean=("plain", "knn")),
                averaging_prior=prior,
            ),
        }
        rule = dataclasses.replace(rule_of(head, modes["plain"], prior), modes=modes)
        self.assertEqual(rule.requested_modes().modes, {"plain": (ModeDefinition(), "coral")})
        of_both = {"plain": (ModeDefinition(), "coral"), "knn": (ModeDefinition(vote="ordinal"), "softmax")}
        self.assertEqual(rule.requested_modes("plain+knn").modes, of_both)
        scores = {"plain": [[0.0, -1, -2, -3]], "knn": np.log([[0.1, 0.1, 0.1, 0.1, 0.6]])}
        mean = np.add(head.probabilities(scores["plain"]), [[0.1, 0.1, 0.1, 0.1, 0.6]]) / 2
        (decision,) = rule.decide(scores, cases=["a"], mode="plain+knn")
        np.testing.assert_allclose(list(decision.probabilities.values()), mean[0])


class LabelsTest(unittest.TestCase):
    def test_each_label_has_its_own_threshold_and_decision(self):
        # A prior of 0.2 instead of 0.5 divides odds by four: those of G are 3 / 4 instead of 3.
        rule = label_rule(N=0.8, D=0.5, G=0.4)
        (decision,) = rule.decide([[LN3, LN3, LN3]], cases=["a"])
        probabilities = [0.75, 0.75, 3 / 7]
        np.testing.assert_allclose([decision.label_decisions[name].probability for name in LABELS], probabilities)
        self.assertEqual([decision.label_decisions[name].threshold for name in LABELS], [0.8, 0.5, 0.4])
        self.assertEqual([decision.label_decisions[name].yes for name in LABELS], [False, True, True])
        np.testing.assert_allclose([decision.probabilities[label] for label in "NDG"], probabilities)
        self.assertEqual((decision.p_positive, decision.threshold, decision.grade), (0.75, 0.5, None))

    def test_only_the_positive_definition_decides_about_referral(self):
        for logits, action in (([9, -9, 9], "clear"), ([-9, 9, -9], "refer")):
            (decision,) = label_rule(N=0.5, D=0.5, G=0.5).decide([logits], cases=["a"])
            self.assertEqual(decision.action, action)
            self.assertEqual([answer.yes for answer in decision.label_decisions.values()], [x > 0 for x in logits])

    def test_one_label_that_is_not_finite_means_no_label_decisions(self):
        (decision,) = label_rule(N=0.5, D=0.5, G=0.5).decide([[np.nan, 9, 9]], cases=["a"])
        self.assertEqual((decision.action, decision.label_decisions), ("retake", {}))

    def test_uncertainty_is_the_mean_over_labels(self):
        (decision,) = label_rule(N=0.5, D=0.5, G=0.5).decide([[0.0, 800, -800]], cases=["a"])
        self.assertAlmostEqual(decision.uncertainty, 1 / 3)


class PairTest(unittest.TestCase):
    def decide(self, images, rule=None):
        (decision,) = (rule or binary_rule(0.01)).decide([[3.0]], cases=["12"], images=[images])
        return decision

    def test_both_eyes_get_one_decision(self):
        decision = self.decide({"left": GOOD, "right": ImageInfo("b.jpg", 0.8)})
        self.assertEqual((decision.action, decision.reason, decision.missing), ("refer", "", ()))
        self.assertEqual([image.photograph for image in decision.images.values()], ["a.jpg", "b.jpg"])

    def test_an_ungradable_eye_is_named_and_has_to_be_retaken(self):
        decision = self.decide({"left": ImageInfo("a", 0.1, "too dark"), "right": GOOD})
        self.assertEqual((decision.action, decision.gradable), ("retake", False))
        self.assertEqual(decision.reason, "left eye: too dark")

    def test_two_ungradable_eyes(self):
        unread = ImageInfo("b", reason="not a file")
        decision = self.decide({"left": ImageInfo("a", 0.1, "too dark"), "right": unread})
        self.assertEqual(decision.reason, "left eye: too dark; right eye: not a file")

    def test_a_missing_eye_is_no_reason_to_retake(self):
        decision = self.decide({"right": GOOD})
        self.assertEqual((decision.action, decision.reason, decision.missing), ("refer", "", ("left",)))

    def test_a_single_image_has_no_missing_eye(self):
        self.assertEqual(self.decide({"": GOOD}).missing, ())


class OtherOutputsTest(unittest.TestCase):
    """An output beside the one that decides."""

    def rule(self, decides, other, **fit):
        outputs = {"main": decides, "other": other}
        prior = (1 / len(decides.classes),) * len(decides.classes)
        calibration = Calibration("softmax", (2.0,), (0.0,) * len(other.classes))
        even = (1 / len(other.classes),) * len(other.classes)
        fitted_other = OtherOutput(**{"calibration": calibration, "fitted_prior": even, "prior": even, **fit})
        mode = mode_of(decides, 0.5, prior)
        return rule_of(decides, mode, prior, heads=outputs, decides="main", other_outputs={"other": fitted_other})

    def test_it_is_calibrated_for_its_own_prior(self):
        rule = self.rule(heads.Softmax(), heads.Edema(), prior=(0.6, 0.3, 0.1))
        scores = {"main": np.zeros((1, 5)), "other": [[0, 0, LN2]]}
        (decision,) = rule.decide(scores["main"], cases=["a"], outputs=scores)
        # Odds 1 : 1 : 4 after the slope of 2, times 6 : 3 : 1.
        fitted_other = decision.other_outputs["other"]
        self.assertEqual(list(fitted_other), ["none", "elsewhere", "near"])
        np.testing.assert_allclose(list(fitted_other.values()), [6 / 13, 3 / 13, 4 / 13])
        self.assertEqual((decision.most_probable_class("other"), decision.most_probable_class("main")), (0, None))
        self.assertEqual(list(decision.other_outputs), ["other"])

    def test_ungradable_cases_have_no_other_outputs(self):
        rule = self.rule(heads.Softmax(), heads.Edema())
        outputs, dark = {"other": [[0, 0, 9.0]]}, {"": ImageInfo("a", 0.1, "too dark")}
        (decision,) = rule.decide(np.zeros((1, 5)), cases=["a"], outputs=outputs, images=[dark])
        self.assertEqual((decision.other_outputs, decision.most_probable_class("other")), ({}, None))

    def test_an_output_that_is_not_finite_means_retake(self):
        rule = self.rule(heads.Softmax(), heads.Edema())
        outputs = {"other": [[0, 0, np.nan], [0, 0, 9]]}
        result = rule.decide(np.zeros((2, 5)), cases="ab", outputs=outputs)
        self.assertEqual([(d.action, d.most_probable_class("other")) for d in result], [("retake", None), ("refer", 2)])
        self.assertEqual((result[0].reason, result[0].grade), (NOT_FINITE, None))

    def test_outputs_left_out_are_missing(self):
        (decision,) = self.rule(heads.Softmax(), heads.Edema()).decide(np.zeros((1, 5)), cases=["a"])
        self.assertEqual(decision.other_outputs, {})

    def test_another_output_gives_the_grade_if_the_one_that_decides_has_none(self):
        rule = self.rule(heads.Binary(), heads.Softmax(positive="any_dr"))
        outputs = {"other": np.log([[0.1, 0.1, 0.1, 0.6, 0.1], [0.6, 0.1, 0.1, 0.1, 0.1]])}
        result = rule.decide([[-9.0], [9.0]], cases="ab", outputs=outputs)
        self.assertEqual([(d.action, d.grade) for d in result], [("clear", 3), ("refer", 0)])
        self.assertEqual([d.grade for d in rule.decide([[-9.0]], cases="a")], [None])
        # An output whose classes are not grades gives none.
        beside = self.rule(heads.Binary(), heads.Edema())
        self.assertIsNone(beside.decide([[9.0]], cases="a", outputs={"other": [[0, 0, 9.0]]})[0].grade)


class PrevalenceTest(unittest.TestCase):
    @given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
    @settings(max_examples=100, deadline=None)
    def test_p_positive_changes_and_actions_stay(self, logit, cut, before, after):
        assume(abs(logit - cut) > 1e-6)
        head, prior = heads.Binary(), (1 - before, before)
        rule = rule_of(head, mode_of(head, 0.5, (0.5, 0.5)), prior)
        threshold = float(rule.probabilities({"plain": [[cut]]})[0, 1])
        rule = rule_of(head, mode_of(head, threshold, (0.5, 0.5)), prior)
        moved = rule.at_prevalence(after)
        np.testing.assert_allclose(moved.prior, [1 - after, after])
        self.assertEqual(*(r.decide([[logit]], cases=["a"])[0].action for r in (rule, moved)))

    def test_with_five_grades_the_actions_of_every_mode_stay(self):
        head = heads.Coral()
        logits, grades, names = sample_scores(head, 150, np.random.default_rng(0))
        scores = {"plain": logits, "knn": logits[:, [0, 0, 1, 2, 3]] * [0, 1, 1, 1, 1] / 2}
        rule = fit_rule(
            {"": head},
            "",
            scores,
            labels_of(head, grades, names),
            train_prior=NATURAL,
            modes=("plain", "knn", "plain+knn"),
        )
        moved = rule.at_prevalence(0.02)
        self.assertAlmostEqual(sum(moved.prior[2:]), 0.02)
        for mode in rule.modes:
            p = head.p_positive(rule.probabilities(scores, mode))
            sure = abs(p - rule.operating_point(mode).threshold) > 1e-9
            rows, cases = {name: of[sure] for name, of in scores.items()}, range(sure.sum())
            actions = [[d.action for d in r.decide(rows, cases=cases, mode=mode)] for r in (rule, moved)]
            with self.subTest(mode):
                self.assertEqual(*actions)
                self.assertEqual(set(actions[0]), {"refer", "clear"})
                self.assertGreater(sure.sum(), 250)
                self.assertLess(head.p_positive(moved.probabilities(scores, mode)).mean(), p.mean())

    def test_with_independent_labels_only_the_positive_one_changes(self):
        rule, logits, _ = fit_label_rule()
        moved = rule.at_prevalence(0.02)
        np.testing.assert_allclose(moved.prior, [rule.prior[0], 0.02, rule.prior[2]])
        before, after = (r.modes["plain"].operating_points for r in (rule, moved))
        for label in LABELS:
            for name in before[label]:
                with self.subTest(label=label, point=name):
                    compare = self.assertLess if label == "odir_D" else self.assertEqual
                    compare(after[label][name].threshold, before[label][name].threshold)
        clear_cut = abs(rule.probabilities({"plain": logits}) - rule.thresholds()).min(axis=1) > 1e-9
        rows = logits[clear_cut]
        one, other = (r.decide(rows, cases=range(len(rows))) for r in (rule, moved))
        self.assertEqual([d.action for d in one], [d.action for d in other])
        self.assertEqual(
            [[answer.yes for answer in d.label_decisions.values()] for d in one],
            [[answer.yes for answer in d.label_decisions.values()] for d in other],
        )
        self.assertGreater(len(rows), 390)

    def test_a_threshold_above_one_stays(self):
        for threshold in (1.5, float(np.nextafter(1, 2))):
            self.assertEqual(binary_rule(threshold).at_prevalence(0.5).thresholds().tolist(), [threshold])

    def test_a_prevalence_must_be_between_0_and_1(self):
        with self.assertRaisesRegex(UserError, "between 0 and 1, not 2"):
            fit_example_rule(heads.Softmax(), patients=20)[0].at_prevalence(2)


class ImportTest(unittest.TestCase):
    def test_inference_imports_no_heavy_packages(self):
        code = (
            "import importlib, pkgutil, sys, dr_tf.inference\n"
            "for module in pkgutil.iter_modules(dr_tf.inference.__path__, 'dr_tf.inference.'):\n"
            "    importlib.import_module(module.name)\n"
            "print(sorted(set(sys.modules) & {'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'tqdm', 'pandas'}))"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(result.stdout.strip(), "[]")


if __name__ == "__main__":
    unittest.main()
