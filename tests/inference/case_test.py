import pathlib
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.inference.case import SINGLE, Case, as_cases, pairs
from dr_tf.inference.patients import PatientRow


class CaseTest(unittest.TestCase):
    def test_an_image_is_named_by_its_path_or_its_position(self):
        case = Case("12", {"left": ("x.jpg",)})
        result = list(as_cases([pathlib.Path("a/b.jpg"), b"jpeg", np.zeros((2, 2, 3), np.uint8), case, "c.jpg"]))
        names = [one.name for one in result]
        self.assertEqual(names, ["a/b.jpg", "photograph 2", "photograph 3", "12", "c.jpg"])
        self.assertIs(result[3], case)
        self.assertEqual(result[1].images, {SINGLE: (b"jpeg",)})

    def test_an_image_can_be_given_a_name(self):
        self.assertEqual((Case.from_image("a.jpg").name, Case.from_image("a.jpg", "anna").name), ("a.jpg", "anna"))
        self.assertEqual(Case.from_image(b"jpeg").name, "photograph")


class PairsTest(unittest.TestCase):
    def cases(self, paths, table=None):
        return [(case.name, case.images) for case in pairs(paths, table)]

    def test_both_eyes_of_a_patient_are_one_case_in_order_of_first_appearance(self):
        result = self.cases(["2_right.jpg", "1_left.jpg", "2_left.jpg"])
        self.assertEqual(
            result,
            [("2", {"left": ("2_left.jpg",), "right": ("2_right.jpg",)}), ("1", {"left": ("1_left.jpg",)})],
        )
        self.assertEqual(list(result[0][1]), ["left", "right"])

    def test_several_images_of_an_eye_are_kept_together(self):
        result = self.cases(["7_l1.jpg", "7_right.jpg", "7_l2.jpg"])
        self.assertEqual(result, [("7", {"left": ("7_l1.jpg", "7_l2.jpg"), "right": ("7_right.jpg",)})])

    def test_equal_names_in_two_folders_are_two_patients(self):
        self.assertEqual(self.cases(["a/1_left.jpg", "b/1_right.jpg"]),
                         [("1", {"left": ("a/1_left.jpg",)}), ("1", {"right": ("b/1_right.jpg",)})])  # fmt: skip

    def test_with_a_table_paths_and_file_names_are_arbitrary(self):
        rows = {"x.jpg": ("anna", "left"), "y": ("anna", "right"), "z.jpg": ("bert", "left")}
        table = {name: PatientRow(*row) for name, row in rows.items()}
        paths = [pathlib.Path(path) for path in ("a/x.jpg", "b/y.png", "z.jpg")]
        self.assertEqual(
            self.cases(paths, table),
            [("anna", {"left": (paths[0],), "right": (paths[1],)}), ("bert", {"left": (paths[2],)})],
        )

    def test_an_image_of_unknown_eye_is_refused(self):
        with self.assertRaisesRegex(UserError, r"^scan\.jpg: the file name does not contain the eye.*--patient_table$"):
            pairs(["1_left.jpg", "scan.jpg"])
        with self.assertRaisesRegex(UserError, "does not contain the eye"):
            pairs(["x.jpg"], {"x.jpg": PatientRow("anna", "")})
        with self.assertRaisesRegex(UserError, "the patient table has no row for 1_left.jpg"):
            pairs(["1_left.jpg"], {"x.jpg": PatientRow("anna", "left")})


if __name__ == "__main__":
    unittest.main()
