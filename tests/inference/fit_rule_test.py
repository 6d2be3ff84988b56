import dataclasses
import unittest

import numpy as np
import pytest

from dr_tf.console import UserError
from dr_tf.inference import priors
from dr_tf.inference.calibration import Calibration, fit_calibration
from dr_tf.inference.fit_rule import UNKNOWN_PATIENTS, CalibrationLabels, fit_rule
from dr_tf.inference.modes import ModeDefinition
from dr_tf.models.links import probabilities_to_scores
from tests.inference import heads
from tests.inference.synthetic_patients import (
    NATURAL,
    fit_example_rule,
    fit_label_rule,
    labels_of,
    sample_scores,
    sample_severities,
    simulate_scores,
)

NO_PATIENTS = CalibrationLabels(np.zeros(0, int), np.zeros(0, int), np.array([], str))


class FitTest(unittest.TestCase):
    def test_every_head_is_calibrated(self):
        for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Regression(), heads.Binary()):
            with self.subTest(head.name):
                rule, logits, grades = fit_example_rule(head)
                report = rule.modes["plain"].report
                self.assertLess(report["ece"]["after"]["p_positive"], report["ece"]["before"]["p_positive"])
                p = head.p_positive(rule.probabilities({"plain": logits}))
                self.assertAlmostEqual(p.mean(), (grades >= 2).mean(), delta=0.03)
                self.assertEqual((report["images"], report["patients"]), (600, 300))
                self.assertEqual(rule.modes["plain"].calibration.link, head.link)

    def test_operating_points_count_patients(self):
        rule, logits, grades = fit_example_rule(heads.Softmax())
        worst = grades.reshape(-1, 2).max(axis=1) >= 2
        scores = rule.head.p_positive(rule.probabilities({"plain": logits})).reshape(-1, 2).max(axis=1)
        result = rule.modes["plain"].operating_points["referable"]["sensitivity_0.9"]
        self.assertTrue(result.guaranteed)
        self.assertAlmostEqual(result.sensitivity, (scores[worst] >= result.threshold).mean())
        self.assertAlmostEqual(result.specificity, (scores[~worst] < result.threshold).mean())
        self.assertEqual(rule.modes["plain"].report["positive_patients"], worst.sum())

    def test_without_a_guarantee_the_threshold_is_the_same_and_the_note_has_the_reason(self):
        kept, broken = (fit_example_rule(heads.Softmax(), no_guarantee=why)[0] for why in ("", UNKNOWN_PATIENTS))
        one, other = (rule.operating_point() for rule in (kept, broken))
        self.assertEqual((one.guaranteed, other.guaranteed), (True, False))
        self.assertEqual(dataclasses.replace(other, guaranteed=True, note=one.note), one)
        self.assertTrue(other.note.endswith(f"not guaranteed: {UNKNOWN_PATIENTS}"), other.note)
        self.assertEqual((kept.no_guarantee, broken.no_guarantee), ("", UNKNOWN_PATIENTS))

    def test_grade_thresholds_are_kept_only_if_they_improve_held_out_kappa(self):
        rule, _, _ = fit_example_rule(heads.Softmax())
        mode = rule.modes["plain"]
        self.assertEqual(
            mode.grade_thresholds is not None, mode.report["kappa"]["grade_thresholds"] > mode.report["kappa"]["plain"]
        )
        self.assertIsNone(fit_example_rule(heads.Binary())[0].modes["plain"].grade_thresholds)

    def test_a_split_without_labels_gives_an_uncalibrated_rule_without_guarantee(self):
        nothing = np.full(4, -1)
        for head in (heads.Softmax(), heads.Coral()):
            truth, scores = CalibrationLabels(nothing, nothing, np.arange(4)), {"plain": np.zeros((4, head.outputs))}
            balance = np.full(5, 0.2)
            rule = fit_rule({"": head}, "", scores, truth, train_prior=NATURAL, batch_prior=balance)
            mode = rule.modes["plain"]
            self.assertEqual((mode.calibration, mode.report["images"]), (Calibration(head.link), 0))
            self.assertEqual(mode.operating_points["referable"]["youden"].threshold, 0.5)
            result = rule.probabilities({"plain": scores["plain"][:1]})
            np.testing.assert_allclose(
                result, priors.shift_prior(head.probabilities(scores["plain"][:1]), balance, NATURAL)
            )
            fit_rule({"": head}, "", {"plain": np.zeros((0, head.outputs))}, NO_PATIENTS, train_prior=NATURAL)

    def test_a_rule_can_be_fitted_on_few_patients(self):
        for patients in (1, 2, 3, 8):
            rule, _, _ = fit_example_rule(heads.Coral(), patients=patients)
            self.assertFalse(rule.operating_point().guaranteed)

    def test_the_range_of_grades_contains_the_grade_of_nine_in_ten_new_patients(self):
        rule, _, _ = fit_example_rule(heads.Softmax(), patients=300)
        _, logits, true_classes = fit_example_rule(heads.Softmax(), patients=300, seed=1)
        decisions = rule.decide(logits, cases=range(len(true_classes)))
        low, high = np.array([decision.grade_range for decision in decisions]).T
        self.assertGreater(((low <= true_classes) & (true_classes <= high)).mean(), 0.86)
        binary, _, _ = fit_example_rule(heads.Binary(), patients=60)
        self.assertIsNone(binary.mode("plain").conformal)

    def test_the_limit_of_the_gate_comes_from_the_calibration_split(self):
        rule, _, _ = fit_example_rule(heads.Softmax(), patients=100, distances=np.arange(200))
        self.assertEqual((rule.distance_limit, rule.warning_limit), (198, None))  # rank ceil(0.99 * 201)

    def test_beyond_the_calibration_split_but_within_other_sources_there_is_a_warning(self):
        for foreign_limit, distance_limit in ((300.0, 300.0), (20.0, 198)):
            rule, _, _ = fit_example_rule(
                heads.Softmax(), patients=100, distances=np.arange(200), foreign_limit=foreign_limit
            )
            self.assertEqual((rule.distance_limit, rule.warning_limit), (distance_limit, 198))

    def test_unknown_names_and_targets_are_refused(self):
        for wanted, message in (
            ({"operating_point": "sensitivity_0.8"}, "known: sensitivity_0.9"),
            (
                {"operating_points": (("recall", 0.9),), "operating_point": "recall_0.9"},
                "known: sensitivity, specificity, youden, f1",
            ),
            ({"operating_points": (("sensitivity", 90),), "operating_point": "sensitivity_90"}, "between 0 and 1"),
            ({"modes": ("plain", "tta3")}, "unknown mode 'tta3'"),
        ):
            with self.subTest(wanted), self.assertRaisesRegex(UserError, message):
                fit_example_rule(heads.Softmax(), patients=20, **wanted)
        with self.assertRaisesRegex(ValueError, "scores of the mode 'plain' are required"):
            fit_rule({"": heads.Softmax()}, "", {"knn": np.zeros((0, 5))}, NO_PATIENTS, train_prior=NATURAL)


class LabelsTest(unittest.TestCase):
    def test_each_label_has_its_own_calibration_and_thresholds(self):
        rule, logits, labels = fit_label_rule()
        mode = rule.modes["plain"]
        self.assertLess(mode.report["ece"]["after"]["p_positive"], mode.report["ece"]["before"]["p_positive"])
        p = rule.probabilities({"plain": logits})
        self.assertEqual(list(mode.operating_points), ["odir_N", "odir_D", "odir_G"])
        for i, (definition, points) in enumerate(mode.operating_points.items()):
            known = labels[:, i] >= 0
            positive, negative = labels[known, i] == 1, labels[known, i] == 0
            result = points["youden"]
            with self.subTest(definition):
                self.assertAlmostEqual(result.sensitivity, (p[known, i][positive] >= result.threshold).mean())
                self.assertAlmostEqual(result.specificity, (p[known, i][negative] < result.threshold).mean())
        counts = [mode.report[f"{side}_patients"] for side in ("positive", "negative")]
        self.assertEqual(counts, [(labels[:, 1] == 1).sum(), (labels[:, 1] == 0).sum()])
        self.assertEqual(len({points["youden"].threshold for points in mode.operating_points.values()}), 3)

    def test_each_label_has_its_own_guarantee(self):
        points = fit_label_rule()[0].modes["plain"].operating_points
        self.assertEqual([of["sensitivity_0.95"].guaranteed for of in points.values()], [True, True, False])
        self.assertRegex(points["odir_G"]["sensitivity_0.95"].note, "needs 59 patients, the calibration split has 3")


def fit_several_modes(head, patients=600, modes=("plain", "knn", "proto", "plain+knn"), **others):
    """(rule, scores, grades) with a plain mode, noisier votes, and another output with another link."""
    rng = np.random.default_rng(0)
    latent, grades, names = sample_severities(patients, rng)
    beside = {"grade": head, "proto": heads.Corn()}
    scores = {
        "plain": simulate_scores(head, latent),
        "knn": probabilities_to_scores("softmax", votes(latent + rng.normal(0, 1, len(latent)))),
        "proto": simulate_scores(heads.Corn(), latent + rng.normal(0, 0.5, len(latent))),
    }
    truth = labels_of(head, grades, names)
    rule = fit_rule(beside, "grade", scores, truth, modes=modes, train_prior=NATURAL, **others)
    return rule, scores, grades


def votes(latent):
    """Shares of votes of ten neighbours, centred on the latent grade."""
    closeness = np.exp(-np.abs(latent[:, None] - np.arange(5)))
    return np.round(10 * closeness / closeness.sum(axis=1, keepdims=True)) / 10 + 1e-3


class ModesTest(unittest.TestCase):
    def test_each_mode_has_its_own_link(self):
        rule, _, _ = fit_several_modes(heads.Coral(), patients=50)
        links = {name: mode.calibration.link for name, mode in rule.modes.items()}
        self.assertEqual(links, {"plain": "coral", "knn": "softmax", "proto": "corn", "plain+knn": "softmax"})
        definitions = [mode.definition for mode in rule.modes.values()]
        self.assertEqual(
            definitions,
            [
                ModeDefinition(),
                ModeDefinition(vote="ordinal"),
                ModeDefinition(output="proto"),
                ModeDefinition(mean=("plain", "knn")),
            ],
        )

    def test_all_modes_are_calibrated_for_one_prior(self):
        """With images weighted to the prior, the mean prediction of each mode is the prior."""
        for head, prior in ((heads.Coral(), "uniform"), (heads.Coral(), 0.05), (heads.Regression(), "uniform")):
            rule, scores, grades = fit_several_modes(head, prior=prior)
            weights = (np.array(rule.prior) / rule.modes["plain"].fitted_prior)[grades]
            for name in rule.modes:
                mean = np.average(rule.probabilities(scores, name), axis=0, weights=weights)
                with self.subTest(head=head.name, prior=prior, mode=name):
                    self.assertAlmostEqual(mean[2:].sum(), sum(rule.prior[2:]), delta=0.04)
                    self.assertAlmostEqual(mean[0], rule.prior[0], delta=0.05)

    def test_the_prior_can_be_a_name_or_a_prevalence(self):
        for prior, positive in (("uniform", 0.6), (0.05, 0.05)):
            rule, _, _ = fit_several_modes(heads.Softmax(), patients=50, prior=prior)
            self.assertAlmostEqual(sum(rule.prior[2:]), positive)
            self.assertEqual(rule.prior_name, str(prior))

    def test_different_votes_with_equal_mean_grade_stay_different_with_an_ordinal_head(self):
        rule, _, grades = fit_several_modes(heads.Coral())
        split, sure = [0.498, 1e-3, 2e-3, 1e-3, 0.498], [1e-3, 1e-3, 0.996, 1e-3, 1e-3]
        result = rule.probabilities({"knn": probabilities_to_scores("softmax", [split, sure])}, "knn")
        self.assertGreater(abs(result[0, 2] - result[1, 2]), 0.5)
        self.assertGreater(result[0, 0], 0.2)
        # With the head's own link both have the same latent number.
        latents = probabilities_to_scores("coral", [split, sure])
        np.testing.assert_allclose(*latents.mean(axis=1, keepdims=True), atol=1e-9)
        by_head = fit_calibration(
            "coral", probabilities_to_scores("coral", votes(grades * 1.0)), grades, 5
        ).probabilities(latents, 5)
        np.testing.assert_allclose(*by_head, atol=1e-9)

    def test_a_mean_averages_calibrated_parts_and_has_its_own_calibration(self):
        rule, scores, grades = fit_several_modes(heads.Coral(), prior="uniform")
        mode = rule.modes["plain+knn"]
        parts = [rule.probabilities(scores, part) for part in ("plain", "knn")]
        own = probabilities_to_scores("softmax", np.mean(parts, axis=0), minimum=1e-12)
        self.assertEqual(mode.calibration, fit_calibration("softmax", own, grades, 5))
        calibrated = mode.calibration.probabilities(own, 5)
        expected = priors.shift_prior(calibrated, mode.fitted_prior, rule.prior)
        np.testing.assert_allclose(rule.probabilities(scores, "plain+knn"), expected)
        self.assertEqual(mode.averaging_prior, rule.prior)
        self.assertEqual(mode.fitted_prior, rule.modes["plain"].fitted_prior)
        self.assertEqual(set(mode.operating_points), {"referable"})

    def test_without_labels_a_mean_is_not_calibrated_again(self):
        head, nothing = heads.Coral(), np.full(4, -1)
        rng = np.random.default_rng(0)
        scores = {"plain": rng.normal(0, 1, (4, 1)) - np.arange(4), "knn": rng.normal(0, 1, (4, 5))}
        rule = fit_rule(
            {"": head}, "", scores, CalibrationLabels(nothing, nothing, np.arange(4)),
            modes=("plain", "knn", "plain+knn"), train_prior=NATURAL, batch_prior=np.full(5, 0.2),
        )  # fmt: skip
        parts = [rule.probabilities(scores, name) for name in ("plain", "knn")]
        np.testing.assert_allclose(rule.probabilities(scores, "plain+knn"), np.mean(parts, axis=0), atol=1e-6)

    def test_the_order_of_modes_does_not_matter_for_a_mean(self):
        requested, _, _ = fit_several_modes(heads.Softmax(), patients=50, modes=("plain", "plain+knn"))
        self.assertEqual(
            list(requested.modes), ["plain", "knn", "plain+knn"]
        )  # its parts are fitted even if not requested
        rule, scores, _ = fit_several_modes(heads.Softmax(), patients=50, modes=("plain+knn", "knn", "plain"))
        self.assertEqual(set(rule.modes), {"plain", "knn", "plain+knn"})
        self.assertEqual(rule.probabilities(scores, "plain+knn").shape, (100, 5))


class OtherOutputsTest(unittest.TestCase):
    """The risk of edema, an output beside the grade."""

    def fitted(self, risks):
        head, edema = heads.Softmax(), heads.Edema()
        logits, grades, names = sample_scores(head, 200, np.random.default_rng(0))
        message = 4.0 * (np.clip(grades // 2, 0, 2)[:, None] == np.arange(3))
        truth = CalibrationLabels(grades, grades >= 2, names, other_classes={"edema": risks(grades)})
        rule = fit_rule(
            {"grade": head, "edema": edema}, "grade", {"plain": logits}, truth, train_prior=NATURAL,
            outputs={"edema": message}, other_priors={"edema": [0.6, 0.3, 0.1]},
        )  # fmt: skip
        return rule, message, grades

    def test_it_is_calibrated_on_known_labels_for_its_training_prior(self):
        def risks(grades):
            return np.where(np.arange(len(grades)) < 300, np.clip(grades // 2, 0, 2), -1)

        rule, message, grades = self.fitted(risks)
        other = rule.other_outputs["edema"]
        self.assertEqual((other.report["images"], other.prior), (300, (0.6, 0.3, 0.1)))
        self.assertEqual(other.calibration, fit_calibration("softmax", message[:300], risks(grades)[:300], 3))
        np.testing.assert_allclose(other.fitted_prior, priors.class_prior(risks(grades), 3))
        calibrated = other.calibration.probabilities(message[:1], 3)
        expected = priors.shift_prior(calibrated, other.fitted_prior, [0.6, 0.3, 0.1])
        np.testing.assert_allclose(rule.other_probabilities("edema", message[:1]), expected)

    def test_without_known_labels_it_is_not_calibrated(self):
        rule, message, _ = self.fitted(lambda grades: np.full(len(grades), -1))
        self.assertEqual(rule.other_outputs["edema"].report["images"], 0)
        result = rule.other_probabilities("edema", message[:1])
        np.testing.assert_allclose(result, heads.Edema().probabilities(message[:1]))


class GuaranteeTest(unittest.TestCase):
    @pytest.mark.slow
    def test_the_guarantee_holds_with_a_calibration_fitted_on_the_same_patients(self):
        """With noise in each logit, so that fitted biases change the order of patients."""
        head, low, guaranteed = heads.Softmax(), 0, 0
        everybody, grades, _ = sample_scores(head, 20_000, np.random.default_rng(0), noise=1.5)
        positive = grades.reshape(-1, 2).max(axis=1) >= 2
        everybody = everybody.reshape(-1, 2, 5)[positive].reshape(-1, 5)
        for seed in range(1, 501):
            rule, _, _ = fit_example_rule(
                head, patients=290, seed=seed, noise=1.5, operating_points=(("sensitivity", 0.9),)
            )
            scores = head.p_positive(rule.probabilities({"plain": everybody})).reshape(-1, 2).max(axis=1)
            result = rule.operating_point()
            guaranteed += result.guaranteed
            low += result.guaranteed and (scores >= result.threshold).mean() < 0.9
        print(f"broken in {low} of {guaranteed}")
        self.assertGreater(guaranteed, 450)
        self.assertLess(low / guaranteed, 0.05 + 3 * (0.05 * 0.95 / guaranteed) ** 0.5)


if __name__ == "__main__":
    unittest.main()
