import csv
import json
import types
import unittest

from dr_tf.fundus.geometry import Geometry
from dr_tf.inference.decision import Decision, ImageInfo, LabelDecision
from dr_tf.inference.formats import FORMATS, as_dict
from dr_tf.inference.patients import group_by_patient
from tests.inference import heads
from tests.inference.example_decisions import CLASSES, decided, retake

GEOMETRY = Geometry(width=9, height=8, circle=(4.0, 4.0, 3.0), rectangle=(1, 1, 7, 7), padding=(0, 0, 0, 0), size=4)
RISKS = {"none": 0.25, "elsewhere": 0.0, "near": 0.75}
DECISIONS = [
    decided("a, b.jpg", 0.875, grade=3, uncertainty=0.5, images={"": ImageInfo("a, b.jpg", 0.9, geometry=GEOMETRY)}),
    retake("1_left.jpg"),
]


def rule_of(head, **others):
    """The attributes of a rule that formats read."""
    return types.SimpleNamespace(head=head, heads={"main": head, **others}, other_outputs=others, modes={})


RULE = rule_of(heads.Binary(CLASSES))


def lines(name, decisions=DECISIONS, rule=RULE):
    return list(FORMATS[name](decisions, rule))


def rows(decisions, rule=RULE):
    return list(csv.DictReader(lines("csv", decisions, rule)))


class FormatTest(unittest.TestCase):
    def test_json_lines(self):
        first, second = (json.loads(line) for line in lines("json"))
        self.assertEqual((first["grade"], first["p_positive"], first["action"]), (3, 0.875, "refer"))
        self.assertEqual(first["probabilities"], {"no DR": 0.125, "DR": 0.875})
        self.assertEqual(first["label_decisions"], {"referable": {"probability": 0.875, "threshold": 0.3, "yes": True}})
        (image,) = first["images"]
        self.assertEqual((image["eye"], image["photograph"], image["gradability"]), ("", "a, b.jpg", 0.9))
        self.assertEqual(image["geometry"]["rectangle"], [1, 1, 7, 7])
        self.assertEqual((second["grade"], second["p_positive"], second["reason"]), (None, None, "out of focus"))
        self.assertEqual((second["label_decisions"], second["missing"]), ({}, []))

    def test_csv(self):
        first, second = rows(DECISIONS)
        self.assertEqual((first["case"], first["p_positive"], first["p(DR)"]), ("a, b.jpg", "0.875", "0.875"))
        self.assertEqual((second["grade"], second["p(DR)"], second["gradable"]), ("", "", "False"))

    def test_the_header_does_not_depend_on_the_first_decision(self):
        edema = rule_of(heads.Binary(CLASSES), edema=heads.Edema())
        for rule in (RULE, edema, rule_of(heads.MultiLabel())):
            there, back = (lines("csv", order, rule) for order in (DECISIONS, DECISIONS[::-1]))
            self.assertEqual(there[0], back[0])
            self.assertEqual(sorted(there), sorted(back))

    def test_table(self):
        header, first, second = lines("table")
        self.assertRegex(header, r"^action +p\(referable\) +grade +case$")
        self.assertRegex(first, r"^refer +0\.875 +3 severe NPDR +a, b\.jpg$")
        self.assertRegex(second, r"^retake +- +- +1_left\.jpg: out of focus$")

    def test_patients_in_every_format(self):
        patients = group_by_patient(
            [decided("1_left.jpg", 0.1, grade=0), decided("2_left.jpg", 0.4), decided("2_right.jpg", 0.1)]
        )
        self.assertRegex(lines("table", patients)[1], r"^clear +0\.100 +0 no DR +1: no photograph of the right eye$")
        first, second = (json.loads(line) for line in lines("json", patients))
        self.assertEqual((first["missing"], second["threshold"]), (["right"], 0.3))
        self.assertEqual(
            second["photographs"],
            [
                {"photograph": "2_left.jpg", "eye": "left", "action": "refer"},
                {"photograph": "2_right.jpg", "eye": "right", "action": "clear"},
            ],
        )
        self.assertEqual([row["photographs"] for row in rows(patients)], ["1_left.jpg", "2_left.jpg 2_right.jpg"])

    def test_lines_are_yielded_as_soon_as_their_decision_is_made(self):
        def only_one():
            yield DECISIONS[0]
            raise AssertionError("took a second decision")

        for name, number in (("table", 2), ("json", 1), ("csv", 2)):
            printed = FORMATS[name](only_one(), RULE)
            self.assertEqual(len([next(printed) for _ in range(number)]), number)

    def test_no_decisions_give_no_lines(self):
        for name in FORMATS:
            self.assertEqual(lines(name, []), [])


class OtherOutputsTest(unittest.TestCase):
    """The risk of edema, an output beside the one that decides."""

    rule = rule_of(heads.Binary(CLASSES), edema=heads.Edema())
    told = decided("1_left.jpg", 0.875, grade=3, other_outputs={"edema": RISKS})
    dark = retake("1_right.jpg")

    def test_table(self):
        header, first, second = lines("table", [self.told, self.dark], self.rule)
        self.assertRegex(header, r"  grade +edema +case$")
        self.assertRegex(first, r"  3 severe NPDR +2 near +1_left\.jpg$")
        self.assertEqual(header.index("case"), first.index("1_"))
        self.assertEqual(second[first.index("1_") :], "1_right.jpg: out of focus")

    def test_csv(self):
        first, second = rows([self.dark, self.told], self.rule)
        self.assertEqual((first["class(edema)"], first["p(edema: none)"]), ("", ""))
        self.assertEqual((second["class(edema)"], second["p(edema: near)"]), ("2", "0.75"))

    def test_json(self):
        self.assertEqual(json.loads(lines("json", [self.told], self.rule)[0])["other_outputs"], {"edema": RISKS})

    def test_patients(self):
        patients = group_by_patient(
            [self.told, decided("1_right.jpg", 0.1, other_outputs={"edema": {**RISKS, "none": 1.0}})]
        )
        self.assertRegex(lines("table", patients, self.rule)[1], r"  2 near +1$")
        self.assertEqual(json.loads(lines("json", patients, self.rule)[0])["other_outputs"], {"edema": 2})
        self.assertEqual(rows(patients, self.rule)[0]["class(edema)"], "2")

    def test_if_the_worse_eye_is_ungradable_the_other_eye_gives_the_output(self):
        (patient,) = group_by_patient([decided("1_left.jpg", 0.1, other_outputs={"edema": RISKS}), self.dark])
        self.assertEqual((patient.action, as_dict(patient)["other_outputs"]), ("retake", {"edema": 2}))

    def test_a_run_without_the_output_has_no_columns_for_it(self):
        for name in FORMATS:
            result = lines(name) + lines(name, group_by_patient([decided("1_left.jpg", 0.1)]))
            self.assertNotRegex("".join(result), "edema|near")

    def test_an_output_named_like_a_column_does_not_replace_it(self):
        rule = rule_of(heads.Binary(CLASSES), grade=heads.Binary(CLASSES))
        (row,) = rows([decided("a", 0.875, grade=3, other_outputs={"grade": {"no DR": 1.0, "DR": 0.0}})], rule)
        self.assertEqual((row["grade"], row["class(grade)"]), ("3", "0"))
        self.assertEqual((row["p(DR)"], row["p(grade: DR)"]), ("0.875", "0.0"))


class LabelsTest(unittest.TestCase):
    rule = rule_of(heads.MultiLabel())

    def setUp(self):
        answers = {
            "odir_N": LabelDecision(0.125, 0.5, yes=False),
            "odir_D": LabelDecision(0.75, 0.5, yes=True),
            "odir_G": LabelDecision(0.25, 0.2, yes=True),
        }
        probabilities = {"N": 0.125, "D": 0.75, "G": 0.25}
        self.both = {eye: ImageInfo(f"12_{eye}.jpg", 0.9) for eye in ("left", "right")}
        self.made = Decision(
            "12",
            "odir_D",
            "refer",
            gradable=True,
            label_decisions=answers,
            probabilities=probabilities,
            images=self.both,
        )
        self.dark = Decision("13", "odir_D", "retake", gradable=False, reason="left eye: too dark")

    def test_csv_has_a_probability_and_a_decision_for_each_label(self):
        first, second = rows([self.made, self.dark], self.rule)
        self.assertEqual([first[f"p({label})"] for label in "NDG"], ["0.125", "0.75", "0.25"])
        self.assertEqual([first[f"odir_{label}"] for label in "NDG"], ["False", "True", "True"])
        self.assertEqual((first["p_positive"], first["threshold"], first["grade"]), ("0.75", "0.5", ""))
        self.assertEqual([second[f"odir_{label}"] for label in "NDG"], ["", "", ""])

    def test_a_single_definition_has_no_column_of_its_own(self):
        self.assertNotIn("referable", rows(DECISIONS)[0])

    def test_table_lists_the_positive_labels(self):
        header, first, second = lines("table", [self.made, self.dark], self.rule)
        self.assertRegex(header, r"^action +p\(odir_D\) +grade +case$")
        self.assertRegex(first, r"^refer +0\.750 +- +12: odir_D, odir_G$")
        self.assertRegex(second, r"^retake +- +- +13: left eye: too dark$")

    def test_the_missing_eye_of_a_pair_is_reported(self):
        made = Decision(**{**vars(self.made), "images": {"right": self.both["right"]}})
        self.assertRegex(lines("table", [made], self.rule)[1], r"12: odir_D, odir_G; no photograph of the left eye$")
        plain = as_dict(made)
        self.assertEqual((plain["missing"], [image["eye"] for image in plain["images"]]), (["left"], ["right"]))

    def test_as_dict_is_json(self):
        for decision in (self.made, self.dark, *DECISIONS, *group_by_patient(DECISIONS)):
            plain = as_dict(decision)
            again = json.loads(json.dumps(plain, allow_nan=False))
            self.assertEqual(list(again), list(plain))
        self.assertEqual(again["missing"], ["right"])


if __name__ == "__main__":
    unittest.main()
