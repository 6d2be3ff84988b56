import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.nearest_neighbours import build_neighbours, load_neighbours


def by_brute_force(neighbours, queries, k=10):
    stored = neighbours._stored.astype(np.float64)
    inside = (np.asarray(queries, np.float64) - neighbours.mean) * neighbours.scale
    squared = ((inside[:, None] - stored[None]) ** 2).sum(axis=2)
    rows = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squared, rows, axis=1)) / neighbours.scale, rows


def sample(case, rng, n=3000, d=48):
    """(training features, queries) for which float32 products lose precision."""
    features, queries = rng.normal(size=(n, d)), rng.normal(size=(20, d))
    if case == "far from the origin":
        return features + 1e4, queries + 1e4
    if case == "two far clusters":
        side = np.where(np.arange(n) % 2, 3e4, -3e4)[:, None]
        return features + side, queries + 3e4
    if case == "copies":
        return np.repeat(features[: n // 30], 30, axis=0), features[:20]
    if case == "all but equal":
        return 5 + 1e-4 * features, 5 + 1e-4 * queries
    if case == "one outlier":
        features[7] *= 1e4
    if case == "rectified":
        return np.maximum(features, 0), np.maximum(queries, 0)
    return features, queries


CASES = ("plain", "far from the origin", "two far clusters", "copies", "all but equal", "one outlier", "rectified")


class NearestTest(unittest.TestCase):
    def test_they_equal_a_float64_search_over_the_stored_features(self):
        rng = np.random.default_rng(0)
        for case in CASES:
            features, queries = sample(case, rng)
            neighbours = build_neighbours(features, np.zeros(len(features), int), 5)
            right_distances, right = by_brute_force(neighbours, queries)
            for name, result in (("batch", neighbours.nearest(queries)), ("single", neighbours.nearest(queries[:1]))):
                with self.subTest(case=case, name=name):
                    np.testing.assert_array_equal(result[1], right[: len(result[1])])
                    np.testing.assert_allclose(result[0], right_distances[: len(result[0])], rtol=1e-12)

    def test_by_hand(self):
        neighbours = build_neighbours([[0.0, 0], [3, 4], [0, 1], [10, 0]], [0, 1, 2, 3], 5)
        distances, rows = neighbours.nearest([[0.0, 0]], k=3)
        np.testing.assert_array_equal(rows, [[0, 2, 1]])
        np.testing.assert_allclose(distances, [[0, 1, 5]], atol=5e-3)

    def test_more_neighbours_requested_than_stored(self):
        self.assertEqual(build_neighbours(np.eye(3), [0, 1, 2], 5).nearest(np.eye(3))[1].shape, (3, 3))

    def test_features_must_be_finite(self):
        with self.assertRaisesRegex(ValueError, "finite"):
            build_neighbours(np.eye(3), [0, 1, 2], 5).nearest([[0, np.nan, 0]])
        with self.assertRaisesRegex(ValueError, "finite"):
            build_neighbours(np.full((3, 2), np.inf), [0, 1, 2], 5)


class VoteTest(unittest.TestCase):
    def setUp(self):
        self.neighbours = build_neighbours(np.arange(8)[:, None], [0, 0, 0, 0, 1, 2, 2, 3], 5)

    def test_majority_counts_neighbours(self):
        shares = self.neighbours.vote_probabilities(np.ones((1, 4)), np.array([[3, 4, 5, 6]]), "majority")
        np.testing.assert_allclose(shares, [[0.25, 0.25, 0.5, 0, 0]])

    def test_ordinal_weights_by_inverse_distance_and_adds_the_class_prior(self):
        shares = self.neighbours.vote_probabilities(np.array([[1.0, 2.0]]), np.array([[4, 5]]), "ordinal")
        # Weights 1 and 1/2. The class distribution (0.5, 1/8, 1/4, 1/8, 0) has their mean, 3/4.
        expected = np.array([0.375, 1 + 0.09375, 0.5 + 0.1875, 0.09375, 0]) / 2.25
        np.testing.assert_allclose(shares, [expected])

    def test_distances_of_zero_give_finite_votes(self):
        shares = self.neighbours.vote_probabilities(np.array([[0.0, 0.0]]), np.array([[4, 5]]), "ordinal")
        self.assertTrue(np.isfinite(shares).all())
        self.assertAlmostEqual(shares.sum(), 1)

    def test_independent_labels_are_voted_separately(self):
        neighbours = build_neighbours(np.arange(3)[:, None], np.array([[1, 0], [1, 1], [0, -1]]), 2)
        shares = neighbours.vote_probabilities(np.ones((1, 2)), np.array([[0, 1]]), "majority")
        np.testing.assert_allclose(shares, [[1, 0.5]])

    def test_an_unknown_vote_lists_the_known(self):
        with self.assertRaisesRegex(UserError, "known: majority, ordinal"):
            self.neighbours.vote_probabilities(np.ones((1, 1)), np.zeros((1, 1), int), "mean")


class FileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "neighbours.npz"

    def test_a_saved_file_gives_the_same_neighbours(self):
        rng = np.random.default_rng(0)
        neighbours = build_neighbours(rng.normal(7, 3, (500, 32)), rng.integers(0, 5, 500), 5)
        neighbours.save(self.path)
        again = load_neighbours(self.path)
        queries = rng.normal(7, 3, (5, 32))
        for one, other in zip(neighbours.nearest(queries), again.nearest(queries), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(neighbours.one_hot_labels, again.one_hot_labels)

    def test_the_former_file_name_is_reported(self):
        build_neighbours(np.eye(3), [0, 1, 2], 5).save(self.path)
        self.path.rename(self.path.with_name("bank.npz"))
        with self.assertRaisesRegex(
            UserError, r"bank\.npz is called neighbours\.npz since this version: rename it, or train"
        ):
            load_neighbours(self.path)

    def test_a_feature_takes_two_bytes_on_disk_and_four_in_memory(self):
        neighbours = build_neighbours(np.random.default_rng(0).normal(size=(2000, 512)), np.zeros(2000, int), 5)
        neighbours.save(self.path)
        with np.load(self.path) as file:
            self.assertEqual(file["stored"].nbytes, 2 * 2000 * 512)
        self.assertLess(self.path.stat().st_size, 2.02 * 2000 * 512)
        self.assertLess(neighbours.resident_bytes, 4.01 * 2000 * 512)

    def test_features_of_any_scale_fit_float16(self):
        rng = np.random.default_rng(0)
        for size in (1e-12, 1e9):
            features = rng.normal(0, size, (50, 8))
            neighbours = build_neighbours(features, np.zeros(50, int), 5)
            kept = neighbours._stored / neighbours.scale + neighbours.mean
            np.testing.assert_allclose(kept, features, atol=2e-3 * size)

    def test_broken_files_are_refused_in_one_line(self):
        neighbours = build_neighbours(np.eye(3), [0, 1, 2], 5)
        neighbours.save(self.path)
        whole = self.path.read_bytes()
        contents = dict(np.load(self.path))
        for name, write in {
            "absent": self.path.unlink,
            "cut": lambda: self.path.write_bytes(whole[: len(whole) // 2]),
            "text": lambda: self.path.write_text("hello"),
            "empty": lambda: self.path.write_bytes(b""),
            "pickle": lambda: np.savez(self.path, **contents | {"stored": np.array([object()], object)}),
            "no mean": lambda: np.savez(self.path, **{k: v for k, v in contents.items() if k != "mean"}),
            "other rows": lambda: np.savez(self.path, **contents | {"ballots": np.zeros((2, 5))}),
        }.items():
            write()
            with self.subTest(name), self.assertRaisesRegex(UserError, "cannot be read as nearest neighbours"):
                load_neighbours(self.path)
        np.savez(self.path, **contents | {"version": 9})
        with self.assertRaisesRegex(UserError, "has version 9 of the neighbours; known: 1"):
            load_neighbours(self.path)


if __name__ == "__main__":
    unittest.main()
