import dataclasses
import unittest

import numpy as np

from dr_tf.fundus.geometry import Geometry
from dr_tf.inference.decision import Decision, ImageInfo, PatientDecision, grade_name, normalized_entropy
from dr_tf.inference.patients import group_by_patient
from tests.inference.example_decisions import decided, retake

GEOMETRY = Geometry(width=9, height=8, circle=(4.0, 4.0, 3.0), rectangle=(1, 1, 7, 7), padding=(0, 0, 0, 0), size=4)


class NormalizedEntropyTest(unittest.TestCase):
    def test_by_hand(self):
        result = normalized_entropy([[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]])
        np.testing.assert_allclose(result, [0, 1, 0.5], atol=1e-12)

    def test_for_independent_labels_it_is_the_mean(self):
        np.testing.assert_allclose(normalized_entropy([[0.5, 1.0]], exclusive=False), [0.5])


class DecisionTest(unittest.TestCase):
    def test_p_positive_and_threshold_are_those_of_the_positive_definition(self):
        decision = decided("a", 0.25)
        self.assertEqual((decision.p_positive, decision.threshold), (0.25, 0.3))
        self.assertEqual((retake("a").p_positive, retake("a").threshold), (None, None))

    def test_eyes_of_a_pair_without_an_image_are_missing(self):
        left, right = ({eye: ImageInfo("x", 0.9)} for eye in ("left", "right"))
        for images, missing in (
            (left | right, ()),
            (left, ("right",)),
            (right, ("left",)),
            ({"": ImageInfo("x", 0.9)}, ()),
            ({}, ()),  # from records: the images are unknown
        ):
            self.assertEqual(decided("a", 0.1, images=images).missing, missing)

    def test_the_geometry_is_that_of_the_single_image(self):
        self.assertEqual(decided("a", 0.1, images={"": ImageInfo("a", 0.9, geometry=GEOMETRY)}).geometry, GEOMETRY)
        self.assertIsNone(Decision("a", "referable", "retake", gradable=False).geometry)

    def test_the_most_probable_class_of_another_output(self):
        decision = decided("a", 0.1, other_outputs={"edema": {"none": 0.2, "elsewhere": 0.3, "near": 0.5}})
        self.assertEqual((decision.most_probable_class("edema"), decision.most_probable_class("grade")), (2, None))

    def test_severity_key_sorts_the_worse_eye_last(self):
        order = [
            decided("a", 0.1),
            decided("b", 0.2),
            retake("c"),
            decided("d", 0.3, grade=1),
            decided("e", 0.3, grade=2),
        ]
        self.assertEqual(sorted((order[i] for i in (3, 0, 4, 1, 2)), key=lambda d: d.severity_key), order)
        self.assertEqual(PatientDecision("p", (("", order[0]), ("", order[1]))).worse_decision, order[1])

    def test_grades_have_names(self):
        self.assertEqual((grade_name(0), grade_name(4), grade_name(None)), ("no DR", "proliferative DR", ""))


class PatientTest(unittest.TestCase):
    def one(self, *decisions, table=None):
        (patient,) = group_by_patient(decisions, table)
        return patient

    def test_the_worse_eye_decides(self):
        patient = self.one(decided("1_left.jpg", 0.1, grade=0), decided("1_right.jpg", 0.7, grade=3))
        self.assertEqual((patient.action, patient.p_positive, patient.grade), ("refer", 0.7, 3))
        self.assertEqual((patient.worse_decision.case, patient.remark), ("1_right.jpg", ""))

    def test_a_missing_eye_is_reported(self):
        patient = self.one(decided("1_left.jpg", 0.1))
        self.assertEqual((patient.action, patient.missing), ("clear", ("right",)))
        self.assertEqual(patient.remark, "no photograph of the right eye")

    def test_a_patient_with_an_ungradable_eye_is_not_cleared(self):
        patient = self.one(decided("1_left.jpg", 0.1), retake("1_right.jpg"))
        self.assertEqual((patient.action, patient.ungradable_eyes), ("retake", ("right",)))
        self.assertEqual(patient.remark, "retake the photograph of the right eye")

    def test_an_ungradable_image_is_ignored_if_the_eye_has_a_gradable_one(self):
        patient = self.one(decided("1_l1.jpg", 0.1), retake("1_l2.jpg"), decided("1_r1.jpg", 0.2))
        self.assertEqual((patient.ungradable_eyes, patient.action), ((), "clear"))
        unknown = PatientDecision("1", (("", decided("a", 0.1)), ("", retake("b"))))
        self.assertEqual(unknown.action, "retake")

    def test_ungradable_images_do_not_count_in_p_positive(self):
        dark = dataclasses.replace(decided("1_right.jpg", 0.9), action="retake", gradable=False, reason="too dark")
        patient = self.one(decided("1_left.jpg", 0.1), dark)
        self.assertEqual((patient.action, patient.p_positive), ("retake", 0.1))
        self.assertIsNone(self.one(dark).p_positive)

    def test_a_positive_eye_is_referred_even_if_the_other_is_ungradable(self):
        self.assertEqual(self.one(retake("1_left.jpg"), decided("1_right.jpg", 0.9)).action, "refer")

    def test_the_most_probable_class_of_another_output_is_the_worse_eyes(self):
        def eye(case, near):
            return decided(case, 0.1, other_outputs={"edema": {"none": 1 - near, "near": near}})

        patient = self.one(eye("1_left.jpg", 0.8), eye("1_right.jpg", 0.1))
        self.assertEqual((patient.most_probable_class("edema"), patient.most_probable_class("lesions")), (1, None))
        self.assertEqual(self.one(retake("1_left.jpg"), eye("1_right.jpg", 0.1)).most_probable_class("edema"), 0)

    def test_no_eye_is_missing_if_the_eye_of_an_image_is_unknown(self):
        self.assertEqual(self.one(decided("scan.jpg", 0.1)).missing, ())

    def test_a_decision_on_both_eyes_at_once_may_differ_from_the_worse_of_two_decisions(self):
        """A network that takes both eyes may refer a patient whose eyes are both cleared one by one."""
        both = {eye: ImageInfo(f"1_{eye}.jpg", 0.9) for eye in ("left", "right")}
        together = decided("1", 0.4, images=both)
        each = self.one(decided("1_left.jpg", 0.2), decided("1_right.jpg", 0.2))
        self.assertEqual((together.action, each.action), ("refer", "clear"))
        self.assertEqual((together.missing, each.missing), ((), ()))


if __name__ == "__main__":
    unittest.main()
