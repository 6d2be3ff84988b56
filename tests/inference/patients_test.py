import pathlib
import tempfile
import unittest

from dr_tf.console import UserError
from dr_tf.inference.case import pairs
from dr_tf.inference.patients import PatientRow, group_by_patient, parse_file_name, read_patient_table
from tests.inference.example_decisions import decided


class FileNameTest(unittest.TestCase):
    def test_patient_and_eye(self):
        for name, expected in {
            "123_left.jpg": ("123", "left"),
            "a/123_right.jpeg": ("123", "right"),
            "123-OD.png": ("123", "right"),
            "123 os.tif": ("123", "left"),
            "site_4_R.jpg": ("site_4", "right"),
            "7_l1.jpg": ("7", "left"),
            "7_left_2.jpg": ("7", "left"),
            "OD_123.jpg": ("123", "right"),
            "left-12.jpg": ("12", "left"),
            "IMG_0042.jpg": ("IMG_0042", ""),
            "upright.jpg": ("upright", ""),
            "C_17.jpg": ("C_17", ""),
            "R_17.jpg": ("R_17", ""),
            "left.jpg": ("left", ""),
        }.items():
            with self.subTest(name):
                self.assertEqual(parse_file_name(name), expected)

    def test_equal_names_in_two_folders_are_two_patients(self):
        self.assertEqual(len(group_by_patient([decided("a/1_left.jpg", 0.1), decided("b/1_left.jpg", 0.1)])), 2)


class TableTest(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "eyes.csv"
            path.write_text(text, encoding="utf-8")
            return read_patient_table(path)

    def test_images_are_grouped_by_the_table(self):
        table = {"x.jpg": PatientRow("anna", "left"), "y": PatientRow("anna", "right")}
        (patient,) = group_by_patient([decided("in/x.jpg", 0.1), decided("y.png", 0.2)], table)
        self.assertEqual((patient.patient, patient.missing), ("anna", ()))
        with self.assertRaisesRegex(UserError, "has no row for z.jpg"):
            group_by_patient([decided("z.jpg", 0.1)], table)

    def test_columns_and_eyes_are_parsed(self):
        table = self.read("\ufeffimage,eye,patient,more\na.jpg,OD,p1,x\nb.jpg,,p2,y\n")
        self.assertEqual(table, {"a.jpg": PatientRow("p1", "right"), "b.jpg": PatientRow("p2", "")})

    def test_age_and_sex_of_a_pair(self):
        table = self.read("image,patient,eye,age,sex\na,1,left,54,F\nb,1,right,54,f\nc,2,left,,\nd,3,left,0.5,Male\n")
        cases = pairs([pathlib.Path(f"{name}.jpg") for name in "abcd"], table)
        self.assertEqual([(case.age, case.sex) for case in cases], [(54, "female"), (None, ""), (0.5, "male")])
        self.assertEqual(cases[0].patient_values(), {"age": 54, "sex": 0})
        self.assertEqual(cases[1].patient_values(), {"age": -1, "sex": -1})
        self.assertEqual(cases[2].patient_values()["sex"], 1)
        (unknown,) = pairs([pathlib.Path("1_left.jpg")])
        self.assertEqual((unknown.age, unknown.sex), (None, ""))

    def test_errors_contain_the_line(self):
        for text, message in {
            "": "needs rows, and the columns image, patient, eye once each",
            "image,eye\na,left\n": "needs rows, and the columns",
            "image,image,patient,eye\na,b,1,left\n": "once each",
            'image,patient,eye\n"a,1,left\n': "unexpected end of data",
            "image,patient,eye\na,1,left\nb,2,upper\n": "line 3",
            "image,patient,eye\na,,left\n": "line 2",
            "image,patient,eye,age\na,1,left,old\n": "line 2: the age is a number of years from 0 to 130, not old",
            "image,patient,eye,age\na,1,left,999\n": "line 2: the age",
            "image,patient,eye,age\na,1,left,-3\n": "line 2: the age",
            "image,patient,eye,sex\na,1,left,x\n": "line 2: the sex is f, m, female, male or empty, not x",
            "image,patient,eye\na,1\n": None,
            "image,patient,eye\na,1,left\na,2,left\n": "another patient, eye, age or sex",
        }.items():
            with self.subTest(text):
                if message is None:
                    self.assertEqual(self.read(text), {"a": PatientRow("1", "")})
                else:
                    with self.assertRaisesRegex(UserError, message):
                        self.read(text)
        with self.assertRaisesRegex(UserError, "^there is no file /nowhere.csv$"):
            read_patient_table("/nowhere.csv")


if __name__ == "__main__":
    unittest.main()
