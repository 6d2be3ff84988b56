import unittest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dr_tf.console import UserError
from dr_tf.inference.priors import (
    class_prior,
    estimate_prior,
    positive_classes,
    prior_at_prevalence,
    shift_prior,
    target_prior,
)
from dr_tf.models.links import scores_to_probabilities
from tests.inference import heads

SHARES = st.lists(st.floats(0.01, 1), min_size=5, max_size=5).map(lambda v: np.array(v) / np.sum(v))


class EstimatePriorTest(unittest.TestCase):
    def test_perfect_predictions_are_counted(self):
        np.testing.assert_allclose(estimate_prior(np.eye(2)[[0, 0, 0, 1]], [0.5, 0.5]), [0.75, 0.25], atol=1e-3)

    def test_an_estimate_without_labels_finds_the_prevalence(self):
        rng, prior, n = np.random.default_rng(0), np.array([0.5, 0.5]), 20000
        for prevalence in (0.1, 0.4, 0.8):
            positive = rng.random(n) < prevalence
            x = rng.normal(size=n) + positive * 1.5  # the posterior at equal shares is a logistic function of x
            p = 1 / (1 + np.exp(-(1.5 * x - 1.5**2 / 2)))
            with self.subTest(prevalence):
                exclusive = estimate_prior(np.column_stack([1 - p, p]), prior)
                np.testing.assert_allclose(exclusive, [1 - prevalence, prevalence], atol=0.02)
                np.testing.assert_allclose(estimate_prior(p[:, None], [0.5], exclusive=False), [prevalence], atol=0.02)


class ShiftPriorTest(unittest.TestCase):
    def test_by_hand(self):
        # From (0.5, 0.5) to (0.9, 0.1): 0.8 * (0.1 / 0.5) against 0.2 * (0.9 / 0.5).
        moved = shift_prior([[0.2, 0.8]], [0.5, 0.5], [0.9, 0.1])
        np.testing.assert_allclose(moved, [[0.36 / 0.52, 0.16 / 0.52]])

    def test_an_independent_label_is_shifted_like_two_classes(self):
        moved = shift_prior([[0.8, 0.3]], [0.5, 0.2], [0.1, 0.2], exclusive=False)
        np.testing.assert_allclose(moved, [[0.16 / 0.52, 0.3]])

    def test_the_mean_posterior_is_the_target_prior(self):
        rng = np.random.default_rng(0)
        natural, n = np.array([0.7, 0.1, 0.1, 0.06, 0.04]), 40000
        centres = np.array([-1.0, 0, 0.5, 1.5, 2.5])

        def posterior(x, prior):
            density = prior * np.exp(-((x[:, None] - centres) ** 2) / 2)
            return density / density.sum(axis=1, keepdims=True)

        x = centres[rng.choice(5, n, p=natural)] + rng.normal(size=n)
        moved = shift_prior(posterior(x, np.full(5, 0.2)), np.full(5, 0.2), natural)
        np.testing.assert_allclose(moved, posterior(x, natural), atol=1e-12)
        np.testing.assert_allclose(moved.mean(axis=0), natural, atol=0.006)

    @given(SHARES, SHARES, SHARES, SHARES)
    @settings(max_examples=200, deadline=None)
    def test_two_shifts_equal_one_and_cumulative_probabilities_never_rise(self, p, fitted, middle, target):
        at_once = shift_prior(p[None], fitted, target)
        np.testing.assert_allclose(
            shift_prior(shift_prior(p[None], fitted, middle), middle, target), at_once, rtol=1e-9
        )
        above = at_once[:, ::-1].cumsum(axis=1)[:, ::-1]
        self.assertLessEqual(np.diff(above, axis=1).max(), 0)

    @given(st.lists(st.floats(-30, 30), min_size=4, max_size=4), SHARES, SHARES)
    @settings(max_examples=100, deadline=None)
    def test_shifted_probabilities_of_an_ordinal_head_are_valid(self, latents, fitted, target):
        logits = np.array([sorted(latents, reverse=True)])
        moved = shift_prior(scores_to_probabilities("coral", logits, 5), fitted, target)
        self.assertGreaterEqual(moved.min(), 0)
        self.assertAlmostEqual(moved.sum(), 1)


class TargetPriorTest(unittest.TestCase):
    head = heads.Softmax()
    fitted, train = np.full(5, 0.2), np.array([0.7, 0.1, 0.1, 0.06, 0.04])

    def target(self, prior, head=None, fitted=None):
        fitted = self.fitted if fitted is None else fitted
        return target_prior(prior, fitted=fitted, train=self.train, head=head or self.head)

    def test_class_prior_adds_half_a_case(self):
        np.testing.assert_allclose(class_prior([0, 0, 1, -1], 3), [2.5 / 4.5, 1.5 / 4.5, 0.5 / 4.5])
        np.testing.assert_allclose(class_prior(np.array([[1, 0], [1, -1], [0, -1]]), 2), [2.5 / 4, 0.5 / 2])

    def test_priors_by_name(self):
        np.testing.assert_allclose(self.target("fitted"), self.fitted)
        np.testing.assert_allclose(self.target("train"), self.train)
        np.testing.assert_allclose(self.target("uniform"), np.full(5, 0.2))
        np.testing.assert_allclose(self.target("uniform", heads.MultiLabel(), np.full(3, 0.1)), np.full(3, 0.5))

    def test_a_table_is_ordered_by_class_and_scaled_to_one(self):
        table = {"1": 1, "0": 6, "2": 1, "3": 1, "4": 1}
        np.testing.assert_allclose(self.target(table), [0.6, 0.1, 0.1, 0.1, 0.1])

    def test_a_prevalence_keeps_the_ratios_of_positive_classes(self):
        np.testing.assert_array_equal(positive_classes(self.head), [False, False, True, True, True])
        np.testing.assert_allclose(self.target(0.03), [0.485, 0.485, 0.01, 0.01, 0.01])
        np.testing.assert_allclose(
            prior_at_prevalence([0.1, 0.2], 0.4, np.array([False, True]), exclusive=False), [0.1, 0.4]
        )

    def test_user_errors_are_one_line(self):
        for prior, message in (
            ("natural", "known: fitted, train, uniform"),
            ({"0": 1.0}, "the classes are 0, 1, 2, 3, 4"),
            ({"0": 1, "1": 0, "2": 1, "3": 1, "4": 1}, "above 0"),
            (1.5, "between 0 and 1"),
        ):
            with self.subTest(prior), self.assertRaisesRegex(UserError, message):
                self.target(prior)


if __name__ == "__main__":
    unittest.main()
