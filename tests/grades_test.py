import unittest

import numpy as np

from dr_tf import grades
from dr_tf.grades import is_positive


def eye(**labels):
    return {"grade": -1, "any_dr": -1, "dme": -1, "labels": [-1] * 8, **labels}


def results(definition, field, values):
    return [is_positive(definition, eye(**{field: value})) for value in values]


class PositiveTest(unittest.TestCase):
    def test_grades_from_the_threshold_on_are_positive(self):
        for definition, expected in {
            "any_dr": [False, True, True, True, True],
            "referable": [False, False, True, True, True],
            "vision_threatening": [False, False, False, True, True],
        }.items():
            with self.subTest(definition):
                self.assertEqual(results(definition, "grade", range(5)), expected)

    def test_without_any_label_the_result_is_unknown(self):
        for definition in grades.POSITIVE_DEFINITIONS:
            with self.subTest(definition):
                self.assertIsNone(is_positive(definition, eye()))

    def test_no_dr_without_a_grade_is_below_every_threshold(self):
        for definition in ("any_dr", "referable", "vision_threatening"):
            with self.subTest(definition):
                self.assertIs(is_positive(definition, eye(any_dr=0)), False)

    def test_any_dr_without_a_grade_leaves_higher_thresholds_unknown(self):
        self.assertEqual(
            [is_positive(name, eye(any_dr=1)) for name in ("any_dr", "referable", "vision_threatening")],
            [True, None, None],
        )

    def test_referable_dme_depends_on_the_edema_label_only(self):
        self.assertEqual(results("referable_dme", "dme", (-1, 0, 1, 2)), [None, False, False, True])
        self.assertIsNone(is_positive("referable_dme", eye(grade=4, any_dr=1)))
        self.assertIsNone(is_positive("referable_dme", eye(any_dr=0)))

    def test_referable_or_dme_is_positive_if_either_is_and_negative_if_both_are_known_negative(self):
        table = {
            # (grade, dme): expected; DME elsewhere (1) is not referable
            (0, 0): False,
            (1, 1): False,
            (0, 2): True,
            (2, 0): True,
            (4, 2): True,
            (2, -1): True,
            (-1, 2): True,
            (1, -1): None,
            (-1, 1): None,
            (-1, -1): None,
        }
        for (grade, dme), expected in table.items():
            with self.subTest(grade=grade, dme=dme):
                self.assertIs(is_positive("referable_or_dme", eye(grade=grade, dme=dme)), expected)

    def test_without_dr_referable_or_dme_depends_on_the_edema(self):
        expected = {-1: None, 0: False, 1: False, 2: True}
        for dme, expected_result in expected.items():
            with self.subTest(dme=dme):
                self.assertIs(is_positive("referable_or_dme", eye(any_dr=0, dme=dme)), expected_result)

    def test_each_odir_definition_depends_on_its_own_label(self):
        for index, letter in enumerate("NDGCAHMO"):
            with self.subTest(letter):
                labels = [-1] * 8
                labels[index] = 1
                self.assertIs(is_positive(f"odir_{letter}", eye(labels=labels)), True)
                labels[index] = 0
                self.assertIs(is_positive(f"odir_{letter}", eye(labels=labels)), False)
                labels = [1] * 8
                labels[index] = -1
                self.assertIsNone(is_positive(f"odir_{letter}", eye(labels=labels)))

    def test_labels_of_numpy_types_give_python_bools(self):
        record = {"grade": np.int64(2), "any_dr": np.int64(1), "dme": np.int64(0), "labels": np.full(8, 1, np.int64)}
        for definition in grades.POSITIVE_DEFINITIONS:
            with self.subTest(definition):
                self.assertIsInstance(is_positive(definition, record), bool)

    def test_an_unknown_definition_lists_the_known_ones(self):
        with self.assertRaisesRegex(ValueError, "^unknown positive definition 'severe'; known: any_dr, referable, .*$"):
            is_positive("severe", eye(grade=3))


class ScaleTest(unittest.TestCase):
    def test_names_are_in_the_order_of_their_values(self):
        self.assertEqual(len(grades.GRADES), 5)
        self.assertEqual((grades.GRADES[0], grades.GRADES[4]), ("no DR", "proliferative DR"))
        self.assertEqual(len(grades.DME_RISKS), 3)
        self.assertEqual("".join(grades.ODIR_LABELS), "NDGCAHMO")


if __name__ == "__main__":
    unittest.main()
