"""Link functions: decoding, encoding, and the targets and losses of calibration, with values computed by hand."""

import unittest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dr_tf.models.links import (
    LINKS,
    get_link,
    link_for_averages,
    probabilities_to_scores,
    score_count,
    scores_to_probabilities,
)
from tests.inference import heads

LN3 = np.log(3)


class DecodeTest(unittest.TestCase):
    def test_by_hand(self):
        for link, scores, classes, expected in (
            ("softmax", np.log([1, 2, 5]) + 7, 3, [1 / 8, 2 / 8, 5 / 8]),
            ("binary", [LN3], 2, [0.25, 0.75]),
            ("labels", [LN3, 0, -LN3], 3, [0.75, 0.5, 0.25]),
            ("coral", [LN3, 0, -LN3], 4, [0.25] * 4),  # above each threshold 0.75, 0.5, 0.25
            ("corn", [LN3, 0, 0], 4, [0.25, 0.375, 0.1875, 0.1875]),  # above 0.75, half of it, half of that
        ):
            with self.subTest(link):
                np.testing.assert_allclose(scores_to_probabilities(link, [scores], classes), [expected], atol=1e-12)

    def test_regression(self):
        above = 1 / (1 + np.exp(-2.0))  # the threshold is half a grade below 1, and the slope is 4
        np.testing.assert_allclose(
            scores_to_probabilities("regression", [[1.0]], 3), [[1 - above, 2 * above - 1, 1 - above]], atol=1e-12
        )
        np.testing.assert_allclose(scores_to_probabilities("regression", [[1.5]], 3)[0, 2], 0.5)
        np.testing.assert_allclose(
            scores_to_probabilities("regression", [[-50.0], [50.0]], 3), [[1, 0, 0], [0, 0, 1]], atol=1e-12
        )
        self.assertEqual(
            scores_to_probabilities("regression", np.arange(5.0)[:, None], 5).argmax(axis=1).tolist(), [0, 1, 2, 3, 4]
        )

    def test_extreme_scores_are_finite(self):
        for link, (columns, classes) in {
            "softmax": (3, 3), "binary": (1, 2), "labels": (3, 3), "coral": (2, 3), "corn": (2, 3), "regression": (1, 3),
        }.items():  # fmt: skip
            probabilities = scores_to_probabilities(link, np.array([[-1e30], [1e30]]) + np.zeros(columns), classes)
            with self.subTest(link):
                self.assertTrue(np.isfinite(probabilities).all())
                self.assertEqual(probabilities.shape, (2, classes))

    def test_unknown_link(self):
        with self.assertRaisesRegex(
            ValueError, "unknown link 'probit'; known: softmax, binary, labels, coral, corn, regr"
        ):
            get_link("probit")


class EncodeTest(unittest.TestCase):
    def test_decodes_to_the_same_probabilities(self):
        p = np.random.default_rng(0).dirichlet(np.ones(5), 20) * 0.99 + 0.002
        for link in ("softmax", "coral", "corn"):
            with self.subTest(link):
                scores = probabilities_to_scores(link, p)
                self.assertEqual(scores.shape, (20, score_count(link, 5)))
                np.testing.assert_allclose(scores_to_probabilities(link, scores, 5), p, atol=1e-9)
        np.testing.assert_allclose(
            scores_to_probabilities("binary", probabilities_to_scores("binary", [[0.2, 0.8]]), 2), [[0.2, 0.8]]
        )
        np.testing.assert_allclose(
            scores_to_probabilities("labels", probabilities_to_scores("labels", [[0.2, 0.8, 0.5]]), 3),
            [[0.2, 0.8, 0.5]],
        )

    def test_regression_keeps_only_the_expected_grade(self):
        np.testing.assert_allclose(probabilities_to_scores("regression", [[0.5, 0, 0.25, 0, 0.25]]), [[1.5]])
        for grade in (1.0, 2.0, 3.0):
            again = probabilities_to_scores("regression", scores_to_probabilities("regression", [[grade]], 5))
            np.testing.assert_allclose(again, [[grade]], atol=0.005)

    def test_probabilities_of_0_are_clipped(self):
        for link in LINKS:
            with self.subTest(link):
                self.assertTrue(np.isfinite(probabilities_to_scores(link, [[1.0, 0, 0]])).all())
        np.testing.assert_allclose(probabilities_to_scores("softmax", [[1, 0]]), [[0, np.log(1e-4)]])
        np.testing.assert_allclose(
            probabilities_to_scores("binary", [[0, 1]], minimum=1e-12), [[12 * np.log(10)]], rtol=1e-5
        )

    def test_link_for_averages(self):
        for head, expected in (
            (heads.Softmax(), "softmax"),
            (heads.Coral(), "softmax"),
            (heads.Regression(), "softmax"),
            (heads.Binary(), "binary"),
            (heads.MultiLabel(), "labels"),
        ):
            self.assertEqual(link_for_averages(head), expected)
        # CORAL's calibration and a regression cannot distinguish two distributions with the same mean.
        split, sure = [[0.5, 0, 0, 0, 0.5]], [[0.01, 0.01, 0.96, 0.01, 0.01]]
        for link, alike in (("softmax", False), ("coral", True), ("regression", True)):
            one, other = (
                probabilities_to_scores(link, votes).mean() if link == "coral" else probabilities_to_scores(link, votes)
                for votes in (split, sure)
            )
            self.assertEqual(np.allclose(one, other), alike, link)

    def test_score_count(self):
        self.assertEqual(
            [score_count(link, 5) for link in ("softmax", "labels", "coral", "corn", "regression")], [5, 5, 4, 4, 4]
        )
        self.assertEqual(score_count("binary", 2), 1)


class TargetsTest(unittest.TestCase):
    """The 0/1 target of each score, and the gradient of its loss."""

    def targets(self, link, true_classes, scores):
        targets, known = LINKS[link].targets(np.array(true_classes), scores)
        return np.where(known, targets, -1).tolist()

    def test_by_hand(self):
        self.assertEqual(self.targets("softmax", [1, -1], 3), [[0, 1, 0], [-1, -1, -1]])
        self.assertEqual(self.targets("binary", [1, 0, -1], 1), [[1], [0], [-1]])
        self.assertEqual(self.targets("labels", [[1, 0], [-1, 1]], 2), [[1, 0], [-1, 1]])
        for link in ("coral", "regression"):
            self.assertEqual(self.targets(link, [0, 2, -1], 3), [[0, 0, 0], [1, 1, 0], [-1, -1, -1]])
        # CORN: whether the grade is greater than k, only for examples whose grade is at least k.
        self.assertEqual(self.targets("corn", [0, 1, 3, -1], 3), [[0, -1, -1], [1, 0, -1], [1, 1, 1], [-1, -1, -1]])

    @given(st.integers(0, 2**32 - 1))
    @settings(max_examples=20, deadline=None)
    def test_gradients_by_finite_differences(self, seed):
        rng = np.random.default_rng(seed)
        scores, step = rng.normal(0, 2, (2, 3)), 1e-6
        for name, link in LINKS.items():
            truth = rng.integers(0, 2, (2, 3)) if name in ("labels", "binary") else rng.integers(0, 3, 2)
            targets = link.targets(truth, 3)[0] * 1.0
            _, gradient = link.loss(scores, targets)
            for column in range(3):
                moved = [link.loss(scores + sign * step * np.eye(3)[column], targets)[0].sum() for sign in (1, -1)]
                np.testing.assert_allclose((moved[0] - moved[1]) / 2 / step, gradient[:, column].sum(), atol=1e-6)


if __name__ == "__main__":
    unittest.main()
