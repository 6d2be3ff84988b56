import csv
import dataclasses
import json
import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.geometry import Geometry
from dr_tf.inference.decision import Decision, PatientDecision, uncertainty, unusable
from dr_tf.inference.formats import FORMATS
from dr_tf.inference.patients import by_name, by_patient, read_table

CLASSES = ("no DR", "DR")
GEOMETRY = Geometry(width=9, height=8, circle=(4.0, 4.0, 3.0), rectangle=(1, 1, 7, 7), padding=(0, 0, 0, 0), size=4)


def decided(photograph, p, *, grade=None, threshold=0.3, **others):
    return Decision(
        photograph=photograph,
        positive="referable",
        action="refer" if p >= threshold else "clear",
        gradable=True,
        grade=grade,
        p_positive=p,
        threshold=threshold,
        probabilities=dict(zip(CLASSES, (1 - p, p), strict=True)),
        **others,
    )


def retake(photograph):
    return unusable(photograph, "referable", "out of focus")


class UncertaintyTest(unittest.TestCase):
    def test_by_hand(self):
        found = uncertainty([[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]])
        np.testing.assert_allclose(found, [0, 1, 0.5], atol=1e-12)

    def test_of_labels_it_is_the_mean(self):
        np.testing.assert_allclose(uncertainty([[0.5, 1.0]], exclusive=False), [0.5])


class NameTest(unittest.TestCase):
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
                self.assertEqual(by_name(name), expected)


class PatientTest(unittest.TestCase):
    def one(self, *decisions, table=None):
        (patient,) = by_patient(decisions, table)
        return patient

    def test_the_worse_eye_decides(self):
        patient = self.one(decided("1_left.jpg", 0.1, grade=0), decided("1_right.jpg", 0.7, grade=3))
        self.assertEqual((patient.action, patient.p_positive, patient.grade), ("refer", 0.7, 3))
        self.assertEqual((patient.worse.photograph, patient.remark), ("1_right.jpg", ""))

    def test_a_missing_eye_is_said(self):
        patient = self.one(decided("1_left.jpg", 0.1))
        self.assertEqual((patient.action, patient.missing), ("clear", ("right",)))
        self.assertEqual(patient.remark, "no photograph of the right eye")

    def test_an_eye_that_nobody_could_judge_is_not_cleared(self):
        patient = self.one(decided("1_left.jpg", 0.1), retake("1_right.jpg"))
        self.assertEqual((patient.action, patient.unjudged), ("retake", ("right",)))
        self.assertEqual(patient.remark, "the right eye has to be taken again")

    def test_a_second_photograph_of_the_eye_makes_up_for_a_bad_one(self):
        patient = self.one(decided("1_l1.jpg", 0.1), retake("1_l2.jpg"), decided("1_r1.jpg", 0.2))
        self.assertEqual((patient.unjudged, patient.action), ((), "clear"))
        unknown = PatientDecision("1", (("", decided("a", 0.1)), ("", retake("b"))))
        self.assertEqual(unknown.action, "retake")

    def test_what_could_not_be_graded_has_no_say_in_p_positive(self):
        dark = dataclasses.replace(decided("1_right.jpg", 0.9), action="retake", gradable=False, reason="too dark")
        patient = self.one(decided("1_left.jpg", 0.1), dark)
        self.assertEqual((patient.action, patient.p_positive), ("retake", 0.1))
        self.assertIsNone(self.one(dark).p_positive)

    def test_a_diseased_eye_is_referred_whatever_the_other(self):
        self.assertEqual(self.one(retake("1_left.jpg"), decided("1_right.jpg", 0.9)).action, "refer")

    def test_nothing_is_missing_where_names_do_not_say_whose_eye_it_is(self):
        self.assertEqual(self.one(decided("scan.jpg", 0.1)).missing, ())

    def test_equal_names_in_two_folders_are_two_patients(self):
        self.assertEqual(len(by_patient([decided("a/1_left.jpg", 0.1), decided("b/1_left.jpg", 0.1)])), 2)

    def test_by_a_table(self):
        table = {"x.jpg": ("anna", "left"), "y": ("anna", "right")}
        patient = self.one(decided("in/x.jpg", 0.1), decided("y.png", 0.2), table=table)
        self.assertEqual((patient.patient, patient.missing), ("anna", ()))
        with self.assertRaisesRegex(UserError, "does not name z.jpg"):
            self.one(decided("z.jpg", 0.1), table=table)


class TableTest(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "eyes.csv"
            path.write_text(text, encoding="utf-8")
            return read_table(path)

    def test_it_is_read(self):
        table = self.read("\ufeffimage,eye,patient,more\na.jpg,OD,p1,x\nb.jpg,,p2,y\n")
        self.assertEqual(table, {"a.jpg": ("p1", "right"), "b.jpg": ("p2", "")})

    def test_mistakes_are_named_with_their_line(self):
        for text, said in {
            "": "needs rows and the columns image, patient, eye",
            "image,eye\na,left\n": "needs rows and the columns",
            "image,patient,eye\na,1,left\nb,2,upper\n": "line 3",
            "image,patient,eye\na,,left\n": "line 2",
            "image,patient,eye\na,1\n": None,
            "image,patient,eye\na,1,left\na,2,left\n": "somebody else's",
        }.items():
            with self.subTest(text):
                if said is None:
                    self.assertEqual(self.read(text), {"a": ("1", "")})
                else:
                    with self.assertRaisesRegex(UserError, said):
                        self.read(text)
        with self.assertRaisesRegex(UserError, "no table that can be read"):
            read_table("/nowhere.csv")


class FormatTest(unittest.TestCase):
    def setUp(self):
        self.decisions = [
            decided("a, b.jpg", 0.875, grade=3, uncertainty=0.5, geometry=GEOMETRY),
            retake("1_left.jpg"),
        ]

    def lines(self, name, decisions=None):
        return list(FORMATS[name](self.decisions if decisions is None else decisions, CLASSES))

    def test_json_lines(self):
        first, second = (json.loads(line) for line in self.lines("json"))
        self.assertEqual((first["grade"], first["p_positive"], first["action"]), (3, 0.875, "refer"))
        self.assertEqual(first["probabilities"], {"no DR": 0.125, "DR": 0.875})
        self.assertEqual(first["geometry"]["rectangle"], [1, 1, 7, 7])
        self.assertEqual((second["grade"], second["p_positive"], second["reason"]), (None, None, "out of focus"))

    def test_csv(self):
        first, second = csv.DictReader(self.lines("csv"))
        self.assertEqual((first["photograph"], first["p_positive"], first["p(DR)"]), ("a, b.jpg", "0.875", "0.875"))
        self.assertEqual((second["grade"], second["p(DR)"], second["gradable"]), ("", "", "False"))

    def test_table(self):
        header, first, second = self.lines("table")
        self.assertRegex(header, r"^action +p\(referable\) +grade +of$")
        self.assertRegex(first, r"^refer +0\.875 +3 severe NPDR +a, b\.jpg$")
        self.assertRegex(second, r"^retake +- +- +1_left\.jpg: out of focus$")

    def test_patients_in_every_format(self):
        patients = by_patient(
            [decided("1_left.jpg", 0.1, grade=0), decided("2_left.jpg", 0.4), decided("2_right.jpg", 0.1)]
        )
        self.assertRegex(
            self.lines("table", patients)[1], r"^clear +0\.100 +0 no DR +1: no photograph of the right eye$"
        )
        self.assertEqual(json.loads(self.lines("json", patients)[0])["missing"], ["right"])
        rows = list(csv.DictReader(self.lines("csv", patients)))
        self.assertEqual([row["photographs"] for row in rows], ["1_left.jpg", "2_left.jpg 2_right.jpg"])

    def test_the_risk_of_edema_where_the_run_tells_it(self):
        shares = {"no DME": 0.25, "DME elsewhere": 0.0, "DME near the fovea": 0.75}
        told = decided("1_left.jpg", 0.875, grade=3, dme=2, dme_probabilities=shares)
        dark = dataclasses.replace(retake("1_right.jpg"), dme_probabilities={})
        header, first, second = self.lines("table", [told, dark])
        self.assertRegex(header, r"  grade +macular edema +of$")
        self.assertRegex(first, r"  3 severe NPDR +2 DME near the fovea +1_left\.jpg$")
        self.assertEqual(
            (header.index("of"), second[second.index("1_right") :]), (first.index("1_"), "1_right.jpg: out of focus")
        )
        first, second = csv.DictReader(self.lines("csv", [dark, told]))
        self.assertEqual((first["dme"], first["p(no DME)"]), ("", ""))
        self.assertEqual((second["dme"], second["p(DME near the fovea)"]), ("2", "0.75"))
        self.assertEqual(json.loads(self.lines("json", [told])[0])["dme_probabilities"], shares)
        patients = by_patient([told, decided("1_right.jpg", 0.1, dme=0, dme_probabilities=shares)])
        self.assertRegex(self.lines("table", patients)[1], r"  2 DME near the fovea +1$")
        self.assertEqual(
            [json.loads(self.lines("json", patients)[0])["dme"], *csv.DictReader(self.lines("csv", patients))][0], 2
        )

    def test_nothing_of_edema_where_the_run_does_not_tell_it(self):
        for name in FORMATS:
            lines = self.lines(name) + self.lines(name, by_patient([decided("1_left.jpg", 0.1)]))
            self.assertNotRegex("".join(lines), "dme|edema|DME")

    def test_a_line_is_there_as_soon_as_its_decision(self):
        def one_and_no_more():
            yield self.decisions[0]
            raise AssertionError("asked for more")

        for name, lines in (("table", 2), ("json", 1), ("csv", 2)):
            printed = FORMATS[name](one_and_no_more(), CLASSES)
            self.assertEqual(len([next(printed) for _ in range(lines)]), lines)

    def test_nothing_gives_nothing(self):
        for name in FORMATS:
            self.assertEqual(self.lines(name, []), [])

    def test_what_is_worse_compares(self):
        order = [
            decided("a", 0.1),
            decided("b", 0.2),
            retake("c"),
            decided("d", 0.3, grade=1),
            decided("e", 0.3, grade=2),
        ]
        self.assertEqual(sorted((order[i] for i in (3, 0, 4, 1, 2)), key=lambda d: d.badness), order)
        self.assertEqual(PatientDecision("p", (("", order[0]), ("", order[1]))).worse, order[1])


if __name__ == "__main__":
    unittest.main()
