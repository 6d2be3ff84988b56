import unittest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dr_tf.inference import calibration
from dr_tf.inference.calibration import Calibration, fit, logits_of, sigmoid
from tests.inference import heads

FINITE = st.floats(-1e4, 1e4, allow_nan=False)


def drawn(probabilities, rng):
    """A class each, by its probabilities."""
    return (
        (probabilities.cumsum(axis=1) < rng.random((len(probabilities), 1)))
        .sum(axis=1)
        .clip(max=probabilities.shape[1] - 1)
    )


class FitTest(unittest.TestCase):
    def setUp(self):
        self.rng = np.random.default_rng(0)

    def test_softmax_finds_the_temperature_and_biases_that_truth_was_drawn_from(self):
        logits = self.rng.normal(0, 3, (20000, 3))
        truth = drawn(heads.Softmax().probabilities(logits / 2.5 + [0.5, 0, -0.5]), self.rng)
        found = fit("softmax", logits, truth)
        self.assertAlmostEqual(1 / found.slope[0], 2.5, delta=0.1)
        np.testing.assert_allclose(np.subtract(found.bias, np.mean(found.bias)), [0.5, 0, -0.5], atol=0.07)

    def test_sigmoid_finds_slope_and_bias_of_each_label_and_skips_what_is_not_known(self):
        logits = self.rng.normal(0, 2, (20000, 2))
        truth = (self.rng.random(logits.shape) < sigmoid(logits * [0.5, 2] + [1, -1])).astype(int)
        truth[:5000, 0] = -1
        found = fit("sigmoid", logits, truth)
        np.testing.assert_allclose(found.slope, [0.5, 2], rtol=0.08)
        np.testing.assert_allclose(found.bias, [1, -1], atol=0.1)

    def test_coral_finds_the_shared_slope_and_the_thresholds(self):
        latent = self.rng.normal(0, 3, (20000, 1))
        logits = latent + np.array([2.0, 1, 0, -1])  # mean 0.5 + latent
        head = heads.Coral()
        truth = drawn(head.probabilities(0.5 * latent + [1.5, 0, -0.5, -2]), self.rng)
        found = fit("coral", logits, truth)
        self.assertAlmostEqual(found.slope[0], 0.5, delta=0.02)
        np.testing.assert_allclose(found.apply(logits)[0], 0.5 * latent[0] + [1.5, 0, -0.5, -2], atol=0.12)

    def test_corn_fits_each_condition_on_those_who_reach_it(self):
        logits = self.rng.normal(0, 2, (30000, 2))
        right = logits * [0.6, 1.5] + [0.5, -0.5]
        truth = drawn(heads.Corn(classes="012").probabilities(right), self.rng)
        found = fit("corn", logits, truth)
        np.testing.assert_allclose(found.slope, [0.6, 1.5], rtol=0.08)
        np.testing.assert_allclose(found.bias, [0.5, -0.5], atol=0.1)

    def test_weights_count_as_repeats(self):
        logits = self.rng.normal(0, 2, (60, 3))
        truth = self.rng.integers(0, 3, 60)
        twice = np.arange(60) % 2 + 1
        repeated = fit("softmax", np.repeat(logits, twice, axis=0), np.repeat(truth, twice))
        np.testing.assert_allclose(
            fit("softmax", logits, truth, twice).apply(logits), repeated.apply(logits), atol=1e-4
        )

    def test_a_class_that_the_split_lacks_stays_possible(self):
        logits = self.rng.normal(0, 1, (200, 5))
        for kind, columns in (("softmax", 5), ("coral", 4), ("corn", 4)):
            with self.subTest(kind):
                head = heads.HEADS[kind]()
                latent = logits[:, :1] + np.array([1.5, 0.5, -0.5, -1.5])
                x = latent if kind == "coral" else logits[:, :columns]
                found = fit(kind, x, self.rng.integers(0, 4, 200))
                self.assertGreater(head.probabilities(found.apply(x))[:, 4].min(), 1e-5)

    def test_a_split_that_the_network_separates_gives_a_finite_slope(self):
        logits = np.linspace(-2, 2, 40)[:, None]
        found = fit("sigmoid", logits, (logits[:, 0] > 0).astype(int))
        self.assertLess(found.slope[0], 20)
        self.assertGreater(found.slope[0], 1)

    def test_fitting_lowers_the_loss_of_every_kind(self):
        truth = self.rng.integers(0, 5, 400)
        for kind in ("softmax", "coral", "corn"):
            with self.subTest(kind):
                head = heads.HEADS[kind]()
                latent = truth[:, None] + self.rng.normal(0, 1.5, (400, 1)) - np.arange(head.outputs)
                x = 3 * latent + (self.rng.normal(0, 1, (400, head.outputs)) if kind != "coral" else 0)
                after = fit(kind, x, truth).apply(x)
                loss = [-np.log(head.probabilities(rows)[range(400), truth] + 1e-12).mean() for rows in (x, after)]
                self.assertLess(loss[1], loss[0])


class ApplyTest(unittest.TestCase):
    def test_by_hand(self):
        logits = [[2.0, 4.0]]
        np.testing.assert_allclose(Calibration("softmax", (0.5,), (1, -1)).apply(logits), [[2, 1]])
        np.testing.assert_allclose(Calibration("sigmoid", (0.5, 2), (1, -1)).apply(logits), [[2, 7]])
        np.testing.assert_allclose(Calibration("coral", (0.5,), (1, -1)).apply(logits), [[2.5, 0.5]])
        np.testing.assert_allclose(Calibration().apply(logits), logits)

    def test_what_is_no_calibration_is_refused(self):
        for arguments in (
            ("softmax", (0.0,), (1, 1)),
            ("softmax", (1.0, 1.0), (1, 1)),
            ("sigmoid", (1.0,), (1, 1)),
            ("sigmoid", (float("nan"),), (1,)),
            ("coral", (1.0,), (1, 1)),
            ("platt", (1.0,), (1,)),
        ):
            with self.subTest(arguments), self.assertRaises(ValueError):
                Calibration(*arguments)
        with self.assertRaisesRegex(ValueError, "for 2 logits"):
            Calibration("softmax", (1.0,), (0, 0)).apply(np.zeros((1, 3)))

    @given(
        hnp.arrays(np.float64, (3, 4), elements=FINITE),
        st.floats(1e-3, 100),
        st.lists(st.floats(0.01, 5), min_size=4, max_size=4),
    )
    @settings(max_examples=200, deadline=None)
    def test_coral_never_rises_in_k_whatever_the_logits(self, logits, slope, gaps):
        fitted = Calibration("coral", (slope,), tuple((10 - np.cumsum(gaps)).tolist()))
        self.assertLessEqual(np.diff(sigmoid(fitted.apply(logits)), axis=1).max(), 0)

    @given(hnp.arrays(np.float64, (3, 4), elements=FINITE), st.lists(st.floats(1e-3, 100), min_size=4, max_size=4))
    @settings(max_examples=200, deadline=None)
    def test_corn_never_rises_in_k_whatever_the_logits(self, logits, slopes):
        fitted = Calibration("corn", tuple(slopes), (1.0, -2.0, 3.0, 0.0))
        self.assertLessEqual(np.diff(heads.Corn().above(fitted.apply(logits)), axis=1).max(), 0)

    @given(st.integers(0, 2**32 - 1))
    @settings(max_examples=15, deadline=None)
    def test_every_fit_of_coral_descends(self, seed):
        rng = np.random.default_rng(seed)
        found = fit("coral", rng.normal(0, 5, (30, 1)) + rng.normal(0, 3, 4), rng.integers(0, 5, 30))
        self.assertLess(np.diff(found.bias).max(), 0)

    def test_rows_do_not_depend_on_each_other(self):
        logits = np.random.default_rng(0).normal(0, 2, (50, 4))
        for kind in calibration.KINDS:
            found = fit(kind, logits, np.arange(50) % 4 if kind != "sigmoid" else (logits > 1).astype(int))
            np.testing.assert_array_equal(found.apply(logits)[7:8], found.apply(logits[7:8]))


class LogitsOfTest(unittest.TestCase):
    def test_heads_decode_them_to_the_same_probabilities(self):
        p = np.random.default_rng(0).dirichlet(np.ones(5), 20) * 0.99 + 0.002
        for head in (heads.Softmax(), heads.Coral(), heads.Corn()):
            with self.subTest(head.name):
                np.testing.assert_allclose(
                    head.probabilities(logits_of(head.calibration, p, head.outputs)), p, atol=1e-9
                )
        np.testing.assert_allclose(heads.Binary().probabilities(logits_of("sigmoid", [[0.2, 0.8]], 1)), [[0.2, 0.8]])
        np.testing.assert_allclose(
            heads.MultiLabel().probabilities(logits_of("sigmoid", [[0.2, 0.8, 0.5]], 3)), [[0.2, 0.8, 0.5]]
        )

    def test_shares_of_nothing_stay_finite(self):
        for kind in ("softmax", "coral", "corn"):
            self.assertTrue(np.isfinite(logits_of(kind, [[1.0, 0, 0]], 2)).all())


if __name__ == "__main__":
    unittest.main()
