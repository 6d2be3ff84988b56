"""The engine answers as `dr_tf predict` does, in words that say what to do, and in reports that carry no markup of names."""

import concurrent.futures
import csv
import io
import json
import re
import unittest

import numpy as np
import pytest

import dr_tf
from dr_tf.app.engine import Answer, PatientAnswer, open_engine
from dr_tf.app.messages import Messages
from dr_tf.app.overlays import map_png, overlaid, scale_colours
from dr_tf.app.report import html_report, make_report
from dr_tf.app.report_pdf import pdf_report
from dr_tf.app.tables import csv_file, json_file, table_rows
from dr_tf.app.uploads import Photograph, group_by_patient
from dr_tf.app.wording import Wording, short_name
from dr_tf.inference.calibration import Calibration
from dr_tf.inference.decision import ImageInfo
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.ready import READY
from dr_tf.inference.rule import Mode, Rule
from dr_tf.models.heads import HEADS
from tests.app.photographs import bomb, sample
from tests.inference.example_decisions import decided, retake

SECONDS = 120


def answers(*photographs):
    return list(engine().answers(cases(*photographs), seconds=SECONDS))


def cases(*photographs):
    return group_by_patient([Photograph(*one) for one in photographs], paired=False)


def engine():
    return open_engine(READY)


def wording(language="en", prevalence=0.1):
    return Wording(Messages(language), engine().predictor.rule, prevalence)


def of_decision(*decisions):
    return PatientAnswer("12", tuple((eye, Answer(one)) for eye, one in decisions))


class EngineTest(unittest.TestCase):
    def test_the_answer_is_that_of_predict(self):
        [answer] = answers(("a.jpg", sample("moderate")))
        [decision] = dr_tf.load("ready").predict([sample("moderate")])
        self.assertAlmostEqual(answer.decision.p_positive, decision.p_positive, places=5)
        self.assertEqual((answer.decision.action, answer.decision.grade), (decision.action, decision.grade))

    def test_the_samples_show_each_action(self):
        names = ("no_retinopathy", "moderate", "proliferative", "not_gradable")
        decided = [answers((name, sample(name)))[0].decision for name in names]
        self.assertEqual([one.action for one in decided], ["clear", "refer", "refer", "retake"])

    def test_a_photograph_that_cannot_be_graded_has_a_picture_and_no_map(self):
        [(_, answer)] = answers(("a.jpg", sample("not_gradable")))[0].answers
        self.assertEqual((list(answer.pictures), answer.maps), ([""], {}))

    def test_broken_files_get_a_reason(self):
        broken = {"cut.jpg": sample("moderate")[:9000], "text.jpg": b"hello", "empty.jpg": b"", "bomb.png": bomb()}
        for answer in answers(*broken.items()):
            self.assertEqual(answer.decision.action, "retake")
            self.assertTrue(answer.decision.reason)

    def test_ten_visitors_at_once_get_their_own_answers(self):
        names = ["no_retinopathy", "moderate", "proliferative", "not_gradable"] * 3
        alone = {name: answers((name, sample(name)))[0].decision for name in set(names)}
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            together = pool.map(lambda name: answers((name, sample(name)))[0].decision, names)
        for name, decision in zip(names, together, strict=True):
            self.assertEqual((decision.case, decision.action), (name, alone[name].action))
            self.assertEqual(decision.p_positive is None, alone[name].p_positive is None)
            self.assertAlmostEqual(decision.p_positive or 0, alone[name].p_positive or 0, places=5)

    def test_the_time_of_an_upload_ends(self):
        with self.assertRaises(TimeoutError):
            list(engine().answers(cases(("a.jpg", sample("moderate"))), seconds=0))

    def test_an_export_offers_maps_without_gradients(self):
        self.assertEqual(engine().methods, ("cam", "occlusion"))
        self.assertEqual(engine().targets[0], "positive")


class WordingTest(unittest.TestCase):
    def test_each_reason_has_its_advice(self):
        english = Messages()
        for part, key in {"too dark": "dark", "only 40 % of the field is visible": "field", "hazy: low contrast": "hazy",
                          "no retina found: nothing on it is round": "no_retina"}.items():  # fmt: skip
            decision = retake("a.jpg", images={"": ImageInfo("a.jpg", 0.2, part)}, reason=part)
            self.assertEqual(wording().decision(decision, "").advice, (english(f"advice.{key}"),))
        unlike = retake("a.jpg", images={}, reason="out of distribution: unlike the training photographs")
        self.assertIn("Have a person grade it", wording().decision(unlike, "").advice[0])

    def test_the_prevalence_changes_the_expectation_and_not_the_action(self):
        decision = answers(("a.jpg", sample("no_retinopathy")))[0].decision
        own = engine().predictor.rule.prevalence
        self.assertAlmostEqual(wording(prevalence=own).probability_here(decision), decision.p_positive, places=6)
        shares = [wording(prevalence=p).probability_here(decision) for p in (0.01, 0.1, 0.5)]
        self.assertEqual(shares, sorted(shares))
        self.assertEqual(wording(prevalence=0.5).decision(decision, "").action, "clear")

    def test_the_worse_eye_speaks_for_the_patient(self):
        both = answers(("12_left.jpg", sample("moderate")), ("12_right.jpg", sample("no_retinopathy")))
        summary = wording().patient(both[0])
        self.assertEqual((summary.word, summary.title), ("Refer", "Patient 12"))
        self.assertIn("worse eye", summary.basis)

    def test_an_eye_that_is_missing_or_not_gradable_is_named(self):
        left = of_decision(("left", decided("l.jpg", 0.1)), ("right", retake("r.jpg")))
        self.assertIn("Retake the photograph of the right eye.", wording().patient(left).advice)

    def test_long_and_wild_names_are_shortened_and_escaped(self):
        self.assertEqual(short_name("../folder/a\nb.jpg"), "a\\x0ab.jpg")
        self.assertLessEqual(len(short_name("x" * 300)), 60)

    def test_every_label_of_a_multi_label_model_is_a_finding(self):
        head = HEADS["multi_label"]()
        prior = tuple([0.2] * len(head.classes))
        point = OperatingPoint(0.5, False, "")
        mode = Mode(Calibration(head.link), prior, {name: {"half": point} for name in head.definitions})
        rule = Rule({"labels": head}, "labels", prior, "uniform", "half", {"plain": mode})
        [decision] = rule.decide(np.full((1, 8), 1.0), cases=["12"], images=[{"left": ImageInfo("l.jpg", 0.9)}])
        words = Wording(Messages(), rule, 0.1)
        summary = words.patient(of_decision(("", decision)))
        [chart] = summary.charts
        self.assertEqual([bar.name for bar in chart.bars][:3], ["Normal fundus", "Diabetic retinopathy", "Glaucoma"])
        self.assertTrue(all(bar.is_chosen for bar in chart.bars))
        self.assertIn("There is no photograph of the right eye.", summary.advice)
        self.assertIn("both eyes", summary.basis)
        self.assertEqual(words.class_name("G"), "Glaucoma")

    def test_the_eye_of_a_pair_that_cannot_be_graded_is_named(self):
        images = {"left": ImageInfo("l.jpg", 0.9), "right": ImageInfo("r.jpg", 0.1, "too dark")}
        advice = wording().patient(of_decision(("", retake("12", images=images, reason="right eye: too dark")))).advice
        self.assertTrue(advice[0].startswith("Right eye: It is too dark"))


class PairsTest(unittest.TestCase):
    @pytest.mark.slow
    def test_a_model_of_both_eyes_decides_on_the_pair(self):
        from tests import tiny_pairs

        both = open_engine(tiny_pairs.run_dir())
        self.assertTrue(both.paired)
        self.assertNotIn("attention_rollout", both.methods)
        files = ("12_left.jpg", "moderate"), ("12_right.jpg", "no_retinopathy"), ("x.jpg", "moderate")
        photographs = [Photograph(name, sample(data)) for name, data in files]
        pair, alone = both.answers(group_by_patient(photographs, paired=True), seconds=SECONDS)
        self.assertEqual((list(pair.decision.images), alone.decision), (["left", "right"], None))
        report = make_report(pair, both, Wording(Messages(), both.predictor.rule, 0.1))
        self.assertIn("Left eye", report.eyes[0].pictures[0].title)
        self.assertTrue(pdf_report(report).startswith(b"%PDF"))


class ReportTest(unittest.TestCase):
    def report(self, *photographs, language="en"):
        return make_report(answers(*photographs)[0], engine(), wording(language))

    def test_the_page_carries_the_decision_the_model_and_the_caution(self):
        page = html_report(self.report(("12_left.jpg", sample("moderate")), ("12_right.jpg", sample("no_retinopathy"))))
        for text in (b"Refer", b"Patient 12", b"IDRiD", b"Research software", b"Operating point", b"Left eye: Refer"):
            self.assertIn(text, page)
        self.assertNotIn(b"<script", page)
        self.assertNotRegex(page, rb'(?:src|href)="?https?:')

    def test_the_german_page_is_german(self):
        page = html_report(self.report(("a.jpg", sample("moderate")), language="de")).decode()
        self.assertIn('<html lang="de">', page)
        self.assertIn("Überweisen", page)
        self.assertNotIn("Made by", page)

    def test_a_name_is_no_markup(self):
        page = html_report(self.report(("<img src=x onerror=alert(1)>.jpg", sample("moderate"))))
        self.assertNotIn(b"<img src=x", page)

    def test_the_pdf_says_the_same_words(self):
        pdf = pdf_report(self.report(("a.jpg", sample("moderate"))))
        self.assertTrue(pdf.startswith(b"%PDF"))
        self.assertEqual(len(re.findall(rb"/Type /Page\b", pdf)), 1)


class TablesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        files = ("=cmd().jpg", b"hello"), ("12_left.jpg", sample("moderate")), ("12_right.jpg", sample("not_gradable"))
        cls.answers = answers(*files)

    def test_no_cell_is_a_formula(self):
        text = csv_file(self.answers, engine().predictor.rule).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        self.assertEqual([row["case"] for row in rows], ["'=cmd().jpg", "12_left.jpg", "12_right.jpg"])
        self.assertEqual([row["action"] for row in rows], ["retake", "refer", "retake"])

    def test_json_has_patients_and_their_photographs(self):
        first, second = json.loads(json_file(self.answers))
        self.assertEqual(first["decision"]["action"], "retake")
        self.assertEqual([one["eye"] for one in second["photographs"]], ["left", "right"])

    def test_rows_have_numbers_that_sort_and_errors_by_name(self):
        broken, patient = table_rows(self.answers, wording())
        self.assertIn("cannot be used", broken["remark"])
        self.assertEqual((patient["action"], patient["grade"]), ("Refer", 2))
        self.assertGreater(patient["probability"], 99)


class OverlayTest(unittest.TestCase):
    def test_the_map_lies_over_the_photograph_and_is_transparent_without_evidence(self):
        import cv2

        [(_, answer)] = answers(("a.jpg", sample("moderate")))[0].answers
        geometry, photograph = answer.decision.images[""].geometry, answer.pictures[""]
        picture = cv2.imdecode(
            np.frombuffer(map_png(answer.maps[""], geometry, photograph), np.uint8), cv2.IMREAD_UNCHANGED
        )
        drawn = cv2.imdecode(np.frombuffer(overlaid(answer.maps[""], geometry, photograph), np.uint8), cv2.IMREAD_COLOR)
        self.assertEqual(picture.shape[:2], drawn.shape[:2])
        self.assertGreater(picture[..., 3].max(), 200)
        empty = map_png(np.zeros((13, 13)), geometry, photograph)
        self.assertEqual(cv2.imdecode(np.frombuffer(empty, np.uint8), cv2.IMREAD_UNCHANGED)[..., 3].max(), 0)

    def test_the_scale_begins_transparent(self):
        self.assertTrue(scale_colours()[0].endswith("0.00)"))
        self.assertTrue(scale_colours()[-1].endswith("1.00)"))


if __name__ == "__main__":
    unittest.main()
