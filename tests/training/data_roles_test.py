"""Roles of the examples in a run, and class weights by hand."""

import types
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.training.data_roles import (
    check_classes,
    class_weights,
    fold_roles,
    split_roles,
    weighted_prior,
    with_share_of_patients,
)


class _Head:
    name, classes = "even", ("even", "odd")

    def true_classes(self, columns):
        return columns["grade"]

    def has_label(self, columns):
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
    def test_splits_without_examples_that_have_no_label(self):
        roles = split_roles(_records(["train", "train", "validation", "test"], grades=[1, -1, 2, 1]), _Head())
        self.assertEqual((roles.fit.tolist(), roles.select.tolist()), ([0], [2]))
        self.assertEqual(split_roles(_records(["train"]), _Head()).select.tolist(), [])

    def test_a_record_set_without_the_labels(self):
        with self.assertRaisesRegex(UserError, "none of the 2 examples of set/64"):
            split_roles(_records(["train"] * 2, grades=[-1, -1]), _Head())

    def test_the_held_out_fold_does_not_select(self):
        records = _records(["train"] * 6 + ["test"], folds=[0, 0, 1, 1, 2, 2, -1])
        roles = fold_roles(records, _Head(), fold=2, folds=3, selects=True)
        self.assertEqual([r.tolist() for r in (roles.fit, roles.held_out)], [[2, 3], [4, 5]])

    def test_examples_that_select_an_epoch_do_not_calibrate(self):
        """Each takes half of the patients of the next fold, with both eyes of a patient in the same half."""
        records = _records(["train"] * 12, folds=[0, 0, 1, 1, *[2] * 8])
        records.columns["patient_id"] = np.array([f"p{i // 2}" for i in range(12)])
        roles = fold_roles(records, _Head(), fold=1, folds=3, selects=True)
        self.assertEqual(sorted([*roles.select, *roles.calibrate]), list(range(4, 12)))
        self.assertEqual((len(roles.select), len(roles.calibrate)), (4, 4))
        patients = [set(records.columns["patient_id"][rows]) for rows in (roles.select, roles.calibrate)]
        self.assertEqual(patients[0] & patients[1], set())

    def test_without_selection_all_other_folds_are_training_examples(self):
        records = _records(["train"] * 6, folds=[0, 0, 1, 1, 2, 2])
        roles = fold_roles(records, _Head(), fold=0, folds=3, selects=False)
        self.assertEqual([r.tolist() for r in (roles.fit, roles.select)], [[2, 3, 4, 5], [0, 1]])

    def test_a_share_of_the_training_patients(self):
        records = _records(["train"] * 80)
        records.columns["patient_id"] = np.array([f"p{i // 2}" for i in range(80)])
        roles = split_roles(records, _Head())
        quarter, half, all_of_them = (with_share_of_patients(roles, records, share, 3).fit for share in (0.25, 0.5, 1))
        self.assertEqual([len(rows) for rows in (quarter, half, all_of_them)], [20, 40, 80])
        self.assertTrue(np.isin(quarter, half).all())
        self.assertEqual(len(set(records.columns["patient_id"][quarter])), 10)  # both eyes of a patient
        other = with_share_of_patients(roles, records, 0.25, 4).fit
        self.assertNotEqual(quarter.tolist(), other.tolist())
        self.assertEqual(len(with_share_of_patients(roles, records, 0.001, 3).fit), 2)

    def test_another_number_of_folds_than_the_records_have(self):
        with self.assertRaisesRegex(UserError, "has 2 folds, not 5"):
            fold_roles(_records(["train"] * 2, folds=[0, 1]), _Head(), fold=0, folds=5, selects=False)

    def test_a_class_without_training_examples(self):
        check_classes(_Head(), np.array([0, 1]), "set")
        with self.assertRaisesRegex(UserError, "no example of odd among the 2 training examples"):
            check_classes(_Head(), np.array([0, 0]), "set")
        with self.assertRaisesRegex(UserError, "no example of even"):
            check_classes(_Head(), np.array([[0, 1], [0, 1]]), "set")

    def test_balanced_class_weights(self):
        weights, by_class = class_weights("balanced", np.array([0, 0, 0, 1]), 2)
        np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2])
        np.testing.assert_allclose(by_class, [2 / 3, 2])
        weights, _ = class_weights((1.0, 3.0), np.array([0, 1]), 2)
        np.testing.assert_allclose(weights, [0.5, 1.5])

    def test_an_example_with_several_labels_has_their_mean_weight(self):
        """Of four one has the rare label, two the other: 4 / (2 * 1) = 2 and 4 / (2 * 2) = 1; without any 1."""
        weights, by_class = class_weights("balanced", np.array([[1, 1], [0, 1], [0, 0], [0, -1]]), 2)
        np.testing.assert_allclose(by_class, [2, 1])
        np.testing.assert_allclose(weights, np.array([1.5, 1, 1, 1]) / 1.125)

    def test_invalid_class_weights(self):
        with self.assertRaisesRegex(UserError, "train.class_weights has 1 numbers, not one for each of the 2 classes"):
            class_weights((1.0,), np.array([0, 1]), 2)

    def test_the_frequency_of_weighted_labels(self):
        """By hand: 4 examples, one of which has both labels; balanced weights are 4 / (2 * 3) and 4 / (2 * 1)."""
        labels = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
        weights, by_class = class_weights("balanced", labels, 2)
        np.testing.assert_allclose(by_class, [2 / 3, 2])
        raw = np.array([2 / 3, 2 / 3, 4 / 3, 1])
        np.testing.assert_allclose(weights, raw / raw.mean())
        expected = (labels * weights[:, None]).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(weighted_prior((0.75, 0.25), labels, weights, by_class, exclusive=False), expected)

    def test_the_prior_of_weighted_classes(self):
        classes = np.array([0, 0, 0, 1])
        weights, by_class = class_weights("balanced", classes, 2)
        prior = weighted_prior((0.75, 0.25), classes, weights, by_class, exclusive=True)
        np.testing.assert_allclose(prior, [0.5, 0.5])
