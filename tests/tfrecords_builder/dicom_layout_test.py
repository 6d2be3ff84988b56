"""The layout `dicom`: eyes and patients from headers, grades from a table, and nothing else of the header in the records."""

import contextlib
import io
import pathlib
import tempfile
import unittest

import numpy as np
import tensorflow_datasets as tfds

from dr_tf.console import UserError
from tests.fundus import dicom_files as files
from tests.tfrecords_builder import trees
from tfrecords_builder.__main__ import parse
from tfrecords_builder.crops import crop_sample
from tfrecords_builder.layouts import known_layouts
from tfrecords_builder.plan import Options

SIZE = 64


def photograph(seed, **attributes):
    return files.jpeg(np.ascontiguousarray(trees.photograph(seed)), **attributes)


def write_studies(root):
    """Two patients with both eyes, one of them with a second study; a report; a photograph of nobody."""
    for name, data in {
        "A/IM0": photograph(1, PatientID="SECRET-1"),
        "A/IM1": photograph(2, PatientID="SECRET-1", ImageLaterality="L"),
        "A/later/IM0": photograph(
            3, PatientID="SECRET-1", ImageLaterality="L", StudyInstanceUID="2.25.7", StudyDate="20250101"
        ),
        "B/left.dcm": photograph(4, PatientID="SECRET-2"),  # the name lies: the header says right
        "B/other.dcm": photograph(5, PatientID="SECRET-2", ImageLaterality="L", BurnedInAnnotation="YES"),
        "C/unknown": photograph(6, PatientID="", StudyInstanceUID="", ImageLaterality=None),
        "C/report": files.without_image("1.2.840.10008.5.1.4.1.1.88.34"),
        "C/cut": photograph(7)[:-3000],
        "C/plain.jpg": trees.jpeg(trees.photograph(8)),
        "notes.txt": b"notes",
    }.items():
        trees.write(pathlib.Path(root) / name, data)
    return pathlib.Path(root)


@files.needs_pydicom
class DicomLayoutTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source = write_studies(self.folder / "studies")

    def read(self, *flags):
        parsed = parse(["dicom", "--source", str(self.source), "--records", "records", *map(str, flags)])
        with contextlib.redirect_stderr(io.StringIO()):
            listing = known_layouts()["dicom"].read(self.source, parsed)
        self.rejected = {rejection.image_id: rejection.reason for rejection in listing.rejections}
        return {sample.image_id: sample for sample in listing.samples}

    def test_records_hold_eyes_patients_and_grades_and_nothing_else_of_the_header(self):
        table = [("A/IM0", 2), ("other", 0), ("gone", 1)]
        labels = trees.write_table(self.folder / "grades.csv", ("image", "grade"), table)
        flags = ("--source", self.source, "--records", self.folder / "records", "--image_size", SIZE, "--workers", 1)
        more = ("--audit", "off", "--folds", 2, "--shares", "train=100", "--labels", labels)
        status, _, errors = trees.run_builder("dicom", *flags, *more)
        self.assertEqual(status, 0, errors)
        target = self.folder / "records" / "dicom" / f"{SIZE}-plain-q95" / "1.0.0"
        found = tfds.as_numpy(tfds.builder_from_directory(target).as_dataset("train"))
        self.assertEqual(
            {r["image_id"]: (r["patient_id"], r["eye"], int(r["grade"]), int(r["age"]), r["camera"]) for r in found},
            {
                b"A/IM0": (b"patient_1", b"right", 2, -1, b""),
                b"A/IM1": (b"patient_1", b"left", -1, -1, b""),
                b"A/later/IM0": (b"patient_1", b"left", -1, -1, b""),
                b"B/left.dcm": (b"patient_2", b"right", -1, -1, b""),
                b"B/other.dcm": (b"patient_2", b"left", 0, -1, b""),
                b"C/unknown": (b"C/unknown", b"", -1, -1, b""),
            },
        )
        rejected = {row["image_id"]: row["reason"] for row in trees.read_csv(target / "rejected.csv")}
        self.assertEqual(sorted(rejected), ["C/cut", "C/plain.jpg", "C/report", "gone"])
        self.assertIn("Comprehensive 3D SR", rejected["C/report"])
        self.assertEqual(rejected["C/plain.jpg"], "not a DICOM file")
        self.assertIn("warning: 1 files with text burned in", errors)
        stored = b"".join(path.read_bytes() for path in target.iterdir()) + errors.encode()
        for secret in (b"SECRET", b"Secret", b"2.25.7", b"20250101", b"19600102"):
            self.assertNotIn(secret, stored)

    def test_header_fields_are_stored_if_asked(self):
        sample = self.read("--header_fields", "age", "sex")["A/IM0"]
        self.assertEqual((sample.age, sample.sex, sample.camera), (64, "female", ""))

    def test_a_pair_is_of_one_study(self):
        self.assertEqual(
            sorted(self.read("--paired")), ["A/later/IM0", "B/left.dcm", "B/other.dcm", "C/cut", "C/unknown"]
        )
        self.assertIn("of one study", self.rejected["A/IM0"])

    def test_frames_of_both_eyes_are_two_samples(self):
        frames = [np.ascontiguousarray(trees.photograph(seed)) for seed in (1, 2)]
        for name, attributes in (("both", {}), ("nobody", {"PatientID": "", "StudyInstanceUID": ""})):
            data = files.jpeg_frames(
                frames,
                ImageLaterality=None,
                PerFrameFunctionalGroupsSequence=files.frame_groups("L", "R"),
                **({"PatientID": "SECRET-2"} | attributes),
            )
            trees.write(self.source / "D" / name, data)
        trees.write(self.source / "D" / "stereo", files.jpeg_frames(frames))
        found = self.read()
        eyes = {name: (s.eye, s.frames) for name, s in found.items() if name.startswith("D/")}
        self.assertEqual(
            eyes,
            {
                "D/both:left": ("left", (1,)), "D/both:right": ("right", (2,)), "D/nobody:left": ("left", (1,)),
                "D/nobody:right": ("right", (2,)), "D/stereo": ("right", (1, 2)),
            },
        )  # fmt: skip
        self.assertEqual(found["D/both:left"].patient_id, found["B/left.dcm"].patient_id)
        self.assertEqual({found[f"D/nobody:{eye}"].patient_id for eye in ("left", "right")}, {"D/nobody"})
        crops = [crop_sample(found[f"D/both:{eye}"], Options(image_size=SIZE)) for eye in ("left", "right")]
        self.assertEqual([crop.frame for crop in crops], [1, 2])
        self.assertNotEqual(crops[0].jpeg, crops[1].jpeg)

    def test_contradicting_rows_are_rejected(self):
        table = trees.write_table(self.folder / "l.csv", ("image", "grade"), [("A/IM0", 2), ("A/IM0", 3), ("A/IM1", 9)])
        self.assertEqual(self.read("--labels", table)["A/IM0"].grade, 2)
        self.assertIn("other labels", self.rejected["A/IM0"])
        self.assertIn("unknown grade 9", self.rejected["A/IM1"])

    def test_a_table_without_labels_is_one_line(self):
        table = trees.write_table(self.folder / "l.csv", ("image", "age"), [("A/IM0", 2)])
        with self.assertRaisesRegex(UserError, "none of the columns grade, dme, any_dr, split"):
            self.read("--labels", table)


if __name__ == "__main__":
    unittest.main()
