"""Answers to DICOM photographs: what a reader finds in the structured report and in the PDF, and `dr_tf predict` on DICOM."""

import contextlib
import csv
import importlib.util
import io
import json
import pathlib
import tempfile
import unittest
from unittest import mock

import cv2
import numpy as np
import pytest

from dr_tf.cli import explain, predict
from dr_tf.console import UserError
from dr_tf.inference.case import Frames, pairs
from dr_tf.inference.decision import Decision, ImageInfo, LabelDecision
from dr_tf.inference.patients import PatientRow
from tests import commands
from tests.explain.runs import write_run
from tests.fundus import dicom_files as files
from tests.tfrecords_builder import trees

HAS_HIGHDICOM = importlib.util.find_spec("highdicom") is not None
needs_highdicom = unittest.skipUnless(HAS_HIGHDICOM, "highdicom is not installed: pip install 'dr_tf[dicom]'")
if HAS_HIGHDICOM:
    import highdicom
    import pydicom

    from dr_tf.dicom_reports.answers import Answers
    from dr_tf.dicom_reports.source import Algorithm


def photograph(seed=1, **attributes):
    return files.jpeg(np.ascontiguousarray(trees.photograph(seed)), **attributes)


def both_eyes(**attributes):
    """Three frames: a blurred left eye, a right eye, and the left eye again."""
    left, right = (np.ascontiguousarray(trees.photograph(seed)) for seed in (1, 2))
    groups = files.frame_groups("L", "R", "L")
    frames = [cv2.GaussianBlur(left, None, 4), right, left]
    return files.jpeg_frames(
        frames, **({"ImageLaterality": None, "PerFrameFunctionalGroupsSequence": groups} | attributes)
    )


def decided(images, *, action="refer", grade=2, reason=""):
    labels = {"referable": LabelDecision(0.81, 0.69, True), "vision_threatening": LabelDecision(0.1, 0.5, False)}
    infos = {eye: ImageInfo(str(path), 0.9) for eye, path in images.items()}
    name = str(next(iter(images.values())))
    return Decision(name, "referable", action, not reason, reason, grade, {} if reason else labels, images=infos)


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, data):
        return trees.write(self.folder / name, data)


@needs_highdicom
class AnswersTest(InFolder):
    def answer(self, decision, algorithm=None):
        answers = Answers(self.folder / "sr", self.folder / "pdf")
        told = io.StringIO()
        with contextlib.redirect_stderr(told):
            list(answers.written([decision], algorithm or Algorithm(("trained on: made", "mode: plain"))))
        self.told = told.getvalue()
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.glob("*/*.dcm"))

    def report(self, name):
        """Read a structured report with highdicom, which checks it, and return its measurement group."""
        self.made = highdicom.sr.srread(self.folder / "sr" / name)
        (group,) = self.made.content.get_image_measurement_groups()
        return group

    def test_the_structured_report_says_what_was_decided(self):
        for eye, code in (("L", "71490-7"), ("R", "71491-5")):
            path = self.write(f"IM{eye}", photograph(ImageLaterality=eye))
            self.answer(decided({"": path}))
            group = self.report(f"IM{eye}.sr.dcm")
            evaluations = {e.name.value: e.value.value for e in group.get_qualitative_evaluations()}
            self.assertEqual(evaluations, {"ACTION": "REFER", code: "LA18645-4"})
            values = {m.name.value: m.value for m in group.get_measurements()}
            self.assertEqual(values["P_REFERABLE"], 0.81)
            self.assertEqual(values["T_REFERABLE"], 0.69)
            (site,) = group.finding_sites
            self.assertEqual(site.laterality.meaning, {"L": "Left", "R": "Right"}[eye])
            source = pydicom.dcmread(path)
            (image,) = group.source_images
            self.assertEqual(image.referenced_sop_instance_uid, source.SOPInstanceUID)
            self.assertEqual((self.made.PatientID, self.made.StudyInstanceUID), ("SECRET-ID", source.StudyInstanceUID))
            self.assertNotEqual(self.made.SeriesInstanceUID, source.SeriesInstanceUID)
            self.assertEqual(self.made.VerificationFlag, "UNVERIFIED")
            text = str(self.made)
            for part in ("Algorithm Name", "Algorithm Version", "mode: plain", "Imaging Measurement Report"):
                self.assertIn(part, text)

    def test_every_grade_has_its_loinc_answer(self):
        codes = ["LA18643-9", "LA18644-7", "LA18645-4", "LA18646-2", "LA18648-8"]
        paths = [self.write(f"grade{grade}", photograph()) for grade in range(5)]
        decisions = [decided({"": path}, grade=grade) for grade, path in enumerate(paths)]
        list(Answers(self.folder / "sr", None).written(decisions, Algorithm(())))
        for grade, code in enumerate(codes):
            found = [e.value.value for e in self.report(f"grade{grade}.sr.dcm").get_qualitative_evaluations()]
            self.assertIn(code, found)

    def test_an_unknown_eye_has_no_loinc_code(self):
        self.answer(decided({"": self.write("eye", photograph(ImageLaterality=None))}))
        group = self.report("eye.sr.dcm")
        self.assertEqual([e.name.scheme_designator for e in group.get_qualitative_evaluations()], ["99DRTF"] * 2)
        self.assertIsNone(group.finding_sites[0].laterality)

    def test_the_pdf_is_a_pdf_in_the_study_of_the_photograph(self):
        self.answer(decided({"": self.write("IM1", photograph(ImageLaterality="L", BurnedInAnnotation="YES"))}))
        made = pydicom.dcmread(self.folder / "pdf" / "IM1.pdf.dcm")
        pdf = made.EncapsulatedDocument[: made.EncapsulatedDocumentLength]
        self.assertEqual((pdf[:5], pdf.rstrip()[-5:]), (b"%PDF-", b"%%EOF"))
        self.assertEqual(made.MIMETypeOfEncapsulatedDocument, "application/pdf")
        self.assertEqual((made.PatientID, made.StudyInstanceUID, made.ImageLaterality), ("SECRET-ID", "2.25.1", "L"))
        self.assertEqual((made.BurnedInAnnotation, made.VerificationFlag), ("YES", "UNVERIFIED"))
        self.assertEqual(len(made.SourceInstanceSequence), 1)
        for secret in (b"SECRET", b"Secret", b"1960"):
            self.assertNotIn(secret, pdf)

    def test_an_unreadable_photograph_is_answered_with_retake(self):
        path = self.write("half", photograph()[:-3000])
        self.answer(decided({"": path}, action="retake", grade=None, reason="the DICOM file is cut short"))
        evaluations = self.report("half.sr.dcm").get_qualitative_evaluations()
        self.assertEqual([e.value.value for e in evaluations], ["RETAKE"])
        self.assertTrue((self.folder / "pdf" / "half.pdf.dcm").exists())

    def test_a_pair_refers_to_both_photographs(self):
        left, right = self.write("a", photograph(1, ImageLaterality="L")), self.write("b", photograph(2))
        self.answer(decided({"left": left, "right": right}, grade=None))
        self.assertEqual(len(self.report("a.sr.dcm").source_images), 2)
        other = self.write("c", photograph(2, StudyInstanceUID="2.25.8"))
        self.answer(decided({"left": left, "right": other}, grade=None))
        self.assertIn("its photographs are of two studies", self.told)

    def test_what_gets_no_answer_is_named(self):
        plain = self.write("eye.jpg", trees.jpeg(trees.photograph(1)))
        self.assertEqual(self.answer(decided({"": plain})), [])
        self.assertEqual(self.told, f"no DICOM answer: {plain}: not a DICOM file\n")
        self.assertEqual(self.answer(decided({"": self.write("x", photograph(SeriesInstanceUID=None))})), [])
        self.assertIn("its header has no SeriesInstanceUID", self.told)

    def test_equal_names_do_not_overwrite_each_other(self):
        paths = [self.write(f"{folder}/IM1", photograph(seed)) for seed, folder in enumerate("ab")]
        answers = Answers(self.folder / "sr", None)
        list(answers.written([decided({"": path}) for path in paths], Algorithm(())))
        self.assertEqual(sorted(path.name for path in (self.folder / "sr").iterdir()), ["IM1.sr.dcm", "IM1_2.sr.dcm"])

    def test_long_and_strange_names(self):
        path = self.write("$x_{1}$ " + "ü" * 100, photograph())
        self.assertEqual(len(self.answer(decided({"": path}))), 2)


@files.needs_pydicom
class PairsTest(InFolder):
    def test_eyes_are_paired_by_patient_and_study(self):
        names = {
            "A1": {}, "A2": {"ImageLaterality": "L"}, "A3": {"ImageLaterality": "L", "StudyInstanceUID": "2.25.9"},
            "B_left": {"PatientID": "other"},
        }  # fmt: skip
        paths = [self.write(name, photograph(**attributes)) for name, attributes in names.items()]
        found = [(pathlib.Path(c.name).name, {e: len(i) for e, i in c.images.items()}) for c in pairs(paths)]
        self.assertEqual(found, [("A1", {"left": 1, "right": 1}), ("A3", {"left": 1}), ("B_left", {"right": 1})])

    def test_an_eye_that_the_header_does_not_state_is_not_guessed(self):
        path = self.write("12_left", photograph(ImageLaterality=None))
        with self.assertRaisesRegex(UserError, "header does not state the eye.*; list it in a --patient_table"):
            pairs([path])
        self.assertEqual(pairs([path], {"12_left": PatientRow("12", "left")})[0].name, "12")

    def test_the_name_of_a_damaged_file_gives_no_eye(self):
        with self.assertRaisesRegex(UserError, "header does not state the eye"):
            pairs([self.write("12_left", photograph()[:160])])

    def test_frames_of_both_eyes_are_a_pair(self):
        path = self.write("both", both_eyes())
        (pair,) = pairs([path])
        self.assertEqual(pair.images, {"left": (Frames(str(path), (1, 3)),), "right": (Frames(str(path), (2,)),)})
        other = self.write("more", photograph(ImageLaterality="L"))
        (pair,) = pairs([path, other])
        self.assertEqual(pair.images["left"], (Frames(str(path), (1, 3)), other))

    def test_a_table_that_contradicts_the_header_is_refused(self):
        path = self.write("IM1", photograph(ImageLaterality="R"))
        with self.assertRaisesRegex(UserError, "the patient table says left, its DICOM header right"):
            pairs([path], {"IM1": PatientRow("12", "left")})


@files.needs_pydicom
class CommandsTest(InFolder):
    def setUp(self):
        super().setUp()
        write_run(self.folder / "run")
        self.run_flags = ("--run_dir", self.folder / "run")

    def predict(self, *flags):
        self.status, told, self.errors = commands.run(predict.main, *self.run_flags, "--format", "json", *flags)
        self.assertNotIn("Traceback", self.errors)
        for secret in ("SECRET", "Secret", "2.25.1", "1960"):
            self.assertNotIn(secret, told + self.errors)
        return {
            pathlib.Path(one.get("case", one.get("patient"))).name: one for one in map(json.loads, told.splitlines())
        }

    def test_a_folder_of_studies(self):
        self.write("s/plain.jpg", files.encoded(trees.photograph(1), "JPEG", quality=95))
        self.write("s/IM1", photograph(1))
        self.write("s/IM2", photograph(2, ImageLaterality="L", BurnedInAnnotation="YES"))
        self.write("s/report", files.without_image("1.2.840.10008.5.1.4.1.1.88.34"))
        self.write("s/half.dcm", photograph(3)[:-3000])
        self.write("s/two", files.native(np.stack([trees.photograph(4)] * 2)))
        answers = ("--dicom_sr", self.folder / "sr", "--dicom_pdf", self.folder / "pdf") if HAS_HIGHDICOM else ()
        found = self.predict(*answers, self.folder / "s")
        self.assertEqual(sorted(found), ["IM1", "IM2", "half.dcm", "plain.jpg", "two"])
        self.assertEqual(found["IM1"]["p_positive"], found["plain.jpg"]["p_positive"])
        self.assertEqual(found["half.dcm"]["reason"], "the DICOM file is cut short")
        for said in (
            "report: a DICOM object without an image (Comprehensive 3D SR Storage)",
            "IM2: text is burned into the image",
            "two: 2 frames, of which the most gradable one of each eye is taken",
        ):
            self.assertIn(said, self.errors)
        if HAS_HIGHDICOM:
            self.assertIn("no DICOM answer: ", self.errors)
            self.assertEqual(
                sorted(p.name for p in (self.folder / "sr").iterdir()),
                [f"{n}.sr.dcm" for n in ("IM1", "IM2", "half", "two")],
            )
            self.assertEqual(len(list((self.folder / "pdf").iterdir())), 4)
        by_patient = self.predict("--patients", self.folder / "s" / "IM1", self.folder / "s" / "IM2")
        (patient,) = by_patient.values()
        self.assertEqual([image["eye"] for image in patient["photographs"]], ["right", "left"])

    def test_frames_of_both_eyes_are_two_photographs(self):
        path = self.write("both", both_eyes())
        answers = ("--dicom_sr", self.folder / "sr", "--dicom_pdf", self.folder / "pdf") if HAS_HIGHDICOM else ()
        found = self.predict(*answers, path)
        self.assertEqual(list(found), ["both (left eye)", "both (right eye)"])
        self.assertEqual([one["images"][0]["frame"] for one in found.values()], [3, 2])
        alone = self.predict(self.write("left.jpg", files.encoded(trees.photograph(1), "JPEG", quality=95)))
        self.assertAlmostEqual(found["both (left eye)"]["p_positive"], alone["left.jpg"]["p_positive"], 5)
        if HAS_HIGHDICOM:
            for name, frame, eye in (("both (left eye)", 3, "Left"), ("both (right eye)", 2, "Right")):
                (group,) = highdicom.sr.srread(
                    self.folder / "sr" / f"{name}.sr.dcm"
                ).content.get_image_measurement_groups()
                self.assertEqual(group.source_images[0].referenced_frame_numbers, [frame])
                self.assertEqual(group.finding_sites[0].laterality.meaning, eye)
        (patient,) = self.predict("--patients", path).values()
        self.assertEqual([image["eye"] for image in patient["photographs"]], ["left", "right"])
        _, table, _ = commands.run(predict.main, *self.run_flags, path)
        self.assertRegex(table, r"both \(left eye\): .*frame 3\n(.*\n)?.*both \(right eye\): .*frame 2")
        _, rows, _ = commands.run(predict.main, *self.run_flags, "--format", "csv", path)
        self.assertEqual([row["frame"] for row in csv.DictReader(io.StringIO(rows))], ["3", "2"])

    def test_explain_draws_the_frame_that_decided(self):
        path = self.write("both", both_eyes())
        status, _, errors = commands.run(explain.main, *self.run_flags, "--output", self.folder / "maps", path)
        self.assertEqual(status, 0, errors)
        pictures = [
            cv2.imread(self.folder / "maps" / f"{name}.explained.jpg")
            for name in ("both (left eye)", "both (right eye)")
        ]
        frames = [cv2.cvtColor(trees.photograph(seed), cv2.COLOR_RGB2BGR) for seed in (1, 2)]
        for picture, frame, other in zip(pictures, frames, frames[::-1], strict=True):
            shown = picture[: frame.shape[0], : frame.shape[1]].astype(int)
            self.assertLess(np.abs(shown - frame).mean(), 3)
            self.assertGreater(np.abs(shown - other).mean(), 3)

    @pytest.mark.slow
    def test_explain_draws_on_a_dicom_photograph(self):
        path = self.write("IM1", photograph(1))
        status, _, errors = commands.run(explain.main, *self.run_flags, "--output", self.folder / "maps", path)
        self.assertEqual(status, 0, errors)
        self.assertTrue((self.folder / "maps" / "IM1.explained.jpg").exists())
        written = b"".join(p.read_bytes() for p in (self.folder / "maps").iterdir())
        self.assertNotIn(b"SECRET", written)

    def test_mistakes_are_one_line(self):
        path = self.write("IM1", photograph(1))
        self.predict("--dicom_sr", path, path)
        if HAS_HIGHDICOM:
            self.assertEqual((self.status, self.errors), (2, f"error: {path} cannot be written: File exists\n"))
        find_spec = importlib.util.find_spec
        absent = mock.patch("importlib.util.find_spec", lambda name: None if name == "highdicom" else find_spec(name))
        with absent:
            self.predict("--dicom_sr", self.folder / "sr", path)
        self.assertIn("needs highdicom, which is not installed: pip install 'dr_tf[dicom]'", self.errors)


if __name__ == "__main__":
    unittest.main()
