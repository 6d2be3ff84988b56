"""Selective prediction, subgroups, caveats, label shift and the comparison of two runs."""

import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.caveats import caveats, disagreements
from dr_tf.evaluation.compare import compare
from dr_tf.evaluation.metrics.selective_prediction import (
    ensemble_disagreement,
    entropy,
    margin,
    referral_curves,
    tta_spread,
)
from dr_tf.evaluation.metrics.subgroups import (
    find_subgroups,
    subgroup_columns,
    subgroup_metrics,
    verdicts,
    worst_subgroups,
)
from dr_tf.evaluation.statistics.label_shift import bbse_prior, correct_label_shift, em_prior
from tests.evaluation.synthetic_predictions import SHARES, make_graded, make_labelled


class ReferralTest(unittest.TestCase):
    def test_scores_by_hand(self):
        p = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
        np.testing.assert_allclose(entropy(p), [np.log(2) / np.log(3), 0], atol=1e-12)
        np.testing.assert_allclose(margin(p), [1, 0])
        np.testing.assert_allclose(margin(np.array([[0.5, 0.9], [1, 0]]), multi_label=True), [1, 0])
        np.testing.assert_allclose(entropy(np.array([[0.5, 0.5], [1, 0]]), multi_label=True), [1, 0], atol=1e-12)
        np.testing.assert_allclose(tta_spread([p, p]), 0)
        np.testing.assert_allclose(tta_spread([[[1.0, 0.0]], [[0.0, 1.0]]]), 1)
        np.testing.assert_allclose(ensemble_disagreement([p, p]), 0, atol=1e-12)
        np.testing.assert_allclose(ensemble_disagreement(np.array([[[1.0, 0.0]], [[0.0, 1.0]]])), 1)

    def test_referring_the_unsure_helps(self):
        predictions = make_graded(600, uncertainty={"chance": np.random.default_rng(0).random(600)})
        curves = referral_curves(predictions, bootstrap_samples=50)
        self.assertEqual(set(curves), {"entropy", "margin", "chance"})
        self.assertEqual([point["n"] for point in curves["entropy"]][:3], [600, 570, 540])
        accuracy = {name: [point["accuracy"]["value"] for point in curve] for name, curve in curves.items()}
        self.assertGreater(accuracy["entropy"][-1], accuracy["entropy"][0] + 0.05)
        self.assertLess(abs(accuracy["chance"][-1] - accuracy["chance"][0]), 0.1)
        self.assertEqual(curves["entropy"][0]["accuracy"], curves["chance"][0]["accuracy"])

    def test_between_two_classes_one_score_is_enough(self):
        base = make_graded(60)
        p = np.stack([1 - base.p_positive, base.p_positive], axis=1)
        two = make_graded(
            60, classes=("below", "referable"), probabilities=p, truth=base.truth_positive, predicted=base.refer
        )
        self.assertEqual(set(referral_curves(two, bootstrap_samples=20)), {"entropy"})

    def test_labels(self):
        self.assertIn("odir_score", referral_curves(make_labelled(60), bootstrap_samples=20)["entropy"][0])


class SubgroupsTest(unittest.TestCase):
    def _predictions(self, n=600):
        """Camera B misses half of the positives."""
        base = make_graded(n)
        camera = np.where(np.arange(n) % 3 == 0, "B", "A")
        refer = base.refer & ~((camera == "B") & (np.arange(n) % 2 == 0))
        rare = np.where(np.arange(n) < 20, "rare", "usual")
        return make_graded(n, refer=refer, subgroups={"camera": camera, "source": rare})

    def test_the_worse_subgroup_is_found(self):
        subgroups = subgroup_metrics(self._predictions(), bootstrap_samples=500)
        found = {(part["subgroup"], part["value"]): part for part in subgroups}
        self.assertEqual(found["camera", "B"]["verdicts"]["sensitivity"]["verdict"], "lower")
        self.assertEqual(found["camera", "A"]["verdicts"]["sensitivity"]["verdict"], "no difference seen")
        self.assertEqual(found["camera", "B"]["n"], 200)
        worst = worst_subgroups(subgroups)["sensitivity"]
        self.assertEqual((worst["subgroup"], worst["value"]), ("camera", "B"))

    def test_no_verdict_on_few_patients(self):
        found = {part["value"]: part for part in subgroup_metrics(self._predictions(), bootstrap_samples=100)}
        for part in ("rare", "usual"):  # there is nothing to compare the usual with either
            self.assertEqual(found[part]["verdicts"]["accuracy"], {"verdict": "too few patients"})

    def test_equal_subgroups_rarely_differ(self):
        lower = 0
        for seed in range(40):
            rng = np.random.default_rng(seed)
            subgroups = {str(i): rng.choice(list("abc"), 300) for i in range(3)}
            predictions = make_graded(300, seed=seed, subgroups=subgroups)
            found = verdicts(predictions, list(find_subgroups(predictions)), bootstrap_samples=200)
            lower += any(verdict["verdict"] == "lower" for verdict in found.values())
        self.assertLessEqual(lower, 5)  # 1 of 40 expected: 5 % two-sided over all verdicts together

    def test_columns_of_records(self):
        columns = {
            "age": np.array([-1, 39, 40, 75]), "sex": ["female", "", "male", "male"], "camera": ["x"] * 4,
            "dme": np.array([0, -1, 2, 2]), "gradability/score": np.array([0.1, 0.25, 0.9, 0.6]),
        }  # fmt: skip
        found = {name: list(values) for name, values in subgroup_columns(columns).items()}
        self.assertEqual(found["age"], ["", "below 40", "40 to 50", "70 and more"])
        self.assertEqual(found["gradability"], ["below 0.25", "0.25 to 0.5", "0.75 and more", "0.5 to 0.75"])
        self.assertEqual(found["dme"], ["no DME", "", "DME near the fovea", "DME near the fovea"])
        self.assertNotIn("camera", found)  # all the same

    def test_several_record_sets(self):
        dataset = np.array(["a", "a", "b", "b"])
        columns = {"dataset": dataset, "source": np.array(["x", "x", "y", ""])}
        self.assertEqual(set(subgroup_columns(columns)), {"dataset", "source"})
        # Where sources are the sets under other names, to say all twice would cost verdicts.
        self.assertEqual(set(subgroup_columns(columns | {"source": np.array(["x", "x", "y", "y"])})), {"dataset"})
        self.assertEqual(set(subgroup_columns(columns | {"dataset": np.array(["a"] * 4)})), {"source"})

    def test_both_eyes_of_a_patient_are_one_example(self):
        columns = {
            "left_present": np.array([True, True, False, True, True]), "right_present": np.array([True, True, True, False, True]),
            "left/camera": np.array(["x", "x", "", "x", ""]), "right/camera": np.array(["x", "y", "y", "", "y"]),
            "left/gradability/score": np.array([0.9, 0.3, 0.0, 0.6, 0.8]),
            "right/gradability/score": np.array([0.6, 0.8, 0.9, 0.0, 0.1]),
            "left/source": np.array(["s"] * 5), "right/source": np.array(["s"] * 5), "age": np.array([30, 45, -1, 75, 75]),
        }  # fmt: skip
        found = {name: list(values) for name, values in subgroup_columns(columns).items()}
        self.assertEqual(found["camera"], ["x", "several", "y", "x", ""])
        expected = ["0.5 to 0.75", "0.25 to 0.5", "0.75 and more", "0.5 to 0.75", "below 0.25"]
        self.assertEqual(found["gradability"], expected)
        self.assertEqual(set(found), {"camera", "gradability", "age"})


class CaveatsTest(unittest.TestCase):
    def test_each_caveat(self):
        truth = np.array([0, 1, 2, 3, 4] * 20)
        decided = np.where(truth == 3, 4, truth)
        refer = decided >= 2
        refer[:3] = [True, True, False]
        sentences = "\n".join(caveats(make_graded(100, truth=truth, predicted=decided, refer=refer)))
        self.assertIn("“severe NPDR” is never predicted, though it is the true class of 20 photographs.", sentences)
        self.assertIn("disagree on referable for 3 of 100 photographs: 2 referred below it, 1 not referred", sentences)
        self.assertIn(
            "patients unknown", "\n".join(caveats(make_graded(100, patient_known=np.zeros(100, bool)))).lower()
        )

    def test_one_class_only(self):
        for grade, expected in ((0, "All 9 photographs are negative for referable: sensitivity and AUROC are undefined."),
                            (4, "are positive for referable: specificity and AUROC are undefined.")):  # fmt: skip
            truth = np.full(9, grade)
            self.assertIn(expected, caveats(make_graded(9, truth=truth, truth_positive=truth >= 2))[0])

    def test_no_caveat(self):
        truth = np.array([0, 1, 2, 3, 4] * 20)
        self.assertEqual(caveats(make_graded(100, truth=truth, predicted=truth, refer=truth >= 2)), [])
        self.assertIsNone(disagreements(make_labelled(10)))


class LabelShiftTest(unittest.TestCase):
    """Fitted on SHARES, evaluated where severe grades are common."""

    def setUp(self):
        rng = np.random.default_rng(0)
        self.prior, self.new = np.array(SHARES), np.array([0.1, 0.1, 0.2, 0.3, 0.3])
        self.fitted, self.target = (self._draw(rng, class_prior, 20_000) for class_prior in (self.prior, self.new))

    def _draw(self, rng, class_prior, n):
        """Compute the exact posterior for `prior` of images drawn with the class prior `class_prior`."""
        truth = rng.choice(5, p=class_prior, size=n)
        seen = truth + rng.normal(scale=0.6, size=n)
        likelihood = np.exp(-((seen[:, None] - np.arange(5)) ** 2) / 2 / 0.36) * self.prior
        return truth, likelihood / likelihood.sum(axis=1, keepdims=True)

    def test_both_methods_estimate_the_class_prior(self):
        np.testing.assert_allclose(em_prior(self.target[1], self.prior), self.new, atol=0.02)
        np.testing.assert_allclose(bbse_prior(self.fitted[1], *self.fitted[:1], self.target[1]), self.new, atol=0.04)

    def test_correction_improves_accuracy(self):
        truth, p = self.target
        n = len(truth)
        before = make_graded(n, truth=truth, probabilities=p, predicted=p.argmax(axis=1))
        after, class_prior = correct_label_shift(before, method="em", prior=self.prior)
        self.assertGreater((after.predicted == truth).mean(), (before.predicted == truth).mean() + 0.01)
        np.testing.assert_allclose(after.p_positive, after.probabilities[:, 2:].sum(axis=1))
        np.testing.assert_array_equal(after.refer, after.p_positive >= 0.4)
        np.testing.assert_allclose(class_prior, self.new, atol=0.02)

    def test_the_action_follows_and_the_gate_stays(self):
        truth, p = self.target
        n = len(truth)
        gradable = np.arange(n) % 7 > 0
        action = np.where(gradable, np.where(p[:, 2:].sum(axis=1) >= 0.4, "refer", "clear"), "retake")
        before = make_graded(
            n, truth=truth, probabilities=p, predicted=p.argmax(axis=1), action=action, gradable=gradable
        )
        after, _ = correct_label_shift(before, method="em", prior=self.prior)
        np.testing.assert_array_equal(after.action == "retake", ~gradable)
        np.testing.assert_array_equal(after.action == "refer", gradable & after.refer)
        self.assertTrue((after.action != before.action).any())

    def test_refusals(self):
        with self.assertRaisesRegex(UserError, "known: em, bbse"):
            correct_label_shift(make_graded(9), method="x", prior=self.prior)
        with self.assertRaisesRegex(UserError, "calibration"):
            correct_label_shift(make_graded(9), method="bbse", prior=self.prior)
        with self.assertRaisesRegex(UserError, "labels"):
            correct_label_shift(make_labelled(9), method="em", prior=np.ones(8) / 8)


class CompareTest(unittest.TestCase):
    def _runs(self, n=400, eyes=1):
        first = make_graded(n, eyes=eyes)
        rng = np.random.default_rng(9)
        decided = np.where(rng.random(n) < 0.2, rng.integers(5, size=n), first.predicted)
        p = np.clip(first.p_positive + rng.normal(scale=0.2, size=n), 0, 1)
        return first, make_graded(n, eyes=eyes, predicted=decided, p_positive=p, refer=p >= 0.4)

    def test_differences(self):
        first, second = self._runs()
        found = compare(first, second, bootstrap_samples=300)
        accuracy = found["metrics"]["accuracy"]
        expected = (second.predicted == second.truth).mean() - (first.predicted == first.truth).mean()
        self.assertAlmostEqual(accuracy["value"], expected)
        self.assertLess(accuracy["high"], 0)
        self.assertLess(found["metrics"]["auroc"]["value"], 0)
        self.assertEqual(found["metrics"]["auroc"]["method"], "DeLong, paired")
        self.assertIn("paired bootstrap, 300 bootstrap samples", accuracy["method"])
        # Paired is narrower than two separate intervals would be.
        self.assertLess(accuracy["high"] - accuracy["low"], 2 * 1.96 * np.sqrt(0.25 / 400))

    def test_by_patient(self):
        found = compare(*self._runs(eyes=2), bootstrap_samples=50)["metrics"]
        self.assertEqual(found["auroc"]["method"], "Obuchowski, paired, by patient")
        self.assertIn("paired patient bootstrap", found["accuracy"]["method"])

    def test_a_run_compared_with_itself(self):
        found = compare(make_graded(50), make_graded(50), bootstrap_samples=30)["metrics"]
        self.assertEqual(found["accuracy"]["value"], 0)
        self.assertIsNone(found["accuracy"]["low"])
        self.assertIsNone(found["auroc"]["low"])

    def test_photographs_in_common_only(self):
        first, second = self._runs(100)
        found = compare(first.take(np.arange(80)), second.take(np.arange(100)[::-1][:70]), bootstrap_samples=30)
        self.assertEqual((found["n"], found["left_out"]), (50, {"first": 30, "second": 20}))

    def test_refusals_and_other_definitions(self):
        first, second = self._runs(60)
        with self.assertRaisesRegex(UserError, "no photograph in common"):
            compare(first.take(np.arange(9)), second.take(np.arange(20, 30)))
        with self.assertRaisesRegex(UserError, "different labels"):
            compare(first, make_graded(60, seed=4))
        other = compare(first, make_graded(60, positive="any_dr"), bootstrap_samples=20)["metrics"]
        self.assertNotIn("sensitivity", other)
        self.assertIn("accuracy", other)
