import unittest

import numpy as np

from dr_tf.inference.gate import Cloud, distance_limit, fit_cloud, from_arrays, neighbour_distance, to_arrays


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

    def test_neighbour_distance(self):
        np.testing.assert_allclose(neighbour_distance([[1, 3], [0, 0]]), [2, 0])


class CloudTest(unittest.TestCase):
    def test_distance_is_in_standard_deviations(self):
        rng = np.random.default_rng(0)
        cloud = fit_cloud(rng.normal(size=(20000, 2)) * [1, 10] + [5, 5])
        np.testing.assert_allclose(cloud.distance([[5, 5], [8, 5], [5, 35]]), [0, 3, 3], atol=0.15)

    def test_by_hand(self):
        # Along (3, 4) / 5 a deviation of 5, otherwise 2: (3, 4) + (-4, 3) lies one and two and a half of them away.
        cloud = Cloud(np.ones(2), np.array([[0.6], [0.8]]), np.array([5.0]), np.array(2.0))
        for one in (cloud, from_arrays(to_arrays(cloud))):
            np.testing.assert_allclose(
                one.distance([[1, 1], [4, 5], [0, 8]]), [0, 1, np.hypot(1, 2.5)], rtol=1e-6, atol=1e-6
            )

    def test_what_varies_little_is_told_by_its_mean_deviation(self):
        features = np.random.default_rng(0).normal(size=(50000, 4)) * [10, 1, 2, 1]
        cloud = fit_cloud(features, axes=2)
        np.testing.assert_allclose(cloud.deviations, [10, 2], rtol=0.02)
        np.testing.assert_allclose(cloud.distance([[0, 3, 0, 0], [0, 0, 0, 3]]), [3, 3], rtol=0.03)

    def test_fewer_photographs_than_features_and_a_dead_feature(self):
        features = np.random.default_rng(0).normal(size=(20, 64))
        features[:, 3] = 0
        cloud = fit_cloud(features)
        self.assertTrue(np.isfinite(cloud.distance(features)).all())
        self.assertGreater(cloud.distance(features + 10).min(), cloud.distance(features).max())


if __name__ == "__main__":
    unittest.main()
