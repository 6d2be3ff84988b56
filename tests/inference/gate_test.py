import unittest

import numpy as np

from dr_tf.inference.gate import (
    EnsembleFeatureDistribution,
    FeatureDistribution,
    PerSourceFeatureDistribution,
    distance_limit,
    fit_feature_distribution,
    from_arrays,
    to_arrays,
)


class LimitTest(unittest.TestCase):
    def test_by_hand(self):
        self.assertEqual(distance_limit(np.arange(1, 100), kept=0.9), 90)  # rank 0.9 * 100
        self.assertEqual(distance_limit([3, 1, 2]), 3)
        self.assertIsNone(distance_limit([]))

    def test_of_few_photographs_one_far_one_does_not_decide(self):
        distances = np.array([4.0] * 10 + [9.0] * 10)  # logarithms: log 6 on average, a deviation of log 1.5
        expected = 6 * 1.5 ** (2.326348 * np.sqrt(20 / 19))
        self.assertAlmostEqual(distance_limit(distances), expected, places=4)
        self.assertLess(distance_limit([*distances, 40.0]), 30)

    def test_it_keeps_the_share_that_it_says(self):
        rng = np.random.default_rng(0)
        kept = [(rng.exponential(size=50) <= distance_limit(rng.exponential(size=150))).mean() for _ in range(500)]
        self.assertGreater(np.mean(kept), 0.99 - 0.002)


class CloudTest(unittest.TestCase):
    def test_distance_is_in_standard_deviations(self):
        rng = np.random.default_rng(0)
        feature_distribution = fit_feature_distribution(rng.normal(size=(20000, 2)) * [1, 10] + [5, 5])
        np.testing.assert_allclose(feature_distribution.distance([[5, 5], [8, 5], [5, 35]]), [0, 3, 3], atol=0.15)

    def test_by_hand(self):
        # Along (3, 4) / 5 a deviation of 5, otherwise 2: (3, 4) + (-4, 3) lies one and two and a half of them away.
        feature_distribution = FeatureDistribution(np.ones(2), np.array([[0.6], [0.8]]), np.array([5.0]), np.array(2.0))
        for one in (feature_distribution, from_arrays(to_arrays(feature_distribution))):
            np.testing.assert_allclose(
                one.distance([[1, 1], [4, 5], [0, 8]]), [0, 1, np.hypot(1, 2.5)], rtol=1e-6, atol=1e-6
            )

    def test_what_varies_little_is_told_by_its_mean_deviation(self):
        features = np.random.default_rng(0).normal(size=(50000, 4)) * [10, 1, 2, 1]
        feature_distribution = fit_feature_distribution(features, axes=2)
        np.testing.assert_allclose(feature_distribution.deviations, [10, 2], rtol=0.02)
        np.testing.assert_allclose(feature_distribution.distance([[0, 3, 0, 0], [0, 0, 0, 3]]), [3, 3], rtol=0.03)

    def test_fewer_photographs_than_features_and_a_dead_feature(self):
        features = np.random.default_rng(0).normal(size=(20, 64))
        features[:, 3] = 0
        feature_distribution = fit_feature_distribution(features)
        self.assertTrue(np.isfinite(feature_distribution.distance(features)).all())
        self.assertGreater(
            feature_distribution.distance(features + 10).min(), feature_distribution.distance(features).max()
        )

    def test_photographs_that_are_all_alike(self):
        for features in (np.ones((1, 4)), np.ones((30, 4))):
            feature_distribution = from_arrays(to_arrays(fit_feature_distribution(features)))
            np.testing.assert_array_equal(feature_distribution.distance([[1, 1, 1, 1]]), [0])
            self.assertGreater(feature_distribution.distance([[1, 1, 1, 1.1]])[0], 1e6)


class SourcesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(0)
        cls.features = rng.normal(size=(400, 3)) + np.repeat([[-20, 0, 0], [20, 0, 0]], 200, axis=0)
        cls.sources = np.repeat(["a", "b"], 200)

    def test_between_two_sources_is_near_to_neither(self):
        one, apart = fit_feature_distribution(self.features), fit_feature_distribution(self.features, self.sources)
        self.assertLess(one.distance([[0, 0, 0]])[0], 1)
        self.assertGreater(apart.distance([[0, 0, 0]])[0], 15)
        # Its own deviation is 1: each photograph is as far from its own source as from any feature_distribution of it alone.
        alone = fit_feature_distribution(self.features[:200])
        np.testing.assert_array_equal(apart.distance(self.features[:200]), alone.distance(self.features[:200]))
        np.testing.assert_allclose(apart.distance([[-20, 0, 0], [20, 0, 3]]), [0, 3], atol=0.5)

    def test_one_source_is_the_cloud_of_all(self):
        expected = fit_feature_distribution(self.features)
        for sources in (
            None,
            np.full(400, "a"),
            np.arange(400) // 49,
        ):  # of 49, none has a feature_distribution of its own
            found = fit_feature_distribution(self.features, sources)
            self.assertIsInstance(found, FeatureDistribution)
            np.testing.assert_array_equal(found.distance(self.features), expected.distance(self.features))

    def test_small_sources_share_one(self):
        sources = np.where(np.arange(400) < 340, self.sources, np.where(np.arange(400) < 370, "c", "d"))
        found = fit_feature_distribution(self.features, sources)
        self.assertEqual(len(found.parts), 3)
        np.testing.assert_array_equal(found.parts[2].mean, fit_feature_distribution(self.features[340:]).mean)

    def test_of_a_handful_nothing_can_be_told(self):
        found = fit_feature_distribution(self.features, np.where(np.arange(400) < 391, self.sources, "c"))
        self.assertEqual(len(found.parts), 2)

    def test_arrays_come_back(self):
        apart = fit_feature_distribution(self.features, self.sources)
        both = EnsembleFeatureDistribution((apart, fit_feature_distribution(self.features[:, :2])))
        side_by_side = np.column_stack([self.features, self.features[:, :2]])
        for feature_distribution, features in ((apart, self.features), (both, side_by_side)):
            again = from_arrays(to_arrays(feature_distribution))
            self.assertIs(type(again), type(feature_distribution))
            self.assertEqual(again.width, features.shape[1])
            np.testing.assert_allclose(again.distance(features), feature_distribution.distance(features), rtol=1e-4)
        self.assertIsInstance(again.parts[0], PerSourceFeatureDistribution)
        squares = np.square([part.distance(x) for part, x in zip(both.parts, (self.features, self.features[:, :2]),
                                                                 strict=True)])  # fmt: skip
        np.testing.assert_allclose(both.distance(side_by_side), np.sqrt(squares.sum(axis=0)))


class BadArraysTest(unittest.TestCase):
    def test_each_mistake_is_named(self):
        good = to_arrays(fit_feature_distribution(np.random.default_rng(0).normal(size=(30, 4)), axes=2))
        short = {name: values for name, values in good.items() if name != "rest"}
        wide = {f"{name}_1": values for name, values in to_arrays(fit_feature_distribution(np.eye(5), axes=2)).items()}
        for expected, arrays in {
            "it contains no arrays": {},
            "an unknown array 'kernel'": good | {"kernel": np.zeros(1)},
            "an unknown array 'mean01'": good | {"mean01": good["mean"]},
            "it has no rest": short,
            "arrays are missing": good | {f"{name}2": values for name, values in good.items()},
            "must have 1, 1 and 0 dimensions": good | {"rest": np.ones(3)},
            "its axes are (4, 1) for 4 features and 2 deviations": good | {"axes": good["axes"][:, :1]},
            "its mean contains values that are not finite numbers": good | {"mean": np.full(4, np.nan)},
            "its axes contains values that are not finite numbers": good | {"axes": np.full((4, 2), "x")},
            "must be positive": good | {"deviations": np.array([1.0, 0.0])},
            "different numbers of features": good | wide,
        }.items():
            with self.subTest(expected), self.assertRaises(ValueError) as raised:
                from_arrays(arrays)
            self.assertIn(expected, str(raised.exception))


if __name__ == "__main__":
    unittest.main()
