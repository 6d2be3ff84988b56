"""Uploads are grouped by patient, and the names of files are never opened."""

import unittest
from unittest import mock

import numpy as np

from dr_tf.app.limits import Limits
from dr_tf.app.messages import Messages
from dr_tf.app.uploads import Photograph, group_by_patient
from dr_tf.console import is_installed


def grouped(*names, paired=False):
    photographs = [Photograph(name, name.encode()) for name in names]
    return group_by_patient(photographs, paired=paired)


def eyes(patient):
    return [eye for eye, _ in patient.cases]


class GroupTest(unittest.TestCase):
    def test_both_eyes_are_one_patient_and_the_left_one_comes_first(self):
        [patient, other] = grouped("12_right.jpg", "12_left.jpg", "13_left.jpg")
        self.assertEqual((patient.patient, eyes(patient)), ("12", ["left", "right"]))
        self.assertEqual((other.patient, eyes(other)), ("13", ["left"]))

    def test_equal_names_in_two_folders_are_two_patients(self):
        self.assertEqual(len(grouped("a/12_left.jpg", "b/12_right.jpg")), 2)

    def test_a_name_without_an_eye_is_a_patient_by_itself(self):
        [patient] = grouped("photograph.jpg")
        self.assertEqual((patient.patient, eyes(patient)), ("photograph", [""]))

    def test_a_model_of_both_eyes_gets_a_pair_and_names_what_it_cannot_take(self):
        [patient] = grouped("12_right.jpg", "12_left.jpg", "12_left_2.jpg", paired=True)
        [(_, case)] = patient.cases
        self.assertEqual(case.images, {"left": (b"12_left.jpg",), "right": (b"12_right.jpg",)})
        self.assertEqual(patient.unused, ("12_left_2.jpg",))
        [alone] = grouped("photograph.jpg", paired=True)
        self.assertEqual((alone.cases, alone.unused), ((), ("photograph.jpg",)))

    @unittest.skipUnless(is_installed("pydicom"), "pydicom is not installed")
    def test_the_eye_of_a_dicom_file_is_that_of_its_header(self):
        from tests.fundus import dicom_files

        pixels = np.zeros((8, 8, 3), np.uint8)
        photographs = [
            Photograph(f"{name}_left.dcm", dicom_files.native(pixels, ImageLaterality=eye))
            for name, eye in ("aR", "bL")
        ]
        [patient] = group_by_patient(photographs, paired=False)
        self.assertEqual(
            [(eye, case.name) for eye, case in patient.cases], [("left", "b_left.dcm"), ("right", "a_left.dcm")]
        )
        self.assertNotIn("SECRET", repr(patient.patient))

    @unittest.skipUnless(is_installed("pydicom"), "pydicom is not installed")
    def test_a_dicom_file_with_frames_of_both_eyes_is_two_photographs(self):
        from tests.fundus import dicom_files

        frames = np.zeros((2, 8, 8, 3), np.uint8)
        groups = dicom_files.frame_groups("R", "L")
        data = dicom_files.native(frames, ImageLaterality=None, PerFrameFunctionalGroupsSequence=groups)
        [patient] = group_by_patient([Photograph("a.dcm", data)], paired=False)
        shown = [(eye, case.images[""][0].numbers) for eye, case in patient.cases]
        self.assertEqual(shown, [("left", (2,)), ("right", (1,))])
        [patient] = group_by_patient([Photograph("a.dcm", data)], paired=True)
        self.assertEqual({eye: image.numbers for eye, [image] in patient.cases[0][1].images.items()}, dict(shown))

    def test_a_file_of_the_server_is_not_opened_by_its_name(self):
        with mock.patch("builtins.open", side_effect=AssertionError):
            [patient] = grouped("/etc/passwd")
        self.assertEqual(patient.cases[0][1].images, {"": (b"/etc/passwd",)})


class LimitsTest(unittest.TestCase):
    limits, messages = Limits(file_mb=1, files=2, total_mb=1), Messages()

    def test_each_limit_refuses_in_one_sentence(self):
        mb = 1024**2
        self.assertEqual(self.limits.problem([10, 10], self.messages), "")
        self.assertIn("3 files", self.limits.problem([1, 1, 1], self.messages))
        self.assertIn("over 1 MB", self.limits.problem([mb + 1], self.messages))
        self.assertIn("together", self.limits.problem([mb, mb], self.messages))

    def test_the_announcement_names_every_limit(self):
        announced = Limits().announcement(self.messages)
        for number in ("100 files", "40 MB", "200 megapixels", "400 MB", "10 minutes"):
            self.assertIn(number, announced)


if __name__ == "__main__":
    unittest.main()
