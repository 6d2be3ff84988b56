import itertools
import unittest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from dr_tf.inference.grade_thresholds import (
    apply_grade_thresholds,
    expected_grade,
    fit_grade_thresholds,
    quadratic_kappa,
)


def probabilities_with_mean(grades, classes=3):
    """Class probabilities with these expected grades."""
    grades = np.asarray(grades, float)
    low = np.minimum(grades.astype(int), classes - 2)
    p = np.zeros((len(grades), classes))
    p[range(len(grades)), low], p[range(len(grades)), low + 1] = 1 - (grades - low), grades - low
    return p


class GradeThresholdsTest(unittest.TestCase):
    def test_by_hand(self):
        p = probabilities_with_mean([0.1, 0.3, 0.7, 0.8, 1.4, 1.9])
        np.testing.assert_allclose(expected_grade(p), [0.1, 0.3, 0.7, 0.8, 1.4, 1.9])
        thresholds = fit_grade_thresholds(p, [0, 0, 1, 1, 2, 2])
        np.testing.assert_allclose(thresholds, [0.5, 1.1])
        np.testing.assert_array_equal(apply_grade_thresholds(thresholds, p), [0, 0, 1, 1, 2, 2])

    def test_kappa_equals_that_of_scikit_learn(self):
        rng = np.random.default_rng(0)
        truth, grades = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
        self.assertAlmostEqual(quadratic_kappa(truth, grades), cohen_kappa_score(truth, grades, weights="quadratic"))
        self.assertEqual(quadratic_kappa([1, 1], [1, 1]), 0)

    @given(st.integers(0, 2**32 - 1), st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_no_other_thresholds_have_a_higher_kappa(self, seed, ties):
        rng = np.random.default_rng(seed)
        truth, noise = rng.integers(0, 4, 12), rng.normal(0, 1, 12)
        score = np.clip(truth + noise, 0, 3)
        p = probabilities_with_mean(np.round(score * 2) / 2 if ties else score, classes=4)
        values = np.unique(expected_grade(p))
        between = [-1, *((values[1:] + values[:-1]) / 2), 4]
        best = max(
            quadratic_kappa(truth, apply_grade_thresholds(thresholds, p))
            for thresholds in itertools.combinations_with_replacement(between, 3)
        )
        self.assertAlmostEqual(
            quadratic_kappa(truth, apply_grade_thresholds(fit_grade_thresholds(p, truth), p)), best, places=10
        )

    def test_ten_thousand_images(self):
        rng = np.random.default_rng(0)
        truth = rng.choice(5, 10000, p=[0.7, 0.1, 0.1, 0.06, 0.04])
        p = probabilities_with_mean(np.clip(0.6 * truth + rng.normal(0, 0.4, 10000), 0, 4), classes=5)
        thresholds = fit_grade_thresholds(p, truth)
        self.assertTrue((np.diff(thresholds) >= 0).all())
        self.assertGreater(
            quadratic_kappa(truth, apply_grade_thresholds(thresholds, p)),
            quadratic_kappa(truth, np.rint(expected_grade(p))),
        )

    def test_a_single_true_grade_still_gives_thresholds(self):
        self.assertEqual(len(fit_grade_thresholds(probabilities_with_mean([0.5, 0.7]), [1, 1])), 2)


if __name__ == "__main__":
    unittest.main()
