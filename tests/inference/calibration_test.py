import unittest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dr_tf.inference.calibration import Calibration, fit_calibration
from dr_tf.models.links import LINKS, scores_to_probabilities, sigmoid
from tests.inference import heads
from tests.inference.synthetic_patients import sample_severities, simulate_scores

FINITE = st.floats(-1e4, 1e4, allow_nan=False)


def sample_classes(probabilities, rng):
    """Sample a class for each row of probabilities."""
    return (
        (probabilities.cumsum(axis=1) < rng.random((len(probabilities), 1)))
        .sum(axis=1)
        .clip(max=probabilities.shape[1] - 1)
    )


class FitTest(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(0)

    def test_softmax_recovers_the_true_temperature_and_biases(self):
        logits = self.rng.normal(0, 3, (20000, 3))
        truth = sample_classes(heads.Softmax().probabilities(logits / 2.5 + [0.5, 0, -0.5]), self.rng)
        result = fit_calibration("softmax", logits, truth, 3)
        self.assertAlmostEqual(1 / result.slope[0], 2.5, delta=0.1)
        np.testing.assert_allclose(np.subtract(result.bias, np.mean(result.bias)), [0.5, 0, -0.5], atol=0.07)

    def test_labels_recover_each_slope_and_bias_and_ignore_unknown_labels(self):
        logits = self.rng.normal(0, 2, (20000, 2))
        truth = (self.rng.random(logits.shape) < sigmoid(logits * [0.5, 2] + [1, -1])).astype(int)
        truth[:5000, 0] = -1
        result = fit_calibration("labels", logits, truth, 2)
        np.testing.assert_allclose(result.slope, [0.5, 2], rtol=0.08)
        np.testing.assert_allclose(result.bias, [1, -1], atol=0.1)

    def test_coral_recovers_the_shared_slope_and_the_biases(self):
        latent = self.rng.normal(0, 3, (20000, 1))
        logits = latent + np.array([2.0, 1, 0, -1])  # mean 0.5 + latent
        head = heads.Coral()
        truth = sample_classes(head.probabilities(0.5 * latent + [1.5, 0, -0.5, -2]), self.rng)
        result = fit_calibration("coral", logits, truth, 5)
        self.assertAlmostEqual(result.slope[0], 0.5, delta=0.02)
        np.testing.assert_allclose(result.apply(logits, 5)[0], 0.5 * latent[0] + [1.5, 0, -0.5, -2], atol=0.12)

    def test_corn_fits_each_conditional_probability_on_the_examples_that_reach_it(self):
        logits = self.rng.normal(0, 2, (30000, 2))
        right = logits * [0.6, 1.5] + [0.5, -0.5]
        truth = sample_classes(heads.Corn(classes="012").probabilities(right), self.rng)
        result = fit_calibration("corn", logits, truth, 3)
        np.testing.assert_allclose(result.slope, [0.6, 1.5], rtol=0.08)
        np.testing.assert_allclose(result.bias, [0.5, -0.5], atol=0.1)

    def test_a_class_missing_from_the_split_keeps_a_positive_probability(self):
        logits = self.rng.normal(0, 1, (200, 5))
        for link, columns in (("softmax", 5), ("coral", 4), ("corn", 4), ("regression", 1)):
            with self.subTest(link):
                latent = logits[:, :1] + np.array([1.5, 0.5, -0.5, -1.5])
                x = latent if link == "coral" else logits[:, :columns]
                result = fit_calibration(link, x, self.rng.integers(0, 4, 200), 5)
                self.assertGreater(result.probabilities(x, 5)[:, 4].min(), 1e-5)

    def test_perfectly_separated_scores_give_a_finite_slope(self):
        logits = np.linspace(-2, 2, 40)[:, None]
        result = fit_calibration("binary", logits, (logits[:, 0] > 0).astype(int), 2)
        self.assertLess(result.slope[0], 20)
        self.assertGreater(result.slope[0], 1)

    def test_fitting_lowers_the_loss_of_every_link(self):
        truth = self.rng.integers(0, 5, 400)
        for link in ("softmax", "coral", "corn"):
            with self.subTest(link):
                head = heads.HEADS[link]()
                latent = truth[:, None] + self.rng.normal(0, 1.5, (400, 1)) - np.arange(head.outputs)
                x = 3 * latent + (self.rng.normal(0, 1, (400, head.outputs)) if link != "coral" else 0)
                before, after = (c.probabilities(x, 5) for c in (Calibration(link), fit_calibration(link, x, truth, 5)))
                loss = [-np.log(p[range(400), truth] + 1e-12).mean() for p in (before, after)]
                self.assertLess(loss[1], loss[0])

    def test_a_regression_with_a_stretched_scale_is_corrected(self):
        """It predicts 2 * severity - 2: mild disease gets the score of none, severe that of proliferative."""
        latent, grades, _ = sample_severities(5000, self.rng)
        scores = simulate_scores(heads.Regression(), latent)
        fitted = fit_calibration("regression", scores[:5000], grades[:5000], 5)
        unseen, right = scores[5000:], grades[5000:]
        before, after = (c.probabilities(unseen, 5) for c in (Calibration("regression"), fitted))
        loss = [-np.log(p[range(5000), right] + 1e-12).mean() for p in (before, after)]
        self.assertLess(loss[1], 0.8 * loss[0])
        any_dr = (right >= 1).mean()
        self.assertAlmostEqual(after[:, 1:].sum(axis=1).mean(), any_dr, delta=0.02)
        self.assertGreater(abs(before[:, 1:].sum(axis=1).mean() - any_dr), 0.025)
        # Parameters after expansion to thresholds: one slope, four biases.
        self.assertEqual((len(fitted.slope), len(fitted.bias)), (1, 4))

    def test_a_regression_recovers_the_true_slope(self):
        scores = self.rng.uniform(-1, 5, (20000, 1))
        right = scores_to_probabilities(
            "coral", 2 * scores - [1.0, 3, 5, 7], 5
        )  # twice as steep as a grade, thresholds half way
        result = fit_calibration("regression", scores, sample_classes(right, self.rng), 5)
        self.assertAlmostEqual(result.slope[0], 0.5, delta=0.02)  # the uncalibrated slope is 4
        np.testing.assert_allclose(result.apply([[2.0]], 5), [[3, 1, -1, -3]], atol=0.1)


class ApplyTest(unittest.TestCase):
    def test_by_hand(self):
        logits = [[2.0, 4.0]]
        np.testing.assert_allclose(Calibration("softmax", (0.5,), (1, -1)).apply(logits, 2), [[2, 1]])
        np.testing.assert_allclose(Calibration("labels", (0.5, 2), (1, -1)).apply(logits, 2), [[2, 7]])
        np.testing.assert_allclose(Calibration("coral", (0.5,), (1, -1)).apply(logits, 3), [[2.5, 0.5]])
        np.testing.assert_allclose(Calibration("softmax").apply(logits, 2), logits)
        # A grade of 1.5 is 4 above the threshold of 0.5 and at that of 1.5: a mean of 2.
        np.testing.assert_allclose(Calibration("regression", (0.5,), (1, -1)).apply([[1.5]], 3), [[2, 0]])
        np.testing.assert_allclose(Calibration("regression").apply([[1.5]], 3), [[4, 0]])

    def test_probabilities_by_hand(self):
        (result,) = Calibration("binary", (2.0,), (np.log(2),)).probabilities([[np.log(2)]], 2)
        np.testing.assert_allclose(result, [1 / 9, 8 / 9])

    def test_invalid_parameters_are_refused(self):
        for arguments in (
            ("softmax", (0.0,), (1, 1)),
            ("softmax", (1.0, 1.0), (1, 1)),
            ("softmax", (1.0,), ()),
            ("softmax", (), (1.0,)),
            ("labels", (1.0,), (1, 1)),
            ("binary", (float("nan"),), (1,)),
            ("binary", (1e308,), (1,)),
            ("coral", (1.0,), (1, 1)),
            ("platt", (1.0,), (1,)),
        ):
            with self.subTest(arguments), self.assertRaises(ValueError):
                Calibration(*arguments)
        with self.assertRaisesRegex(ValueError, "for 2 scores"):
            Calibration("softmax", (1.0,), (0, 0)).apply(np.zeros((1, 3)), 3)

    @given(
        hnp.arrays(np.float64, (3, 4), elements=FINITE),
        st.floats(1e-3, 100),
        st.lists(st.floats(0.01, 5), min_size=4, max_size=4),
    )
    @settings(max_examples=200, deadline=None)
    def test_coral_cumulative_probabilities_never_rise_for_any_logits(self, logits, slope, gaps):
        fitted = Calibration("coral", (slope,), tuple((10 - np.cumsum(gaps)).tolist()))
        self.assertLessEqual(np.diff(sigmoid(fitted.apply(logits, 5)), axis=1).max(), 0)

    @given(hnp.arrays(np.float64, (3, 4), elements=FINITE), st.lists(st.floats(1e-3, 100), min_size=4, max_size=4))
    @settings(max_examples=200, deadline=None)
    def test_corn_probabilities_are_never_negative_for_any_logits(self, logits, slopes):
        fitted = Calibration("corn", tuple(slopes), (1.0, -2.0, 3.0, 0.0))
        self.assertGreaterEqual(fitted.probabilities(logits, 5).min(), 0)

    @given(st.integers(0, 2**32 - 1))
    @settings(max_examples=15, deadline=None)
    def test_fitted_coral_biases_descend(self, seed):
        rng = np.random.default_rng(seed)
        result = fit_calibration("coral", rng.normal(0, 5, (30, 1)) + rng.normal(0, 3, 4), rng.integers(0, 5, 30), 5)
        self.assertLess(np.diff(result.bias).max(), 0)

    def test_each_row_is_calibrated_independently(self):
        logits = np.random.default_rng(0).normal(0, 2, (50, 4))
        for link, classes in zip(LINKS, (4, 2, 4, 5, 5, 5), strict=True):
            x = logits[:, :1] if link in ("binary", "regression") else logits
            truth = (x > 1).astype(int) if link in ("binary", "labels") else np.arange(50) % 4
            result = fit_calibration(link, x, truth, classes)
            with self.subTest(link):
                np.testing.assert_array_equal(result.apply(x, classes)[7:8], result.apply(x[7:8], classes))
                self.assertEqual(result.probabilities(x, classes).shape, (50, classes))


if __name__ == "__main__":
    unittest.main()
