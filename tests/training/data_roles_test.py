import types
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.training.data_roles import check_classes, class_weights, fold_roles, split_roles


class _Head:
    name, classes = "even", ("even", "odd")

    def strata(self, columns):
        return columns["grade"]

    def usable(self, columns):
        return columns["grade"] >= 0


def _records(splits, folds=None, grades=None):
    n = len(splits)
    columns = {
        "split": np.array(splits),
        "fold": np.array(folds or [-1] * n),
        "grade": np.array(grades or [0] * n),
        "patient_id": np.array([f"p{i}" for i in range(n)]),
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
        self.assertEqual([r.tolist() for r in (roles.fit, roles.held_out)], [[2, 3], [4, 5]])

    def test_who_chooses_an_epoch_does_not_calibrate(self):
        """One half of the patients of the next fold each, of both eyes of one patient together."""
        records = _records(["train"] * 12, folds=[0, 0, 1, 1, *[2] * 8])
        records.columns["patient_id"] = np.array([f"p{i // 2}" for i in range(12)])
        roles = fold_roles(records, _Head(), fold=1, folds=3, selects=True)
        self.assertEqual(sorted([*roles.select, *roles.calibrate]), list(range(4, 12)))
        self.assertEqual((len(roles.select), len(roles.calibrate)), (4, 4))
        patients = [set(records.columns["patient_id"][rows]) for rows in (roles.select, roles.calibrate)]
        self.assertEqual(patients[0] & patients[1], set())

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
        weights, by_class = class_weights("balanced", np.array([0, 0, 0, 1]), 2)
        np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2])
        np.testing.assert_allclose(by_class, [2 / 3, 2])
        weights, _ = class_weights((1.0, 3.0), np.array([0, 1]), 2)
        np.testing.assert_allclose(weights, [0.5, 1.5])

    def test_an_example_of_several_labels_weighs_their_mean(self):
        """Of four one has the rare label, two the other: 4 / (2 * 1) = 2 and 4 / (2 * 2) = 1; without any 1."""
        weights, by_class = class_weights("balanced", np.array([[1, 1], [0, 1], [0, 0], [0, -1]]), 2)
        np.testing.assert_allclose(by_class, [2, 1])
        np.testing.assert_allclose(weights, np.array([1.5, 1, 1, 1]) / 1.125)

    def test_weights_that_mean_nothing(self):
        for wanted in ("blanced", (1.0,), (1.0, 0.0), (1.0, "2"), 3.0):
            with self.subTest(wanted), self.assertRaisesRegex(UserError, "train.class_weights"):
                class_weights(wanted, np.array([0, 1]), 2)
