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
    """A network whose logits are the first pixel of an image, so that each view gives other logits.

    `proto` outputs the first two of them, `edema` their negative.
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
    """An image of 2 x 2 pixels (upper left, upper right, lower left, lower right), each of three logits."""
    return np.array(corners, np.float32).reshape(1, 2, 2, 3)


X = photograph([2, 0, 0], [0, 1, 0], [0, 0, 3], [1, 1, 0])
NEIGHBOURS = build_neighbours([[2.0], [2.0], [9.0]], [1, 2, 0], 3)


def requested(*modes, head=HEAD):
    return RequestedModes.from_names(modes, {"grade": head}, "grade")


def read(of, mode, scores):
    """Decode a mode's scores by its own link."""
    return scores_to_probabilities(of.modes[mode][1], scores, len(of.head.classes))


class ScoreImagesTest(unittest.TestCase):
    def test_plain_scores_are_the_logits(self):
        network = FirstPixel()
        result = score_images(network, requested("plain"), X)
        np.testing.assert_array_equal(result.scores["plain"], [[2, 0, 0]])
        np.testing.assert_array_equal(result.outputs["grade"], [[2, 0, 0]])
        self.assertEqual((network.calls, result.member_probabilities), (1, None))

    def test_views_are_averaged_in_probability_and_processed_once(self):
        network, of = FirstPixel(), requested("plain", "tta2", "tta4")
        result = score_images(network, of, X)
        by_view = HEAD.probabilities(X.reshape(4, 3))
        for mode, count in (("tta2", 2), ("tta4", 4)):
            np.testing.assert_allclose(read(of, mode, result.scores[mode]), by_view[None, :count].mean(axis=1))
        self.assertEqual(network.calls, 4)
        np.testing.assert_allclose(result.view_probabilities, by_view[:, None])

    def test_a_mean_keeps_the_rank_of_near_certain_predictions(self):
        one, other = (photograph(*[[0, 0, -low]] * 4) for low in (20, 22))
        of = requested("tta2")
        p = [read(of, "tta2", score_images(FirstPixel(), of, x).scores["tta2"])[0, 2] for x in (one, other)]
        self.assertAlmostEqual(p[0] / p[1], np.exp(2), places=3)

    def test_neighbours_vote(self):
        of = requested("plain", "knn_majority", "knn")
        result = score_images(FirstPixel(), of, X, neighbours=NEIGHBOURS)
        shares = read(of, "knn_majority", result.scores["knn_majority"])
        np.testing.assert_allclose(shares, [[1 / 3] * 3], atol=1e-4)
        near = read(of, "knn", result.scores["knn"])[0]
        self.assertGreater(near[1], 2 * near[0])

    def test_votes_keep_their_distribution_with_every_head(self):
        """For neighbours of grades 0 and 4 the link of CORAL or a regression would give the grade between."""
        for head in (heads.Coral(), heads.Regression(), heads.Corn()):
            neighbours = build_neighbours([[2.0], [2.0]], [0, 4], 5)
            of = RequestedModes.from_names(("knn_majority",), {"grade": head}, "grade")
            network = _ConstantNetwork({"grade": np.zeros((1, head.outputs))}, np.float32([[2]]))
            result = score_images(network, of, X, neighbours=neighbours)
            with self.subTest(head.name):
                self.assertEqual(of.modes["knn_majority"][1], "softmax")
                np.testing.assert_allclose(
                    read(of, "knn_majority", result.scores["knn_majority"]), [[0.5, 0, 0, 0, 0.5]], atol=2e-4
                )

    def test_views_of_an_ordinal_head_are_averaged_in_probability(self):
        """For views certain of grade 0 and of grade 4 a mean of latent scores would give the grade between."""
        of = RequestedModes.from_names(("tta2",), {"grade": heads.Coral()}, "grade")
        by_view = iter([np.full((1, 4), -20.0), np.full((1, 4), 20.0)])
        result = score_images(lambda x: ({"grade": next(by_view)}, np.zeros((1, 1))), of, X)
        np.testing.assert_allclose(read(of, "tta2", result.scores["tta2"]), [[0.5, 0, 0, 0, 0.5]], atol=1e-6)

    def test_another_output_with_the_same_classes_has_its_own_link(self):
        of = RequestedModes.from_names(("plain", "proto"), BESIDE, "grade")
        result = score_images(FirstPixel(names=tuple(BESIDE)), of, X)
        np.testing.assert_array_equal(result.scores["proto"], [[2, 0]])
        self.assertEqual(of.modes["proto"], (ModeDefinition(output="proto"), "coral"))
        np.testing.assert_array_equal(result.outputs["edema"], [[-2, 0, 0]])

    def test_a_mean_requests_its_parts(self):
        of = requested("plain+knn")
        self.assertEqual(list(of.modes), ["plain", "knn"])
        self.assertEqual(list(score_images(FirstPixel(), of, X, neighbours=NEIGHBOURS).scores), ["plain", "knn"])
        self.assertEqual((of.views, of.votes), (1, {"ordinal"}))

    def test_an_ensembles_plain_mode_has_a_link_for_averages(self):
        of = RequestedModes.from_names(("plain",), {"grade": heads.Coral()}, "grade", ensemble=True)
        network = _ConstantNetwork({"grade": np.log([[3.0, 1, 1, 1 / 3]])}, np.zeros((1, 1)))
        scores = score_images(network, of, X).scores["plain"]
        self.assertEqual(of.modes["plain"][1], "softmax")
        np.testing.assert_allclose(read(of, "plain", scores), [[0.25, 0.25, 0, 0.25, 0.25]], atol=1e-6)

    def test_features_that_are_not_finite_give_scores_that_are_not_finite(self):
        x = np.concatenate([X, np.full_like(X, np.nan)])
        scores = score_images(FirstPixel(), requested("knn"), x, neighbours=NEIGHBOURS).scores["knn"]
        np.testing.assert_array_equal(np.isfinite(scores).all(axis=1), [True, False])


class _ConstantNetwork:
    """A network with a constant output."""

    def __init__(self, outputs, features):
        self._output, self.width = (outputs, features), features.shape[1]

    def __call__(self, x):
        return self._output


class BatchesTest(unittest.TestCase):
    def test_batches_are_concatenated_and_members_are_available(self):
        logits = np.array([[[0.0, 0, 0]], [[0, 0, np.log(2)]]])
        network = FirstPixel(members={"grade": logits.repeat(2, axis=1)})
        result = score_batches(network, requested("plain", "tta2"), [(X,), (X,)])
        self.assertEqual([result.scores["tta2"].shape, result.features.shape], [(2, 3), (2, 1)])
        self.assertEqual(result.outputs["grade"].shape, (2, 3))
        np.testing.assert_allclose(result.member_probabilities[:, :, 2], [[1 / 3] * 2, [1 / 2] * 2])
        self.assertEqual(result.view_probabilities.shape, (2, 2, 3))

    def test_without_batches_there_are_no_rows(self):
        result = score_batches(FirstPixel(), requested("plain"), [])
        self.assertEqual([result.scores["plain"].shape, result.view_probabilities.shape], [(0, 3), (1, 0, 3)])

    def test_an_empty_result_has_as_many_columns_as_any_other(self):
        for head in (heads.Softmax(), heads.Coral(), heads.Corn(), heads.Regression()):
            of = RequestedModes.from_names(("plain", "tta2", "knn", "plain+knn"), {"grade": head}, "grade")
            network = _ConstantNetwork({"grade": np.zeros((1, head.outputs))}, np.float32([[2]]))
            some = score_images(network, of, X, neighbours=build_neighbours([[2.0], [2.0]], [0, 4], 5))
            none = score_batches(network, of, [], neighbours=None)
            with self.subTest(head.name):
                self.assertEqual(
                    {mode: scores.shape[1] for mode, scores in none.scores.items()},
                    {mode: scores.shape[1] for mode, scores in some.scores.items()},
                )


class ModeDefinitionTest(unittest.TestCase):
    def known(self, name, outputs=ONE, decides="grade"):
        return mode_definition(name, outputs, decides)

    def test_definitions_by_name(self):
        self.assertEqual(self.known("tta8"), ModeDefinition(views=8))
        self.assertEqual(self.known("knn_majority"), ModeDefinition(vote="majority"))
        self.assertEqual(self.known("proto", BESIDE), ModeDefinition(output="proto"))
        self.assertEqual(self.known("plain+knn+proto", BESIDE), ModeDefinition(mean=("plain", "knn", "proto")))
        self.assertEqual([mode for mode, definition in MODES.items() if definition.vote], ["knn", "knn_majority"])

    def test_a_mean_is_replaced_by_its_parts_once(self):
        definitions = {name: self.known(name) for name in ("plain", "knn", "plain+knn")}
        self.assertEqual(with_parts(("plain+knn", "plain"), definitions), ("plain", "knn"))

    def test_unknown_names_list_the_known(self):
        known = "known: plain, tta2, tta4, tta8, one_eye, mean_eye, worse_eye, knn, knn_majority, or a mean of several, such as plain"
        for name in ("tta3", "proto", "plain+tta3", "plain+plain", "plain+", ""):
            with self.subTest(name), self.assertRaisesRegex(UserError, f"unknown mode '.*'; {known}"):
                self.known(name)

    def test_an_output_with_other_classes_is_no_mode(self):
        for name in ("edema", "plain+edema", "grade"):
            with self.subTest(name), self.assertRaisesRegex(UserError, "knn_majority, proto, or a mean"):
                self.known(name, BESIDE)


if __name__ == "__main__":
    unittest.main()
