import unittest

import numpy as np

from dr_tf.inference.cross_fitting import cross_fit, patient_folds


class FoldsTest(unittest.TestCase):
    def test_a_patient_is_in_one_fold_and_grades_are_stratified(self):
        patients = np.arange(100).repeat(2)
        grades = np.stack([np.zeros(100, int), np.arange(100) // 80 * 3], axis=1).ravel()  # the worse eye of 20 is 3
        folds = patient_folds(patients, grades)
        np.testing.assert_array_equal(folds[::2], folds[1::2])
        np.testing.assert_array_equal(np.bincount(folds[1::2][80:]), [4] * 5)
        np.testing.assert_array_equal(np.bincount(folds), [40] * 5)

    def test_few_patients_make_few_folds(self):
        self.assertEqual(len(set(patient_folds(["a", "b", "b"], [0, 1, 1]))), 2)

    def test_the_same_seed_gives_the_same_folds(self):
        patients, grades = np.arange(50), np.zeros(50, int)
        np.testing.assert_array_equal(patient_folds(patients, grades), patient_folds(patients, grades))
        self.assertTrue((patient_folds(patients, grades) != patient_folds(patients, grades, seed=1)).any())


class CrossFitTest(unittest.TestCase):
    def test_each_row_gets_the_value_of_a_model_fitted_on_the_other_folds(self):
        values, folds = np.array([1.0, 10, 100, 1000]), np.array([0, 1, 0, 1])
        result = cross_fit(np.sum, lambda total, rows: rows + total * 1e6, folds, values)
        np.testing.assert_array_equal(result, [1010e6 + 1, 101e6 + 10, 1010e6 + 100, 101e6 + 1000])

    def test_one_patient_is_refused(self):
        with self.assertRaisesRegex(ValueError, "two patients"):
            cross_fit(np.sum, np.add, np.zeros(3), np.ones(3))


if __name__ == "__main__":
    unittest.main()
