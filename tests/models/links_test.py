import unittest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dr_tf.models.links import LINKS, decoded, encoded, link_named, of_distribution, width
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
                np.testing.assert_allclose(decoded(link, [scores], classes), [expected], atol=1e-12)

    def test_a_regression_is_above_each_threshold_between_two_grades_by_how_far_it_lies_from_it(self):
        above = 1 / (1 + np.exp(-2.0))  # of 1: the threshold half a grade below, four times as steep
        np.testing.assert_allclose(
            decoded("regression", [[1.0]], 3), [[1 - above, 2 * above - 1, 1 - above]], atol=1e-12
        )
        np.testing.assert_allclose(decoded("regression", [[1.5]], 3)[0, 2], 0.5)
        np.testing.assert_allclose(decoded("regression", [[-50.0], [50.0]], 3), [[1, 0, 0], [0, 0, 1]], atol=1e-12)
        self.assertEqual(decoded("regression", np.arange(5.0)[:, None], 5).argmax(axis=1).tolist(), [0, 1, 2, 3, 4])

    def test_logits_of_any_size_give_numbers(self):
        for link, (columns, classes) in {
            "softmax": (3, 3), "binary": (1, 2), "labels": (3, 3), "coral": (2, 3), "corn": (2, 3), "regression": (1, 3),
        }.items():  # fmt: skip
            found = decoded(link, np.array([[-1e30], [1e30]]) + np.zeros(columns), classes)
            with self.subTest(link):
                self.assertTrue(np.isfinite(found).all())
                self.assertEqual(found.shape, (2, classes))

    def test_an_unknown_link_lists_the_known(self):
        with self.assertRaisesRegex(
            ValueError, "unknown link 'probit'; known: softmax, binary, labels, coral, corn, regr"
        ):
            link_named("probit")


class EncodeTest(unittest.TestCase):
    def test_what_it_gives_decodes_to_the_same_probabilities(self):
        p = np.random.default_rng(0).dirichlet(np.ones(5), 20) * 0.99 + 0.002
        for link in ("softmax", "coral", "corn"):
            with self.subTest(link):
                scores = encoded(link, p)
                self.assertEqual(scores.shape, (20, width(link, 5)))
                np.testing.assert_allclose(decoded(link, scores, 5), p, atol=1e-9)
        np.testing.assert_allclose(decoded("binary", encoded("binary", [[0.2, 0.8]]), 2), [[0.2, 0.8]])
        np.testing.assert_allclose(decoded("labels", encoded("labels", [[0.2, 0.8, 0.5]]), 3), [[0.2, 0.8, 0.5]])

    def test_a_regression_keeps_the_expected_grade_alone(self):
        np.testing.assert_allclose(encoded("regression", [[0.5, 0, 0.25, 0, 0.25]]), [[1.5]])
        for grade in (1.0, 2.0, 3.0):
            again = encoded("regression", decoded("regression", [[grade]], 5))
            np.testing.assert_allclose(again, [[grade]], atol=0.005)

    def test_shares_of_nothing_stay_finite_and_how_little_is_told_apart_can_be_chosen(self):
        for link in LINKS:
            with self.subTest(link):
                self.assertTrue(np.isfinite(encoded(link, [[1.0, 0, 0]])).all())
        np.testing.assert_allclose(encoded("softmax", [[1, 0]]), [[0, np.log(1e-4)]])
        np.testing.assert_allclose(encoded("binary", [[0, 1]], least=1e-12), [[12 * np.log(10)]], rtol=1e-5)

    def test_an_averaged_distribution_needs_a_link_that_tells_them_all(self):
        for head, expected in (
            (heads.Softmax(), "softmax"),
            (heads.Coral(), "softmax"),
            (heads.Regression(), "softmax"),
            (heads.Binary(), "binary"),
            (heads.MultiLabel(), "labels"),
        ):
            self.assertEqual(of_distribution(head), expected)
        # Of two votes with the same mean CORAL's calibration, and a regression, would make one.
        split, sure = [[0.5, 0, 0, 0, 0.5]], [[0.01, 0.01, 0.96, 0.01, 0.01]]
        for link, alike in (("softmax", False), ("coral", True), ("regression", True)):
            one, other = (
                encoded(link, votes).mean() if link == "coral" else encoded(link, votes) for votes in (split, sure)
            )
            self.assertEqual(np.allclose(one, other), alike, link)

    def test_width(self):
        self.assertEqual(
            [width(link, 5) for link in ("softmax", "labels", "coral", "corn", "regression")], [5, 5, 4, 4, 4]
        )
        self.assertEqual(width("binary", 2), 1)


class QuestionsTest(unittest.TestCase):
    """What calibration asks of each score."""

    def answers(self, link, truth, outputs):
        right, known = LINKS[link].answers(np.array(truth), outputs)
        return np.where(known, right, -1).tolist()

    def test_by_hand(self):
        self.assertEqual(self.answers("softmax", [1, -1], 3), [[0, 1, 0], [-1, -1, -1]])
        self.assertEqual(self.answers("binary", [1, 0, -1], 1), [[1], [0], [-1]])
        self.assertEqual(self.answers("labels", [[1, 0], [-1, 1]], 2), [[1, 0], [-1, 1]])
        for link in ("coral", "regression"):
            self.assertEqual(self.answers(link, [0, 2, -1], 3), [[0, 0, 0], [1, 1, 0], [-1, -1, -1]])
        # CORN asks whether the grade is above k of those alone who are at k or above.
        self.assertEqual(self.answers("corn", [0, 1, 3, -1], 3), [[0, -1, -1], [1, 0, -1], [1, 1, 1], [-1, -1, -1]])

    @given(st.integers(0, 2**32 - 1))
    @settings(max_examples=20, deadline=None)
    def test_gradients_are_those_of_the_losses(self, seed):
        rng = np.random.default_rng(seed)
        scores, step = rng.normal(0, 2, (2, 3)), 1e-6
        for name, link in LINKS.items():
            truth = rng.integers(0, 2, (2, 3)) if name in ("labels", "binary") else rng.integers(0, 3, 2)
            answers = link.answers(truth, 3)[0] * 1.0
            _, gradient = link.loss(scores, answers)
            for column in range(3):
                moved = [link.loss(scores + sign * step * np.eye(3)[column], answers)[0].sum() for sign in (1, -1)]
                np.testing.assert_allclose((moved[0] - moved[1]) / 2 / step, gradient[:, column].sum(), atol=1e-6)


if __name__ == "__main__":
    unittest.main()
