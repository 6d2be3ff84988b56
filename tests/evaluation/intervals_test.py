"""Wilson, DeLong and Obuchowski against published, hand-computed and brute-force values."""

import math
import unittest

import numpy as np

from dr_tf.evaluation.statistics.auroc import auroc_covariance, auroc_difference, auroc_interval, delong_covariance
from dr_tf.evaluation.statistics.proportions import wilson


class WilsonTest(unittest.TestCase):
    def test_published_values(self):
        # Newcombe, Statistics in Medicine 1998, table I, method 3.
        for hits, n, low, high in (
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ):
            with self.subTest(hits=hits, n=n):
                np.testing.assert_allclose(wilson(hits, n), (low, high), atol=5e-5)

    def test_ends_and_emptiness(self):
        self.assertEqual(wilson(20, 20)[1], 1.0)
        self.assertEqual(wilson(0, 20)[0], 0.0)
        self.assertTrue(math.isnan(wilson(0, 0)[0]))


def by_definition(scores, truth, patients):
    """AUROC, and Obuchowski's variance from every pair, patient by patient."""
    positives, negatives = np.flatnonzero(truth), np.flatnonzero(~truth)
    wins = (scores[positives, None] > scores[negatives]) + 0.5 * (scores[positives, None] == scores[negatives])
    area, v10, v01 = wins.mean(), wins.mean(axis=1), wins.mean(axis=0)
    names = np.unique(patients)
    over10 = np.array([(v10[patients[positives] == p] - area).sum() for p in names])
    over01 = np.array([(v01[patients[negatives] == p] - area).sum() for p in names])
    m, n, i = len(positives), len(negatives), len(names)
    i10, i01 = (len(np.unique(patients[rows])) for rows in (positives, negatives))
    s10, s01 = i10 / (i10 - 1) / m * (over10**2).sum(), i01 / (i01 - 1) / n * (over01**2).sum()
    s11 = i / (i - 1) * (over10 * over01).sum()
    return area, s10 / m + s01 / n + 2 * s11 / (m * n)


class AurocTest(unittest.TestCase):
    def test_delong_by_hand(self):
        # V10 = 1, 1, 1/2 and V01 = 2/3, 1; variance (1/12) / 3 + (1/18) / 2 = 1/18.
        areas, covariance = delong_covariance([0.9, 0.6, 0.4, 0.5, 0.3], [1, 1, 1, 0, 0], list("abcde"))
        np.testing.assert_allclose(areas, 5 / 6)
        np.testing.assert_allclose(covariance, 1 / 18)

    def test_obuchowski_by_hand(self):
        # The same, but the first positive and the first negative are of one patient, and so are the other two
        # positives: sums over V10 - 5/6: 1/6, -1/6 (I10 = 2); over V01: -1/6, 1/6 (I01 = 2); products: -1/36 (I = 3).
        # S10 = 2 / 3 * 2/36 = 1/27, S01 = 2 / 2 * 2/36 = 1/18, S11 = 3/2 * -1/36 = -1/24.
        _, covariance = auroc_covariance([0.9, 0.6, 0.4, 0.5, 0.3], [1, 1, 1, 0, 0], list("abbac"))
        np.testing.assert_allclose(covariance, 1 / 27 / 3 + 1 / 18 / 2 - 2 / 24 / 6)

    def test_equals_the_definition_with_ties_and_clusters(self):
        rng = np.random.default_rng(1)
        for patients in (np.arange(120), np.repeat(np.arange(60), 2), rng.integers(40, size=120)):
            truth = rng.random(120) < 0.4
            scores = np.round(truth + rng.normal(size=120), 1)
            areas, covariance = auroc_covariance(scores, truth, patients)
            area, variance = by_definition(scores, truth, patients)
            np.testing.assert_allclose((areas[0], covariance[0, 0]), (area, variance), rtol=1e-12)

    def test_delong_is_refused_for_several_photographs_a_patient(self):
        with self.assertRaisesRegex(ValueError, "one image per patient"):
            delong_covariance([0.9, 0.6, 0.4, 0.5, 0.3], [1, 1, 1, 0, 0], list("aabcd"))

    def test_interval_names_its_method_and_stays_inside(self):
        rng = np.random.default_rng(2)
        truth = rng.random(60) < 0.5
        scores = 3 * truth + rng.normal(size=60)
        area, low, high, method = auroc_interval(scores, truth, np.arange(60))
        self.assertEqual(method, "DeLong")
        self.assertTrue(0 < low < area < high < 1)
        self.assertEqual(auroc_interval(scores, truth, np.arange(60) // 2)[3], "Obuchowski, by patient")

    def test_where_all_pairs_agree_the_interval_has_a_width(self):
        truth = np.array([1] * 10 + [0] * 30, bool)
        area, low, high, method = auroc_interval(truth.astype(float), truth, np.arange(40))
        np.testing.assert_allclose((area, low, high), (1, *wilson(10, 10)))
        self.assertIn("10 independent pairs", method)
        # Every patient has one of each: two patients make one pair.
        both = np.tile([1, 0], 20).astype(bool)
        self.assertIn("10 independent pairs", auroc_interval(both.astype(float), both, np.arange(40) // 2)[3])

    def test_one_class_is_undefined(self):
        self.assertTrue(math.isnan(auroc_interval(np.arange(3.0), np.ones(3), np.arange(3))[0]))

    def test_difference_of_two_runs(self):
        """The variance of a difference is that of the placements' differences."""
        rng = np.random.default_rng(3)
        truth = rng.random(200) < 0.4
        first = truth + rng.normal(size=200)
        second = first + rng.normal(size=200)
        difference, low, high, method = auroc_difference(first, second, truth, np.arange(200))
        areas, covariance = auroc_covariance([first, second], truth, np.arange(200))
        v = [covariance[0, 0], covariance[1, 1], covariance[0, 1]]
        self.assertAlmostEqual(difference, areas[0] - areas[1])
        self.assertAlmostEqual((high - low) / 2, 1.95996 * math.sqrt(v[0] + v[1] - 2 * v[2]), places=5)
        self.assertGreater(v[2], 0)
        self.assertEqual(method, "DeLong, paired")
        swapped = auroc_difference(second, first, truth, np.arange(200))
        np.testing.assert_allclose(swapped[:3], (-difference, -high, -low))
