import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.modes import WAYS, answers, answers_over, by_neighbours, check
from dr_tf.inference.neighbours import build_bank
from dr_tf.inference.views import COUNTS, view
from tests.inference import heads

HEAD = heads.Softmax(("0", "1", "2"))


class FirstPixel:
    """Its logits are the photograph's first pixel, so that each view of a photograph says something else."""

    width = 1

    def __init__(self, members=None):
        self.calls, self._members = 0, members

    def __call__(self, x):
        self.calls += 1
        corner = np.asarray(x)[:, 0, 0].astype(np.float32)
        return corner, corner[:, :1]

    def members(self, features):
        return self._members


def photograph(*corners):
    """2 x 2 pixels: upper left, upper right, lower left, lower right, each of three logits."""
    return np.array(corners, np.float32).reshape(1, 2, 2, 3)


X = photograph([2, 0, 0], [0, 1, 0], [0, 0, 3], [1, 1, 0])


class ViewTest(unittest.TestCase):
    def test_by_hand(self):
        x = np.arange(4).reshape(1, 2, 2, 1)  # 0 1 / 2 3
        expected = ["0123", "1032", "2301", "3210", "0213", "2031", "1302", "3120"]
        self.assertEqual(["".join(map(str, view(x, i).ravel())) for i in range(8)], expected)

    def test_each_count_is_a_group(self):
        x = np.arange(9).reshape(1, 3, 3, 1)
        for count in COUNTS:
            seen = {view(x, i).tobytes() for i in range(count)}
            self.assertEqual(len(seen), count)
            for i in range(count):
                self.assertEqual({view(view(x, i), j).tobytes() for j in range(count)}, seen)

    def test_of_two_eyes_the_photographs_alone_are_turned(self):
        x = {"left": np.arange(4).reshape(1, 2, 2, 1), "left_present": np.array([True])}
        seen = view(x, 3)
        self.assertEqual(seen["left"].ravel().tolist(), [3, 2, 1, 0])
        self.assertIs(seen["left_present"], x["left_present"])


class ModesTest(unittest.TestCase):
    def test_plain_is_what_the_network_says(self):
        network = FirstPixel()
        found = answers(network, HEAD, ("plain",), X)
        np.testing.assert_array_equal(found.logits["plain"], [[2, 0, 0]])
        self.assertEqual((network.calls, found.by_member), (1, None))

    def test_views_are_averaged_in_probability_and_looked_at_once(self):
        network = FirstPixel()
        found = answers(network, HEAD, ("plain", "tta2", "tta4"), X)
        by_view = HEAD.probabilities(X.reshape(4, 3))
        for mode, count in (("tta2", 2), ("tta4", 4)):
            np.testing.assert_allclose(HEAD.probabilities(found.logits[mode]), by_view[None, :count].mean(axis=1))
        self.assertEqual(network.calls, 4)
        np.testing.assert_allclose(found.by_view, by_view[:, None])

    def test_a_mean_keeps_the_rank_of_what_is_all_but_certain(self):
        one, other = (photograph(*[[0, 0, -low]] * 4) for low in (20, 22))
        logits = [answers(FirstPixel(), HEAD, ("tta2",), x).logits["tta2"] for x in (one, other)]
        p = [HEAD.probabilities(values)[0, 2] for values in logits]
        self.assertAlmostEqual(p[0] / p[1], np.exp(2), places=3)

    def test_neighbours_vote(self):
        bank = build_bank([[2.0], [2.0], [9.0]], [1, 2, 0], 3)
        found = answers(FirstPixel(), HEAD, ("plain", "knn_majority", "knn"), X, bank=bank)
        shares = HEAD.probabilities(found.logits["knn_majority"])
        np.testing.assert_allclose(shares, [[1 / 3] * 3], atol=1e-4)
        near = HEAD.probabilities(found.logits["knn"])[0]
        self.assertGreater(near[1], 2 * near[0])

    def test_what_is_no_number_stays_none(self):
        bank = build_bank([[2.0], [9.0]], [1, 0], 3)
        x = np.concatenate([X, np.full_like(X, np.nan)])
        logits = answers(FirstPixel(), HEAD, ("knn",), x, bank=bank).logits["knn"]
        np.testing.assert_array_equal(np.isfinite(logits).all(axis=1), [True, False])

    def test_batches_are_put_together_and_members_told_apart(self):
        logits = np.array([[[0.0, 0, 0]], [[0, 0, np.log(2)]]])
        found = answers_over(FirstPixel(members=logits.repeat(2, axis=1)), HEAD, ("plain", "tta2"), [(X,), (X,)])
        self.assertEqual([found.logits["tta2"].shape, found.features.shape], [(2, 3), (2, 1)])
        np.testing.assert_allclose(found.by_member[:, :, 2], [[1 / 3] * 2, [1 / 2] * 2])
        self.assertEqual(found.by_view.shape, (2, 2, 3))

    def test_of_nothing_there_is_nothing(self):
        found = answers_over(FirstPixel(), HEAD, ("plain",), [])
        self.assertEqual([found.logits["plain"].shape, found.by_view.shape], [(0, 3), (1, 0, 3)])

    def test_names(self):
        self.assertEqual([mode for mode in WAYS if by_neighbours((mode,))], ["knn", "knn_majority"])
        with self.assertRaisesRegex(UserError, "unknown mode 'tta3'; known: plain, tta2, tta4, tta8, knn"):
            check(("plain", "tta3"))


if __name__ == "__main__":
    unittest.main()
