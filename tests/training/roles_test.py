import types
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.training.roles import check_classes, class_weights, fold_roles, split_roles


class _Head:
    name, classes = "even", ("even", "odd")

    def usable(self, columns):
        return columns["grade"] >= 0


def _records(splits, folds=None, grades=None):
    n = len(splits)
    columns = {
        "split": np.array(splits),
        "fold": np.array(folds or [-1] * n),
        "grade": np.array(grades or [0] * n),
    }
    return types.SimpleNamespace(
        name="set/64", directory="there", columns=columns, rows=lambda s: np.flatnonzero(columns["split"] == s)
    )


class RolesTest(unittest.TestCase):
    def test_splits_without_what_has_no_label(self):
        roles = split_roles(_records(["train", "train", "validation", "test"], grades=[1, -1, 2, 1]), _Head())
        self.assertEqual((roles.fit.tolist(), roles.select.tolist()), ([0], [2]))
        self.assertEqual(split_roles(_records(["train"]), _Head()).select.tolist(), [])

    def test_a_set_of_another_task(self):
        with self.assertRaisesRegex(UserError, "none of the 2 examples of set/64"):
            split_roles(_records(["train"] * 2, grades=[-1, -1]), _Head())

    def test_the_held_out_fold_never_chooses(self):
        records = _records(["train"] * 6 + ["test"], folds=[0, 0, 1, 1, 2, 2, -1])
        roles = fold_roles(records, _Head(), fold=2, folds=3, selects=True)
        self.assertEqual([r.tolist() for r in (roles.fit, roles.select, roles.held_out)], [[2, 3], [0, 1], [4, 5]])

    def test_where_nothing_is_chosen_all_other_folds_fit(self):
        records = _records(["train"] * 6, folds=[0, 0, 1, 1, 2, 2])
        roles = fold_roles(records, _Head(), fold=0, folds=3, selects=False)
        self.assertEqual([r.tolist() for r in (roles.fit, roles.select)], [[2, 3, 4, 5], [0, 1]])

    def test_folds_are_those_of_the_records(self):
        with self.assertRaisesRegex(UserError, "has 2 folds, not 5"):
            fold_roles(_records(["train"] * 2, folds=[0, 1]), _Head(), fold=0, folds=5, selects=False)

    def test_a_class_that_nobody_fits(self):
        check_classes(_Head(), np.array([0, 1]), "set")
        with self.assertRaisesRegex(UserError, "nothing of odd among the 2 fitted"):
            check_classes(_Head(), np.array([0, 0]), "set")
        with self.assertRaisesRegex(UserError, "nothing of even"):
            check_classes(_Head(), np.array([[0, 1], [0, 1]]), "set")

    def test_balanced_class_weights(self):
        weights, by_class = class_weights("balanced", np.array([0, 0, 0, 1]))
        np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2])
        np.testing.assert_allclose(by_class, [2 / 3, 2])
        weights, _ = class_weights((1.0, 3.0), np.array([0, 1]))
        np.testing.assert_allclose(weights, [0.5, 1.5])
