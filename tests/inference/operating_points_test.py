import dataclasses
import unittest

import numpy as np
import pytest
from scipy.stats import beta, norm

from dr_tf.inference.fit_rule import UNKNOWN_PATIENTS
from dr_tf.inference.operating_points import (
    fit_operating_point,
    guaranteed_rank,
    operating_point_name,
    patient_scores,
    patients_needed,
)


def point(criterion, target, positives, negatives):
    scores = np.concatenate([positives, negatives])
    return fit_operating_point(criterion, target, scores, np.repeat([1, 0], [len(positives), len(negatives)]))


class RankTest(unittest.TestCase):
    def test_a_sensitivity_of_90_percent_needs_29_patients(self):
        self.assertEqual(guaranteed_rank(28, 0.9), 0)  # 0.9 ** 28 = 0.0523
        self.assertEqual(guaranteed_rank(29, 0.9), 1)  # 0.9 ** 29 = 0.0471
        self.assertEqual(patients_needed(0.9), 29)
        self.assertEqual(patients_needed(0.95), 59)
        self.assertEqual(guaranteed_rank(0, 0.9), 0)

    def test_it_is_the_highest_rank_with_the_guarantee(self):
        for n in (29, 46, 60, 100, 1000):
            for share in (0.8, 0.9, 0.95):
                m = guaranteed_rank(n, share)
                if m:
                    self.assertLessEqual(beta.sf(1 - share, m, n + 1 - m), 0.05 + 1e-12)
                self.assertGreater(beta.sf(1 - share, m + 1, n - m), 0.05)


class OperatingPointTest(unittest.TestCase):
    def test_sensitivity_by_hand(self):
        positives = np.arange(1, 101) / 100
        # Bin(100, 0.1): P(X <= 4) = 0.024, P(X <= 5) = 0.058. So the threshold is the fifth smallest score.
        result = point("sensitivity", 0.9, positives, np.array([0.01, 0.045, 0.05, 0.5]))
        self.assertEqual((result.threshold, result.guaranteed), (0.05, True))
        self.assertEqual((result.sensitivity, result.specificity), (0.96, 0.5))

    def test_specificity_by_hand(self):
        negatives = np.arange(1, 101) / 100
        result = point("specificity", 0.9, np.array([0.95, 0.96, 0.97]), negatives)
        self.assertTrue(result.guaranteed)
        self.assertEqual(result.threshold, np.nextafter(0.96, 1))
        self.assertEqual((result.specificity, round(result.sensitivity, 3)), (0.96, 0.333))

    def test_with_too_few_patients_the_threshold_keeps_all_of_them_without_guarantee(self):
        result = point("sensitivity", 0.9, np.arange(1, 21) / 20, np.zeros(3))
        self.assertEqual((result.threshold, result.guaranteed, result.sensitivity), (0.05, False, 1.0))
        self.assertEqual(
            result.note,
            "not guaranteed: sensitivity at least 0.9 needs 29 patients, the calibration split has 20; the threshold keeps all 20",
        )
        self.assertFalse(point("specificity", 0.9, np.ones(3), np.arange(28) / 28).guaranteed)

    def test_a_higher_target_never_gets_a_higher_threshold(self):
        for n in (5, 28, 29, 58, 59, 300):
            positives = np.random.default_rng(n).random(n)
            thresholds = [point("sensitivity", s, positives, np.zeros(1)).threshold for s in (0.8, 0.9, 0.95, 0.99)]
            self.assertEqual(thresholds, sorted(thresholds, reverse=True), n)

    def test_without_patients_the_threshold_is_one_half(self):
        for criterion, target in (("sensitivity", 0.9), ("youden", None), ("f1", None)):
            result = point(criterion, target, np.array([]), np.array([0.2]))
            self.assertEqual((result.threshold, result.guaranteed, result.sensitivity), (0.5, False, None))
            self.assertIn("the threshold is 0.5 instead", result.note)

    def test_youden_by_hand(self):
        result = point("youden", None, np.array([0.4, 0.6, 0.8]), np.array([0.1, 0.2, 0.5, 0.7]))
        # At 0.4: 1 + 2/4 - 1. At 0.6: 2/3 + 3/4 - 1. At 0.8: 1/3 + 1 - 1.
        self.assertEqual((result.threshold, result.sensitivity, result.specificity), (0.4, 1.0, 0.5))

    def test_f1_by_hand(self):
        result = point("f1", None, np.array([0.4, 0.6, 0.8]), np.array([0.1, 0.2, 0.5, 0.7]))
        # 2 TP / (2 TP + FP + FN) at 0.4: 6 / (6 + 2). At 0.6: 4 / (4 + 1 + 1). At 0.8: 2 / (2 + 2).
        self.assertEqual((result.threshold, result.sensitivity, result.specificity), (0.4, 1.0, 0.5))
        self.assertEqual(point("f1", None, np.array([0.4, 0.6, 0.8]), np.array([0.5] * 9)).threshold, 0.6)
        self.assertEqual(point("f1", None, np.array([0.4]), np.array([])).threshold, 0.4)

    def test_equal_scores_are_all_referred(self):
        result = point("sensitivity", 0.9, np.full(40, 0.3), np.full(5, 0.3))
        self.assertEqual((result.sensitivity, result.specificity), (1, 0))

    def test_patients_with_unknown_label_are_left_out(self):
        scores, truth = np.array([0.9, 0.1, 0.5]), np.array([1, 0, -1])
        self.assertEqual(fit_operating_point("youden", None, scores, truth).threshold, 0.9)

    def test_without_a_guarantee_the_threshold_is_the_same_and_the_note_has_the_reason(self):
        scores, truth = np.arange(1, 121) / 120, np.repeat([0, 1], [20, 100])
        for criterion, target in (("sensitivity", 0.9), ("specificity", 0.8), ("youden", None)):
            guaranteed = fit_operating_point(criterion, target, scores, truth)
            plain = fit_operating_point(criterion, target, scores, truth, no_guarantee="another network decides")
            with self.subTest(criterion):
                self.assertEqual(
                    dataclasses.replace(plain, guaranteed=guaranteed.guaranteed, note=guaranteed.note), guaranteed
                )
                self.assertFalse(plain.guaranteed)
                if guaranteed.guaranteed:
                    what = f"{criterion} at least {target}"
                    self.assertEqual(plain.note, f"set for {what}, not guaranteed: another network decides")
                else:
                    self.assertEqual(plain.note, guaranteed.note)

    def test_too_few_patients_are_the_first_reason(self):
        result = fit_operating_point("sensitivity", 0.9, np.ones(3), np.ones(3), no_guarantee="another network decides")
        self.assertRegex(result.note, "needs 29 patients, the calibration split has 3")

    def test_names_and_errors(self):
        self.assertEqual(
            (operating_point_name("sensitivity", 0.9), operating_point_name("youden")), ("sensitivity_0.9", "youden")
        )
        with self.assertRaisesRegex(ValueError, "known: sensitivity, specificity, youden, f1"):
            point("recall", 0.9, np.ones(1), np.ones(1))
        with self.assertRaisesRegex(ValueError, "between 0 and 1"):
            point("sensitivity", 90, np.ones(1), np.ones(1))


class PatientScoresTest(unittest.TestCase):
    def test_the_highest_score_of_a_patient_counts(self):
        scores, truth = patient_scores([0.2, 0.9, 0.1, 0.3, 0.4, 0.6], [0, 1, 0, 0, 0, -1], list("aabbcc"))
        np.testing.assert_array_equal(scores, [0.9, 0.3, 0.6])
        np.testing.assert_array_equal(truth, [1, 0, -1])

    def test_a_positive_eye_makes_the_patient_positive_whatever_the_other(self):
        np.testing.assert_array_equal(patient_scores([0.2, 0.9], [-1, 1], ["a", "a"])[1], [1])


def failure_rate(criterion, target, n, draws, rng):
    """How often the guarantee fails for scores N(0, 1) of negatives and N(1, 1) of positives."""
    few = 0
    for _ in range(draws):
        result = point(criterion, target, rng.normal(1, 1, n), rng.normal(0, 1, n))
        true = norm.sf(result.threshold, 1) if criterion == "sensitivity" else norm.cdf(result.threshold)
        few += true < target
    return few / draws


def sample_features(n, rng):
    """(features [n, 60], labels [n]). Two of three are positive, and their first feature is higher by 2."""
    truth = rng.permutation(np.arange(n) % 3 > 0).astype(int)
    features = rng.normal(size=(n, 60))
    features[:, 0] += 2 * truth
    return features, truth


def least_squares(features, truth):
    return np.linalg.lstsq(features, 2.0 * truth - 1, rcond=None)[0]


class GuaranteeTest(unittest.TestCase):
    """A guarantee with 95 % confidence may fail in 5 % of calibration splits. Limits allow for the number of draws."""

    def test_the_guarantee_holds(self):
        rng = np.random.default_rng(0)
        for criterion in ("sensitivity", "specificity"):
            for n in (29, 60, 200):
                with self.subTest(criterion=criterion, n=n):
                    self.assertLess(failure_rate(criterion, 0.9, n, 1000, rng), 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5)

    def test_the_empirical_quantile_fails_in_about_half_of_the_draws(self):
        rng, few = np.random.default_rng(0), 0
        for _ in range(1000):
            positives = np.sort(rng.normal(1, 1, 100))
            few += norm.sf(positives[10], 1) < 0.9
        self.assertGreater(few / 1000, 0.4)

    def test_counting_images_instead_of_patients_breaks_the_guarantee(self):
        """Both eyes of a patient have nearly equal scores: 120 images carry hardly more information."""
        rng, low = np.random.default_rng(1), {"photographs": 0, "patients": 0}

        def eyes_of(patients):
            return rng.normal(1, 1, (patients, 1)) + rng.normal(0, 0.05, (patients, 2))

        everybody = eyes_of(200_000)
        whole = {"photographs": np.sort(everybody.ravel()), "patients": np.sort(everybody.max(axis=1))}
        for _ in range(1000):
            seen, names = eyes_of(60).ravel(), np.arange(60).repeat(2)
            for unit, patients in (("photographs", np.arange(120)), ("patients", names)):
                scores, truth = patient_scores(seen, np.ones(120, int), patients)
                guaranteed = fit_operating_point("sensitivity", 0.9, scores, truth)
                low[unit] += np.searchsorted(whole[unit], guaranteed.threshold) / len(whole[unit]) > 0.1
        plain = fit_operating_point("sensitivity", 0.9, scores, truth, no_guarantee=UNKNOWN_PATIENTS)
        self.assertEqual((guaranteed.guaranteed, plain.guaranteed), (True, False))
        self.assertEqual(guaranteed.threshold, plain.threshold)
        self.assertGreater(low["photographs"] / 1000, 0.08)
        self.assertLess(low["patients"] / 1000, 0.05 + 0.021)

    def test_thresholds_from_folds_fail_if_the_refit_scores_on_another_scale(self):
        """Least squares on 60 features: folds are fitted on 48 patients, the refit on 60, with the largest weights."""
        rng, low = np.random.default_rng(0), {"split": 0, "refit": 0}
        for _ in range(100):
            (features, truth), (others, truth_of_others) = sample_features(60, rng), sample_features(60, rng)
            weights, folds = least_squares(features, truth), np.arange(60) % 5
            by_folds = [least_squares(features[folds != fold], truth[folds != fold]) for fold in range(5)]
            scores = {"split": (others @ weights, truth_of_others)}
            scores["refit"] = np.einsum("nf,nf->n", features, np.array(by_folds)[folds]), truth
            for unit, scored in scores.items():
                threshold = fit_operating_point("sensitivity", 0.9, *scored).threshold
                low[unit] += norm.cdf((2 * weights[0] - threshold) / np.linalg.norm(weights)) < 0.9
        self.assertLess(low["split"] / 100, 0.05 + 0.065)
        self.assertGreater(low["refit"] / 100, 0.5)

    @pytest.mark.slow
    def test_the_guarantee_holds_in_many_draws(self):
        rng = np.random.default_rng(2)
        for criterion in ("sensitivity", "specificity"):
            for target in (0.8, 0.9, 0.95):
                for n in (patients_needed(target), 100, 300):
                    with self.subTest(criterion=criterion, target=target, n=n):
                        share = failure_rate(criterion, target, n, 10000, rng)
                        print(f"{criterion} {target} n={n}: guarantee fails in {share:.2%}")
                        self.assertLess(share, 0.05 + 3 * (0.05 * 0.95 / 10000) ** 0.5)


if __name__ == "__main__":
    unittest.main()
