import unittest

import numpy as np

from dr_tf.inference.gate import (
    EnsembleFeatureDistribution,
    FeatureDistribution,
    PerSourceFeatureDistribution,
    distance_limit,
    fit_feature_distribution,
    foreign_limit,
    from_arrays,
    to_arrays,
    with_source,
)


class DistanceLimitTest(unittest.TestCase):
    def test_by_hand(self):
        self.assertEqual(distance_limit(np.arange(1, 100), coverage=0.9), 90)  # rank 0.9 * 100
        self.assertEqual(distance_limit([3, 1, 2]), 3)
        self.assertIsNone(distance_limit([]))

    def test_with_few_images_an_outlier_does_not_determine_the_limit(self):
        distances = np.array([4.0] * 10 + [9.0] * 10)  # logarithms: log 6 on average, a deviation of log 1.5
        expected = 6 * 1.5 ** (2.326348 * np.sqrt(20 / 19))
        self.assertAlmostEqual(distance_limit(distances), expected, places=4)
        self.assertLess(distance_limit([*distances, 40.0]), 30)

    def test_the_share_of_images_within_the_limit_is_the_coverage(self):
        rng = np.random.default_rng(0)
        kept = [(rng.exponential(size=50) <= distance_limit(rng.exponential(size=150))).mean() for _ in range(500)]
        self.assertGreater(np.mean(kept), 0.99 - 0.002)


class SeveralSourcesTest(unittest.TestCase):
    def setUp(self):
        rng = np.random.default_rng(0)
        centres = {"a": (0, 0), "b": (6, 0), "c": (0, 20)}
        self.sources = np.repeat(list(centres), 200)
        self.features = np.concatenate([rng.normal(size=(200, 2)) + centre for centre in centres.values()])

    def test_the_foreign_limit_is_that_of_the_most_distant_source(self):
        # c lies 20 deviations from a, the nearest other source, and 1 in 100 of it 2.3 further.
        self.assertAlmostEqual(self._limit(self.features, self.sources), 22.3, delta=1)

    def test_without_two_sources_there_is_none(self):
        self.assertIsNone(self._limit(self.features[:200], self.sources[:200]))
        self.assertIsNone(self._limit(self.features, np.where(np.arange(600) < 5, "d", "a")))

    def _limit(self, features, sources):
        return foreign_limit(fit_feature_distribution(features, sources), features, sources)

    def test_with_another_source_its_photographs_are_near(self):
        known = fit_feature_distribution(self.features[:400], self.sources[:400])
        more = with_source(known, self.features[400:])
        self.assertGreater(known.distance([[0, 20]])[0], 15)
        self.assertLess(more.distance([[0, 20]])[0], 0.5)
        np.testing.assert_allclose(more.distance([[6, 0]]), known.distance([[6, 0]]))
        self.assertIs(with_source(known, self.features[:20]), known)


class FeatureDistributionTest(unittest.TestCase):
    def test_distance_is_in_standard_deviations(self):
        rng = np.random.default_rng(0)
        distribution = fit_feature_distribution(rng.normal(size=(20000, 2)) * [1, 10] + [5, 5])
        np.testing.assert_allclose(distribution.distance([[5, 5], [8, 5], [5, 35]]), [0, 3, 3], atol=0.15)

    def test_by_hand(self):
        # The deviation is 5 along (3, 4) / 5, and 2 across. (3, 4) + (-4, 3) is 1 deviation away along it and 2.5
        # across.
        distribution = FeatureDistribution(np.ones(2), np.array([[0.6], [0.8]]), np.array([5.0]), np.array(2.0))
        for one in (distribution, from_arrays(to_arrays(distribution))):
            np.testing.assert_allclose(
                one.distance([[1, 1], [4, 5], [0, 8]]), [0, 1, np.hypot(1, 2.5)], rtol=1e-6, atol=1e-6
            )

    def test_directions_beyond_the_axes_have_their_mean_deviation(self):
        features = np.random.default_rng(0).normal(size=(50000, 4)) * [10, 1, 2, 1]
        distribution = fit_feature_distribution(features, axes=2)
        np.testing.assert_allclose(distribution.deviations, [10, 2], rtol=0.02)
        np.testing.assert_allclose(distribution.distance([[0, 3, 0, 0], [0, 0, 0, 3]]), [3, 3], rtol=0.03)

    def test_fewer_images_than_features_and_a_constant_feature(self):
        features = np.random.default_rng(0).normal(size=(20, 64))
        features[:, 3] = 0
        distribution = fit_feature_distribution(features)
        self.assertTrue(np.isfinite(distribution.distance(features)).all())
        self.assertGreater(distribution.distance(features + 10).min(), distribution.distance(features).max())

    def test_images_with_equal_features(self):
        for features in (np.ones((1, 4)), np.ones((30, 4))):
            distribution = from_arrays(to_arrays(fit_feature_distribution(features)))
            np.testing.assert_array_equal(distribution.distance([[1, 1, 1, 1]]), [0])
            self.assertGreater(distribution.distance([[1, 1, 1, 1.1]])[0], 1e6)


class SourcesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        rng = np.random.default_rng(0)
        cls.features = rng.normal(size=(400, 3)) + np.repeat([[-20, 0, 0], [20, 0, 0]], 200, axis=0)
        cls.sources = np.repeat(["a", "b"], 200)

    def test_a_point_between_two_sources_is_far_from_both(self):
        one, per_source = fit_feature_distribution(self.features), fit_feature_distribution(self.features, self.sources)
        self.assertLess(one.distance([[0, 0, 0]])[0], 1)
        self.assertGreater(per_source.distance([[0, 0, 0]])[0], 15)
        # The deviation within a source is 1. The distance is that from a distribution fitted to the image's source
        # alone.
        alone = fit_feature_distribution(self.features[:200])
        np.testing.assert_array_equal(per_source.distance(self.features[:200]), alone.distance(self.features[:200]))
        np.testing.assert_allclose(per_source.distance([[-20, 0, 0], [20, 0, 3]]), [0, 3], atol=0.5)

    def test_a_single_source_has_one_common_distribution(self):
        expected = fit_feature_distribution(self.features)
        for sources in (
            None,
            np.full(400, "a"),
            np.arange(400) // 49,
        ):  # sources of 49 images have no distribution of their own
            result = fit_feature_distribution(self.features, sources)
            self.assertIsInstance(result, FeatureDistribution)
            np.testing.assert_array_equal(result.distance(self.features), expected.distance(self.features))

    def test_small_sources_share_a_distribution(self):
        sources = np.where(np.arange(400) < 340, self.sources, np.where(np.arange(400) < 370, "c", "d"))
        result = fit_feature_distribution(self.features, sources)
        self.assertEqual(len(result.parts), 3)
        np.testing.assert_array_equal(result.parts[2].mean, fit_feature_distribution(self.features[340:]).mean)

    def test_fewer_than_ten_remaining_images_are_left_out(self):
        result = fit_feature_distribution(self.features, np.where(np.arange(400) < 391, self.sources, "c"))
        self.assertEqual(len(result.parts), 2)

    def test_arrays_round_trip(self):
        per_source = fit_feature_distribution(self.features, self.sources)
        both = EnsembleFeatureDistribution((per_source, fit_feature_distribution(self.features[:, :2])))
        both_features = np.column_stack([self.features, self.features[:, :2]])
        for distribution, features in ((per_source, self.features), (both, both_features)):
            again = from_arrays(to_arrays(distribution))
            self.assertIs(type(again), type(distribution))
            self.assertEqual(again.width, features.shape[1])
            np.testing.assert_allclose(again.distance(features), distribution.distance(features), rtol=1e-4)
        self.assertIsInstance(again.parts[0], PerSourceFeatureDistribution)
        squares = np.square([part.distance(x) for part, x in zip(both.parts, (self.features, self.features[:, :2]),
                                                                 strict=True)])  # fmt: skip
        np.testing.assert_allclose(both.distance(both_features), np.sqrt(squares.sum(axis=0)))


class BadArraysTest(unittest.TestCase):
    def test_each_error_is_named(self):
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
