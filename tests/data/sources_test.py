"""Sources of a record set: which examples a cross-site protocol fits and holds out, and the folders of its runs."""

import csv
import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.data.sources import divide_by_source, has_source_runs, source_folders, source_names
from tests.data.sets import eye_fields, write_set

# (number, split, source): two images of each source are not for testing, and one is.
EXAMPLES = [
    (0, "train", "a"), (1, "validation", "a"), (2, "test", "a"), (3, "train", "b"), (4, "calibration", "b"),
    (5, "test", "b"), (6, "train", "c"), (7, "train", "c"), (8, "test", "c"),
]  # fmt: skip


class DivideTest(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def _write(self, name="drawn", **changed):
        splits = {}
        for number, split, source in EXAMPLES:
            fields = changed.get(f"p{number}", {})
            splits.setdefault(split, []).append(eye_fields(number, source=source, **fields))
        return write_set(self.root, splits, name=name)

    def _records(self, **changed):
        self._write(**changed)
        return open_records(self.root, "drawn")

    def _divide(self, records, source, usable=None):
        usable = np.ones(len(records), bool) if usable is None else usable
        return [self._numbers(records, rows) for rows in divide_by_source(records, usable, source)]

    def _numbers(self, records, rows):
        """The numbers of the examples: the records are sorted by split."""
        return sorted(records.columns["image_id"][rows].tolist())

    def test_test_examples_are_of_no_side(self):
        records = self._records()
        self.assertEqual(source_names(records, np.ones(9, bool)), ["a", "b", "c"])
        self.assertEqual(self._divide(records, "a"), [["p000", "p001"], ["p003", "p004", "p006", "p007"]])
        self.assertEqual(self._divide(records, "c"), [["p006", "p007"], ["p000", "p001", "p003", "p004"]])

    def test_examples_without_a_label_are_of_no_side(self):
        records = self._records()
        usable = ~np.isin(records.columns["image_id"], ["p000", "p001", "p003"])
        self.assertEqual(source_names(records, usable), ["b", "c"])
        self.assertEqual(self._divide(records, "b", usable), [["p004"], ["p006", "p007"]])

    def test_a_patient_of_two_sources_is_on_the_side_of_the_named_one(self):
        records = self._records(p6={"patient_id": "p000"})
        self.assertEqual(self._divide(records, "a"), [["p000", "p001"], ["p003", "p004", "p007"]])
        self.assertEqual(self._divide(records, "c"), [["p006", "p007"], ["p001", "p003", "p004"]])
        self.assertEqual(self._divide(records, "b")[1], ["p000", "p001", "p006", "p007"])

    def test_so_is_an_eye_that_the_leak_audit_found_in_two_sources(self):
        folder = self._write()
        self._write_audit(folder, ("p001", "p004"), ("p007", "gone"), ("p002", "p003"))
        records = open_records(self.root, "drawn")
        self.assertEqual(self._divide(records, "a"), [["p000", "p001"], ["p003", "p006", "p007"]])
        self.assertEqual(self._divide(records, "b"), [["p003", "p004"], ["p000", "p006", "p007"]])

    def _write_audit(self, folder, *pairs):
        with open(folder / "audit.csv", "w", newline="") as file:
            csv.writer(file).writerows([("image_a", "image_b", "kind"), *((*pair, "same_eye") for pair in pairs)])

    def test_joined_record_sets(self):
        """A source of two sets is one source, and the audits of both are read."""
        for name in ("one", "two"):
            self._write_audit(self._write(name), *([("p001", "p004")] if name == "two" else []))
        records = open_records(self.root, ["one", "two"])
        of_a, of_others = self._divide(records, "a")
        self.assertEqual(of_a, ["one/p000", "one/p001", "two/p000", "two/p001"])
        self.assertEqual(of_others, [f"one/p00{i}" for i in (3, 4, 6, 7)] + [f"two/p00{i}" for i in (3, 6, 7)])

    def test_an_audit_that_cannot_be_read(self):
        folder = self._write()
        records = open_records(self.root, "drawn")
        for content in (b"a,b\n1,2\n", b"image_a,image_b\nx\n", b"\xff\xfe\xff"):
            (folder / "audit.csv").write_bytes(content)
            with self.assertRaisesRegex(UserError, "audit.csv cannot be read"):
                self._divide(records, "a")


class FoldersTest(unittest.TestCase):
    def test_names_are_safe(self):
        folders = source_folders(["idrid", "../up", "-x\n", "Clinic 3", "眼" * 90])
        self.assertEqual(list(folders.values())[:4], ["source-idrid", "source-.._up", "source--x_", "source-Clinic 3"])
        self.assertLess(len(folders["眼" * 90].encode()), 120)

    def test_two_sources_of_one_folder_are_refused(self):
        for pair in (("a/b", "a_b"), ("Idrid", "idrid")):
            with self.assertRaisesRegex(UserError, "would share the folder source-"):
                source_folders(pair)

    def test_a_folder_with_runs_of_sources(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.assertFalse(has_source_runs(folder))
        (folder / "source-a").mkdir()
        self.assertTrue(has_source_runs(folder))


if __name__ == "__main__":
    unittest.main()
