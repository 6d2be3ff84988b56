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
from tests.inference.synthetic_patients import NATURAL, drawn, fitted, fitted_on_labels, scores_of, severities, truth_of

NO_PATIENTS = CalibrationLabels(np.zeros(0, int), np.zeros(0, int), np.array([], str))


class FitTest(unittest.TestCase):
    def test_every_head_is_calibrated(self):
        for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Regression(), heads.Binary()):
            with self.subTest(head.name):
                rule, logits, grades = fitted(head)
                report = rule.modes["plain"].report
                self.assertLess(report["ece"]["after"]["p_positive"], report["ece"]["before"]["p_positive"])
                p = head.p_positive(rule.probabilities({"plain": logits}))
                self.assertAlmostEqual(p.mean(), (grades >= 2).mean(), delta=0.03)
                self.assertEqual((report["images"], report["patients"]), (600, 300))
                self.assertEqual(rule.modes["plain"].calibration.link, head.link)

    def test_points_go_by_patient(self):
        rule, logits, grades = fitted(heads.Softmax())
        worst = grades.reshape(-1, 2).max(axis=1) >= 2
        scores = rule.head.p_positive(rule.probabilities({"plain": logits})).reshape(-1, 2).max(axis=1)
        found = rule.modes["plain"].operating_points["referable"]["sensitivity_0.9"]
        self.assertTrue(found.guaranteed)
        self.assertAlmostEqual(found.sensitivity, (scores[worst] >= found.threshold).mean())
        self.assertAlmostEqual(found.specificity, (scores[~worst] < found.threshold).mean())
        self.assertEqual(rule.modes["plain"].report["positive_patients"], worst.sum())

    def test_where_nothing_is_promised_the_same_threshold_says_why(self):
        kept, broken = (fitted(heads.Softmax(), no_guarantee=why)[0] for why in ("", UNKNOWN_PATIENTS))
        one, other = (rule.operating_point() for rule in (kept, broken))
        self.assertEqual((one.guaranteed, other.guaranteed), (True, False))
        self.assertEqual(dataclasses.replace(other, guaranteed=True, note=one.note), one)
        self.assertTrue(other.note.endswith(f"not guaranteed: {UNKNOWN_PATIENTS}"), other.note)
        self.assertEqual((kept.no_guarantee, broken.no_guarantee), ("", UNKNOWN_PATIENTS))

    def test_cuts_are_kept_only_where_they_grade_unseen_patients_better(self):
        rule, _, _ = fitted(heads.Softmax())
        mode = rule.modes["plain"]
        self.assertEqual(
            mode.grade_thresholds is not None, mode.report["kappa"]["grade_thresholds"] > mode.report["kappa"]["plain"]
        )
        self.assertIsNone(fitted(heads.Binary())[0].modes["plain"].grade_thresholds)

    def test_a_split_without_truth_still_gives_a_rule_that_promises_nothing(self):
        nothing = np.full(4, -1)
        for head in (heads.Softmax(), heads.Coral()):
            truth, scores = CalibrationLabels(nothing, nothing, np.arange(4)), {"plain": np.zeros((4, head.outputs))}
            balance = np.full(5, 0.2)
            rule = fit_rule({"": head}, "", scores, truth, train_prior=NATURAL, batch_prior=balance)
            mode = rule.modes["plain"]
            self.assertEqual((mode.calibration, mode.report["images"]), (Calibration(head.link), 0))
            self.assertEqual(mode.operating_points["referable"]["youden"].threshold, 0.5)
            found = rule.probabilities({"plain": scores["plain"][:1]})
            np.testing.assert_allclose(
                found, priors.shift_prior(head.probabilities(scores["plain"][:1]), balance, NATURAL)
            )
            fit_rule({"": head}, "", {"plain": np.zeros((0, head.outputs))}, NO_PATIENTS, train_prior=NATURAL)

    def test_few_patients_are_enough_for_a_rule(self):
        for patients in (1, 2, 3, 8):
            rule, _, _ = fitted(heads.Coral(), patients=patients)
            self.assertFalse(rule.operating_point().guaranteed)

    def test_the_gates_limit_is_of_the_calibration_split(self):
        rule, _, _ = fitted(heads.Softmax(), patients=100, distances=np.arange(200))
        self.assertEqual(rule.distance_limit, 198)  # rank ceil(0.99 * 201)

    def test_mistakes_in_what_is_wanted(self):
        for wanted, said in (
            ({"operating_point": "sensitivity_0.8"}, "known: sensitivity_0.9"),
            (
                {"operating_points": (("recall", 0.9),), "operating_point": "recall_0.9"},
                "known: sensitivity, specificity, youden",
            ),
            ({"operating_points": (("sensitivity", 90),), "operating_point": "sensitivity_90"}, "between 0 and 1"),
            ({"modes": ("plain", "tta3")}, "unknown mode 'tta3'"),
        ):
            with self.subTest(wanted), self.assertRaisesRegex(UserError, said):
                fitted(heads.Softmax(), patients=20, **wanted)
        with self.assertRaisesRegex(ValueError, "scores of the mode 'plain' are required"):
            fit_rule({"": heads.Softmax()}, "", {"knn": np.zeros((0, 5))}, NO_PATIENTS, train_prior=NATURAL)


class LabelsTest(unittest.TestCase):
    def test_each_is_calibrated_and_has_thresholds_of_its_own(self):
        rule, logits, labels = fitted_on_labels()
        mode = rule.modes["plain"]
        self.assertLess(mode.report["ece"]["after"]["p_positive"], mode.report["ece"]["before"]["p_positive"])
        p = rule.probabilities({"plain": logits})
        self.assertEqual(list(mode.operating_points), ["odir_N", "odir_D", "odir_G"])
        for i, (definition, points) in enumerate(mode.operating_points.items()):
            known = labels[:, i] >= 0
            positive, negative = labels[known, i] == 1, labels[known, i] == 0
            found = points["youden"]
            with self.subTest(definition):
                self.assertAlmostEqual(found.sensitivity, (p[known, i][positive] >= found.threshold).mean())
                self.assertAlmostEqual(found.specificity, (p[known, i][negative] < found.threshold).mean())
        counts = [mode.report[f"{side}_patients"] for side in ("positive", "negative")]
        self.assertEqual(counts, [(labels[:, 1] == 1).sum(), (labels[:, 1] == 0).sum()])
        self.assertEqual(len({points["youden"].threshold for points in mode.operating_points.values()}), 3)

    def test_a_guarantee_is_of_each_label(self):
        points = fitted_on_labels()[0].modes["plain"].operating_points
        self.assertEqual([of["sensitivity_0.95"].guaranteed for of in points.values()], [True, True, False])
        self.assertRegex(points["odir_G"]["sensitivity_0.95"].note, "needs 59 patients, the calibration split has 3")


def side_by_side(head, patients=600, modes=("plain", "knn", "proto", "plain+knn"), **others):
    """(rule, scores, grades): a network's answer, votes that know less, and an output with another link."""
    rng = np.random.default_rng(0)
    latent, grades, names = severities(patients, rng)
    beside = {"grade": head, "proto": heads.Corn()}
    scores = {
        "plain": scores_of(head, latent),
        "knn": probabilities_to_scores("softmax", votes(latent + rng.normal(0, 1, len(latent)))),
        "proto": scores_of(heads.Corn(), latent + rng.normal(0, 0.5, len(latent))),
    }
    truth = truth_of(head, grades, names)
    rule = fit_rule(beside, "grade", scores, truth, modes=modes, train_prior=NATURAL, **others)
    return rule, scores, grades


def votes(latent):
    """Shares of ten neighbours: a grade has them where they lie."""
    closeness = np.exp(-np.abs(latent[:, None] - np.arange(5)))
    return np.round(10 * closeness / closeness.sum(axis=1, keepdims=True)) / 10 + 1e-3


class ModesTest(unittest.TestCase):
    def test_each_has_its_own_link(self):
        rule, _, _ = side_by_side(heads.Coral(), patients=50)
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

    def test_all_speak_under_one_prior(self):
        """Photographs weighed so that grades are as common as the prior says: each mode's mean is that prior."""
        for head, prior in ((heads.Coral(), "uniform"), (heads.Coral(), 0.05), (heads.Regression(), "uniform")):
            rule, scores, grades = side_by_side(head, prior=prior)
            weights = (np.array(rule.prior) / rule.modes["plain"].fitted_prior)[grades]
            for name in rule.modes:
                mean = np.average(rule.probabilities(scores, name), axis=0, weights=weights)
                with self.subTest(head=head.name, prior=prior, mode=name):
                    self.assertAlmostEqual(mean[2:].sum(), sum(rule.prior[2:]), delta=0.04)
                    self.assertAlmostEqual(mean[0], rule.prior[0], delta=0.05)

    def test_the_prior_is_one_line(self):
        for prior, positive in (("uniform", 0.6), (0.05, 0.05)):
            rule, _, _ = side_by_side(heads.Softmax(), patients=50, prior=prior)
            self.assertAlmostEqual(sum(rule.prior[2:]), positive)
            self.assertEqual(rule.prior_name, str(prior))

    def test_different_votes_with_the_same_mean_stay_different_under_an_ordinal_head(self):
        rule, _, grades = side_by_side(heads.Coral())
        split, sure = [0.498, 1e-3, 2e-3, 1e-3, 0.498], [1e-3, 1e-3, 0.996, 1e-3, 1e-3]
        found = rule.probabilities({"knn": probabilities_to_scores("softmax", [split, sure])}, "knn")
        self.assertGreater(abs(found[0, 2] - found[1, 2]), 0.5)
        self.assertGreater(found[0, 0], 0.2)
        # By the head's own link one latent number stands for both.
        latents = probabilities_to_scores("coral", [split, sure])
        np.testing.assert_allclose(*latents.mean(axis=1, keepdims=True), atol=1e-9)
        by_head = fit_calibration(
            "coral", probabilities_to_scores("coral", votes(grades * 1.0)), grades, 5
        ).probabilities(latents, 5)
        np.testing.assert_allclose(*by_head, atol=1e-9)

    def test_a_mean_is_of_calibrated_parts_and_is_calibrated_by_itself(self):
        rule, scores, grades = side_by_side(heads.Coral(), prior="uniform")
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

    def test_a_mean_without_truth_is_the_mean(self):
        head, nothing = heads.Coral(), np.full(4, -1)
        rng = np.random.default_rng(0)
        scores = {"plain": rng.normal(0, 1, (4, 1)) - np.arange(4), "knn": rng.normal(0, 1, (4, 5))}
        rule = fit_rule(
            {"": head}, "", scores, CalibrationLabels(nothing, nothing, np.arange(4)),
            modes=("plain", "knn", "plain+knn"), train_prior=NATURAL, batch_prior=np.full(5, 0.2),
        )  # fmt: skip
        parts = [rule.probabilities(scores, name) for name in ("plain", "knn")]
        np.testing.assert_allclose(rule.probabilities(scores, "plain+knn"), np.mean(parts, axis=0), atol=1e-6)

    def test_a_mean_is_fitted_wherever_it_stands_among_the_modes(self):
        requested, _, _ = side_by_side(heads.Softmax(), patients=50, modes=("plain", "plain+knn"))
        self.assertEqual(list(requested.modes), ["plain", "knn", "plain+knn"])  # its parts, requested for or not
        rule, scores, _ = side_by_side(heads.Softmax(), patients=50, modes=("plain+knn", "knn", "plain"))
        self.assertEqual(set(rule.modes), {"plain", "knn", "plain+knn"})
        self.assertEqual(rule.probabilities(scores, "plain+knn").shape, (100, 5))


class OthersTest(unittest.TestCase):
    """The risk of edema, told beside the grade."""

    def fitted(self, risks):
        head, edema = heads.Softmax(), heads.Edema()
        logits, grades, names = drawn(head, 200, np.random.default_rng(0))
        said = 4.0 * (np.clip(grades // 2, 0, 2)[:, None] == np.arange(3))
        truth = CalibrationLabels(grades, grades >= 2, names, other_classes={"edema": risks(grades)})
        rule = fit_rule(
            {"grade": head, "edema": edema}, "grade", {"plain": logits}, truth, train_prior=NATURAL,
            outputs={"edema": said}, other_priors={"edema": [0.6, 0.3, 0.1]},
        )  # fmt: skip
        return rule, said, grades

    def test_it_is_calibrated_where_it_is_known_and_read_under_its_training_prior(self):
        def risks(grades):
            return np.where(np.arange(len(grades)) < 300, np.clip(grades // 2, 0, 2), -1)

        rule, said, grades = self.fitted(risks)
        other = rule.other_outputs["edema"]
        self.assertEqual((other.report["images"], other.prior), (300, (0.6, 0.3, 0.1)))
        self.assertEqual(other.calibration, fit_calibration("softmax", said[:300], risks(grades)[:300], 3))
        np.testing.assert_allclose(other.fitted_prior, priors.class_prior(risks(grades), 3))
        calibrated = other.calibration.probabilities(said[:1], 3)
        expected = priors.shift_prior(calibrated, other.fitted_prior, [0.6, 0.3, 0.1])
        np.testing.assert_allclose(rule.other_probabilities("edema", said[:1]), expected)

    def test_where_nobody_knows_it_it_is_told_as_the_network_says(self):
        rule, said, _ = self.fitted(lambda grades: np.full(len(grades), -1))
        self.assertEqual(rule.other_outputs["edema"].report["images"], 0)
        found = rule.other_probabilities("edema", said[:1])
        np.testing.assert_allclose(found, heads.Edema().probabilities(said[:1]))


class PromiseTest(unittest.TestCase):
    @pytest.mark.slow
    def test_the_promise_holds_with_calibration_fitted_on_the_same_patients(self):
        """Noise in each logit: where biases move, patients change places."""
        head, low, promised = heads.Softmax(), 0, 0
        everybody, grades, _ = drawn(head, 20_000, np.random.default_rng(0), noise=1.5)
        positive = grades.reshape(-1, 2).max(axis=1) >= 2
        everybody = everybody.reshape(-1, 2, 5)[positive].reshape(-1, 5)
        for seed in range(1, 501):
            rule, _, _ = fitted(head, patients=290, seed=seed, noise=1.5, operating_points=(("sensitivity", 0.9),))
            scores = head.p_positive(rule.probabilities({"plain": everybody})).reshape(-1, 2).max(axis=1)
            found = rule.operating_point()
            promised += found.guaranteed
            low += found.guaranteed and (scores >= found.threshold).mean() < 0.9
        print(f"broken in {low} of {promised}")
        self.assertGreater(promised, 450)
        self.assertLess(low / promised, 0.05 + 3 * (0.05 * 0.95 / promised) ** 0.5)


if __name__ == "__main__":
    unittest.main()
