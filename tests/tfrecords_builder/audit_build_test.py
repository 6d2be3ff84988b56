"""Builds with copies among their images, and the command that audits record sets."""

import csv
import os
import pathlib
import tempfile
import unittest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import pytest
import tensorflow_datasets as tfds

from tests.tfrecords_builder import trees
from tfrecords_builder.audit import COLUMNS

SHARED = pathlib.Path(os.environ.get("DR_TF_SHARED", pathlib.Path(__file__).parents[3] / "shared")) / "data"
FLAGS = ("--image_size", 128, "--workers", 2)


def write_clinic(source):
    """Write a label table and images, some of which are copies: rescaled, rotated, mirrored, equal."""
    names = [f"{i:02d}.jpg" for i in range(14)]
    trees.write_photographs(source, names)
    big = cv2.resize(trees.photograph(0), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    trees.write(source / "smaller.jpg", trees.jpeg(big))  # of 00, which is test
    trees.write(source / "turned.jpg", trees.jpeg(cv2.rotate(trees.photograph(1), cv2.ROTATE_90_CLOCKWISE)))  # of 01
    trees.write(source / "mirrored.jpg", trees.jpeg(trees.photograph(2)[:, ::-1]))  # of 02, other grade
    trees.write(source / "equal.jpg", (source / "03.jpg").read_bytes())  # of 03
    rows = [(name, i % 5, "test" if i in (0, 10, 11) else "train") for i, name in enumerate(names)]
    rows += [("smaller.jpg", 0, "train"), ("turned.jpg", 1, "train"), ("mirrored.jpg", 4, "train")]
    rows += [("equal.jpg", 3, "train")]
    trees.write_table(source / "labels.csv", ("file", "grade", "split"), rows)
    return source


def build(source, records, *arguments, name="clinic"):
    columns = ("--image_column", "file", "--grade_column", "grade", "--split_column", "split")
    flags = ("--source", source, "--records", records, "--labels", source / "labels.csv", "--name", name, *columns)
    return trees.run_builder("csv", *flags, *FLAGS, *arguments)


class BuildTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.source = write_clinic(cls.folder / "source")
        cls.result = build(cls.source, cls.folder / "records")
        cls.target = cls.folder / "records" / "clinic" / "128-plain-q95" / "1.0.0"

    def rows(self):
        return {(r["image_a"], r["image_b"]): r for r in trees.read_csv(self.target / "audit.csv")}

    def test_audit_csv_holds_every_pair(self):
        self.assertEqual(self.result[0], 0, self.result[2])
        with open(self.target / "audit.csv", newline="") as file:
            self.assertEqual(tuple(next(csv.reader(file))), COLUMNS)
        rows = self.rows()
        self.assertEqual(
            {pair: (r["kind"], r["transform"]) for pair, r in rows.items()},
            {
                ("03.jpg", "equal.jpg"): ("exact", ""),
                ("00.jpg", "smaller.jpg"): ("copy", ""),
                ("01.jpg", "turned.jpg"): ("copy", "turn90"),
                ("02.jpg", "mirrored.jpg"): ("copy", "mirror"),
            },
        )
        row = rows["00.jpg", "smaller.jpg"]
        self.assertEqual((row["split_a"], row["split_b"], row["label_a"]), ("test", "train", "grade=0 any_dr=0"))
        self.assertEqual(row["action"], "rejected smaller.jpg; flagged 00.jpg")
        self.assertLess(float(row["distance"]), 0.02)

    def test_rejected_csv_gives_the_reason_of_each_image(self):
        reasons = {r["image_id"]: r["reason"] for r in trees.read_csv(self.target / "rejected.csv")}
        self.assertIn("copy of 00.jpg in the published test split", reasons["smaller.jpg"])
        self.assertIn("grade 2 here, 4 there", reasons["02.jpg"])
        self.assertIn("grade 4 here, 2 there", reasons["mirrored.jpg"])
        self.assertEqual(reasons["equal.jpg"], "copy of 03.jpg, which is kept")
        self.assertEqual(len(reasons), 5)

    def test_records_flag_the_copied_test_photograph(self):
        test = tfds.builder_from_directory(str(self.target)).as_dataset("test")
        flagged = {e["image_id"].decode(): e["test_copy"].decode() for e in tfds.as_numpy(test)}
        self.assertEqual(flagged, {"00.jpg": "smaller.jpg", "10.jpg": "", "11.jpg": ""})

    def test_the_summary_counts(self):
        line = next(line for line in self.result[1].splitlines() if line.startswith("leak audit"))
        self.assertIn(
            "1 pairs of exact copies, 3 of near copies, 0 that probably show the same eye. 1 of the pairs cross published",
            line,
        )
        self.assertIn("audit.csv", line)

    def test_strict_refuses_and_writes_nothing(self):
        status, _, errors = build(self.source, self.folder / "strict", "--audit", "strict")
        self.assertNotEqual(status, 0)
        self.assertIn("00.jpg (test) and smaller.jpg (train): copy", errors)
        self.assertNotIn("Traceback", errors)
        self.assertEqual(list((self.folder / "strict").iterdir()), [])

    def test_audit_off_keeps_copies_and_changes_the_fingerprint(self):
        status, output, errors = build(self.source, self.folder / "off", "--audit", "off")
        self.assertEqual(status, 0, errors)
        self.assertIn("leak audit: off", output)
        target = self.folder / "off" / "clinic" / "128-plain-q95" / "1.0.0"
        self.assertFalse((target / "audit.csv").exists())
        self.assertEqual(trees.read_csv(target / "rejected.csv"), [])
        status, _, errors = build(self.source, self.folder / "off")
        self.assertNotEqual(status, 0)
        self.assertIn("audit: off before, on now", errors)

    def test_equal_bytes_for_any_number_of_workers(self):
        status, _, errors = build(self.source, self.folder / "one", "--workers", 1)
        self.assertEqual(status, 0, errors)
        other = self.folder / "one" / "clinic" / "128-plain-q95" / "1.0.0"
        self.assertEqual(trees.digests(other), trees.digests(self.target))


class AuditCommandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def build(self, name, photographs):
        source = self.folder / name
        for file, data in photographs.items():
            trees.write(source / file, data)
        trees.write_table(source / "labels.csv", ("file", "grade", "split"), [(f, 1, "") for f in photographs])
        status, _, errors = build(source, self.folder / "records", name=name)
        self.assertEqual(status, 0, errors)
        return self.folder / "records" / name / "128-plain-q95" / "1.0.0"

    def test_finds_copies_shared_by_two_record_sets(self):
        equal, bright = trees.jpeg(trees.photograph(1)), cv2.convertScaleAbs(trees.photograph(2), alpha=0.75)
        one = self.build("one", {f"{i}.jpg": trees.jpeg(trees.photograph(i)) for i in range(6)})
        two = self.build(
            "two", {"1.jpg": equal, "x.jpg": trees.jpeg(bright[::-1]), "y.jpg": trees.jpeg(trees.photograph(9))}
        )
        output = self.folder / "shared.csv"
        status, text, errors = trees.run_builder("audit", one, two, "--output", output, "--workers", 2)
        self.assertEqual(status, 0, errors)
        rows = {(r["set_a"], r["image_a"], r["set_b"], r["image_b"]): r for r in trees.read_csv(output)}
        first, second = (f"{name}/128-plain-q95/1.0.0" for name in ("one", "two"))
        self.assertEqual(
            {pair: r["kind"] for pair, r in rows.items()},
            {(first, "1.jpg", second, "1.jpg"): "exact", (first, "2.jpg", second, "x.jpg"): "copy"},
        )
        self.assertIn("1 pairs: exact copies", text)
        self.assertIn(str(output), text)
        status, text, _ = trees.run_builder("audit", one, one)
        self.assertNotEqual(status, 0)

    def test_user_errors_are_one_line(self):
        for folders, message in ((("nowhere", "elsewhere"), "is not a record set"), ((self.folder,), "at least two")):
            status, _, errors = trees.run_builder("audit", *folders, "--output", self.folder / "x.csv")
            self.assertNotEqual(status, 0)
            self.assertIn(message, errors)
            self.assertNotIn("Traceback", errors)


@pytest.mark.slow
@unittest.skipUnless((SHARED / "idrid").is_dir(), f"IDRiD is not at {SHARED / 'idrid'}")
class IdridTest(unittest.TestCase):
    def test_copies_and_the_conflict_across_splits_are_found(self):
        with tempfile.TemporaryDirectory() as folder:
            flags = ("--source", SHARED / "idrid", "--records", folder, "--image_size", 256)
            status, _, errors = trees.run_builder("idrid", *flags)
            self.assertEqual(status, 0, errors)
            rows = trees.read_csv(pathlib.Path(folder) / "idrid" / "256-plain-q95" / "1.0.0" / "audit.csv")
        kinds = {(r["image_a"], r["image_b"]): r["kind"] for r in rows}
        crossing = next(r for r in rows if r["split_a"] != r["split_b"])
        self.assertEqual((crossing["image_a"], crossing["image_b"]), ("train/IDRiD_118", "test/IDRiD_064"))
        self.assertEqual((crossing["label_a"][:7], crossing["label_b"][:7]), ("grade=0", "grade=3"))
        self.assertEqual(crossing["action"], "rejected train/IDRiD_118; flagged test/IDRiD_064")
        self.assertEqual(sorted(kinds.values()), ["exact"] * 6 + ["same_eye"])
        self.assertEqual(kinds["train/IDRiD_013", "train/IDRiD_397"], "same_eye")


if __name__ == "__main__":
    unittest.main()
