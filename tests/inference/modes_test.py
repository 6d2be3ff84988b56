import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.modes import (
    MODES,
    ModeDefinition,
    RequestedModes,
    mode_definition,
    score_batches,
    score_images,
    with_parts,
)
from dr_tf.inference.nearest_neighbours import build_neighbours
from dr_tf.models.links import scores_to_probabilities
from tests.inference import heads

HEAD = heads.Softmax(("0", "1", "2"))
ONE = {"grade": HEAD}
BESIDE = {"grade": HEAD, "proto": heads.Coral(("0", "1", "2")), "edema": heads.Edema()}


class FirstPixel:
    """Its logits are the photograph's first pixel, so that each view of a photograph says something else.

    `proto` reads the first two of them, `edema` the negative.
    """

    width = 1

    def __init__(self, members=None, names=("grade",)):
        self.calls, self._members, self._names = 0, members, names

    def __call__(self, x):
        self.calls += 1
        corner = np.asarray(x)[:, 0, 0].astype(np.float32)
        outputs = {"grade": corner, "proto": corner[:, :2], "edema": -corner}
        return {name: outputs[name] for name in self._names}, corner[:, :1]

    def members(self, features):
        return self._members


def photograph(*corners):
    """2 x 2 pixels: upper left, upper right, lower left, lower right, each of three logits."""
    return np.array(corners, np.float32).reshape(1, 2, 2, 3)


X = photograph([2, 0, 0], [0, 1, 0], [0, 0, 3], [1, 1, 0])
NEIGHBOURS = build_neighbours([[2.0], [2.0], [9.0]], [1, 2, 0], 3)


def requested(*modes, head=HEAD):
    return RequestedModes.from_names(modes, {"grade": head}, "grade")


def read(of, mode, scores):
    """The probabilities that a mode's scores decode to, by its own link."""
    return scores_to_probabilities(of.modes[mode][1], scores, len(of.head.classes))


class AnswersTest(unittest.TestCase):
    def test_plain_is_what_the_network_says(self):
        network = FirstPixel()
        found = score_images(network, requested("plain"), X)
        np.testing.assert_array_equal(found.scores["plain"], [[2, 0, 0]])
        np.testing.assert_array_equal(found.outputs["grade"], [[2, 0, 0]])
        self.assertEqual((network.calls, found.member_probabilities), (1, None))

    def test_views_are_averaged_in_probability_and_looked_at_once(self):
        network, of = FirstPixel(), requested("plain", "tta2", "tta4")
        found = score_images(network, of, X)
        by_view = HEAD.probabilities(X.reshape(4, 3))
        for mode, count in (("tta2", 2), ("tta4", 4)):
            np.testing.assert_allclose(read(of, mode, found.scores[mode]), by_view[None, :count].mean(axis=1))
        self.assertEqual(network.calls, 4)
        np.testing.assert_allclose(found.view_probabilities, by_view[:, None])

    def test_a_mean_keeps_the_rank_of_what_is_all_but_certain(self):
        one, other = (photograph(*[[0, 0, -low]] * 4) for low in (20, 22))
        of = requested("tta2")
        p = [read(of, "tta2", score_images(FirstPixel(), of, x).scores["tta2"])[0, 2] for x in (one, other)]
        self.assertAlmostEqual(p[0] / p[1], np.exp(2), places=3)

    def test_neighbours_vote(self):
        of = requested("plain", "knn_majority", "knn")
        found = score_images(FirstPixel(), of, X, neighbours=NEIGHBOURS)
        shares = read(of, "knn_majority", found.scores["knn_majority"])
        np.testing.assert_allclose(shares, [[1 / 3] * 3], atol=1e-4)
        near = read(of, "knn", found.scores["knn"])[0]
        self.assertGreater(near[1], 2 * near[0])

    def test_votes_are_the_distribution_that_they_are_under_every_head(self):
        """Of one neighbour at 0 and one at the worst CORAL or a regression would make the grade between."""
        for head in (heads.Coral(), heads.Regression(), heads.Corn()):
            neighbours = build_neighbours([[2.0], [2.0]], [0, 4], 5)
            of = RequestedModes.from_names(("knn_majority",), {"grade": head}, "grade")
            network = _Saying({"grade": np.zeros((1, head.outputs))}, np.float32([[2]]))
            found = score_images(network, of, X, neighbours=neighbours)
            with self.subTest(head.name):
                self.assertEqual(of.modes["knn_majority"][1], "softmax")
                np.testing.assert_allclose(
                    read(of, "knn_majority", found.scores["knn_majority"]), [[0.5, 0, 0, 0, 0.5]], atol=2e-4
                )

    def test_views_of_an_ordinal_head_are_averaged_in_probability(self):
        """Half the views sure of 0, half sure of the worst: a mean of latents would say the grade between."""
        of = RequestedModes.from_names(("tta2",), {"grade": heads.Coral()}, "grade")
        apart = iter([np.full((1, 4), -20.0), np.full((1, 4), 20.0)])
        found = score_images(lambda x: ({"grade": next(apart)}, np.zeros((1, 1))), of, X)
        np.testing.assert_allclose(read(of, "tta2", found.scores["tta2"]), [[0.5, 0, 0, 0, 0.5]], atol=1e-6)

    def test_another_output_with_the_same_classes_is_read_by_its_own_link(self):
        of = RequestedModes.from_names(("plain", "proto"), BESIDE, "grade")
        found = score_images(FirstPixel(names=tuple(BESIDE)), of, X)
        np.testing.assert_array_equal(found.scores["proto"], [[2, 0]])
        self.assertEqual(of.modes["proto"], (ModeDefinition(output="proto"), "coral"))
        np.testing.assert_array_equal(found.outputs["edema"], [[-2, 0, 0]])

    def test_of_a_mean_its_parts_are_asked(self):
        of = requested("plain+knn")
        self.assertEqual(list(of.modes), ["plain", "knn"])
        self.assertEqual(list(score_images(FirstPixel(), of, X, neighbours=NEIGHBOURS).scores), ["plain", "knn"])
        self.assertEqual((of.views, of.votes), (1, {"ordinal"}))

    def test_an_ensembles_answer_is_a_distribution(self):
        of = RequestedModes.from_names(("plain",), {"grade": heads.Coral()}, "grade", ensemble=True)
        network = _Saying({"grade": np.log([[3.0, 1, 1, 1 / 3]])}, np.zeros((1, 1)))
        scores = score_images(network, of, X).scores["plain"]
        self.assertEqual(of.modes["plain"][1], "softmax")
        np.testing.assert_allclose(read(of, "plain", scores), [[0.25, 0.25, 0, 0.25, 0.25]], atol=1e-6)

    def test_what_is_no_number_stays_none(self):
        x = np.concatenate([X, np.full_like(X, np.nan)])
        scores = score_images(FirstPixel(), requested("knn"), x, neighbours=NEIGHBOURS).scores["knn"]
        np.testing.assert_array_equal(np.isfinite(scores).all(axis=1), [True, False])


class _Saying:
    """Says the same of everything."""

    def __init__(self, outputs, features):
        self._said, self.width = (outputs, features), features.shape[1]

    def __call__(self, x):
        return self._said


class BatchesTest(unittest.TestCase):
    def test_batches_are_put_together_and_members_told_apart(self):
        logits = np.array([[[0.0, 0, 0]], [[0, 0, np.log(2)]]])
        network = FirstPixel(members={"grade": logits.repeat(2, axis=1)})
        found = score_batches(network, requested("plain", "tta2"), [(X,), (X,)])
        self.assertEqual([found.scores["tta2"].shape, found.features.shape], [(2, 3), (2, 1)])
        self.assertEqual(found.outputs["grade"].shape, (2, 3))
        np.testing.assert_allclose(found.member_probabilities[:, :, 2], [[1 / 3] * 2, [1 / 2] * 2])
        self.assertEqual(found.view_probabilities.shape, (2, 2, 3))

    def test_of_nothing_there_is_nothing(self):
        found = score_batches(FirstPixel(), requested("plain"), [])
        self.assertEqual([found.scores["plain"].shape, found.view_probabilities.shape], [(0, 3), (1, 0, 3)])

    def test_nothing_can_be_joined_with_something_under_every_head(self):
        for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Regression()):
            of = RequestedModes.from_names(("plain", "tta2", "knn", "plain+knn"), {"grade": head}, "grade")
            network = _Saying({"grade": np.zeros((1, head.outputs))}, np.float32([[2]]))
            some = score_images(network, of, X, neighbours=build_neighbours([[2.0], [2.0]], [0, 4], 5))
            none = score_batches(network, of, [], neighbours=None)
            with self.subTest(head.name):
                self.assertEqual(
                    {mode: scores.shape[1] for mode, scores in none.scores.items()},
                    {mode: scores.shape[1] for mode, scores in some.scores.items()},
                )


class NamesTest(unittest.TestCase):
    def known(self, name, outputs=ONE, decides="grade"):
        return mode_definition(name, outputs, decides)

    def test_what_each_reads(self):
        self.assertEqual(self.known("tta8"), ModeDefinition(views=8))
        self.assertEqual(self.known("knn_majority"), ModeDefinition(vote="majority"))
        self.assertEqual(self.known("proto", BESIDE), ModeDefinition(output="proto"))
        self.assertEqual(self.known("plain+knn+proto", BESIDE), ModeDefinition(mean=("plain", "knn", "proto")))
        self.assertEqual([mode for mode, definition in MODES.items() if definition.vote], ["knn", "knn_majority"])

    def test_of_a_mean_the_parts_are_needed_once(self):
        definitions = {name: self.known(name) for name in ("plain", "knn", "plain+knn")}
        self.assertEqual(with_parts(("plain+knn", "plain"), definitions), ("plain", "knn"))

    def test_unknown_names_list_the_known(self):
        known = "known: plain, tta2, tta4, tta8, knn, knn_majority, or a mean of several, such as plain"
        for name in ("tta3", "proto", "plain+tta3", "plain+plain", "plain+", ""):
            with self.subTest(name), self.assertRaisesRegex(UserError, f"unknown mode '.*'; {known}"):
                self.known(name)

    def test_an_output_with_other_classes_is_no_mode(self):
        for name in ("edema", "plain+edema", "grade"):
            with self.subTest(name), self.assertRaisesRegex(UserError, "knn_majority, proto, or a mean"):
                self.known(name, BESIDE)


if __name__ == "__main__":
    unittest.main()
