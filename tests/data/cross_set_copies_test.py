"""Duplicates across record sets are left out of one of them, by an audit whose result is stored."""

import csv
import pathlib

import numpy as np
import tensorflow as tf

from dr_tf.data.cross_set_copies import LEFT_OUT, leave_out_copies
from dr_tf.data.records import open_records
from tests.data.sets import eye_fields, pair_fields, scratch, write_set

SPLITS = ("train", "train", "validation", "test")


class LeaveOutCopiesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root, self.audited = pathlib.Path(scratch(self)), []

    def _records(self, *names):
        for name in names:
            examples = {}
            for i, split in enumerate(SPLITS):
                examples.setdefault(split, []).append(eye_fields(i))
            folds = [(f"p{i:03}", f"p{i:03}", 0, i % 2) for i in range(3)]
            write_set(self.root, examples, name=name, folds=folds)
        return open_records(self.root, names)

    def _audit(self, *pairs):
        """An audit that finds these pairs: set, image, set, image, kind."""

        def audit(folders, path):
            self.audited.append(folders)
            whole = {pathlib.Path(folder).parts[-3]: "/".join(pathlib.Path(folder).parts[-3:]) for folder in folders}
            rows = [(whole[a], whole[b], image_a, image_b, kind) for a, image_a, b, image_b, kind in pairs]
            with open(path, "w", newline="") as file:
                csv.writer(file).writerows([("set_a", "set_b", "image_a", "image_b", "kind"), *rows])

        return audit

    def _left(self, records, *pairs):
        left, counts = leave_out_copies(records, self._audit(*pairs), self.root / "audit.csv")
        out = left.columns["split"] == LEFT_OUT
        np.testing.assert_array_equal(left.columns["fold"][out], -1)
        np.testing.assert_array_equal(left.columns["fold"][~out], records.columns["fold"][~out])
        self.assertLen(left.rows("test"), len(records.rows("test")))
        return left.columns["image_id"][out].tolist(), counts

    def test_copies_of_a_test_image_of_another_set(self):
        names, counts = self._left(
            self._records("a", "b"),
            ("a", "p003", "b", "p000", "exact"), ("a", "p002", "b", "p003", "copy"), ("a", "p003", "b", "p000", "same_eye"),
        )  # fmt: skip
        self.assertEqual(names, ["a/p002", "b/p000"])
        self.assertEqual(counts, {"a copy of a test photograph of another set": 1,
                                  "the same file as a test photograph of another set": 1})  # fmt: skip

    def test_one_of_several_copies_outside_of_test_splits_stays(self):
        names, counts = self._left(
            self._records("a", "b", "c"),
            ("b", "p000", "a", "p001", "copy"), ("b", "p000", "c", "p002", "copy"), ("a", "p001", "c", "p002", "copy"),
        )  # fmt: skip
        self.assertEqual(names, ["b/p000", "c/p002"])
        self.assertEqual(counts, {"a copy of a photograph of a set named before": 2})

    def test_test_splits_stay_as_they_are(self):
        with self.assertLogs("absl", "INFO") as logged:
            self.assertEqual(self._left(self._records("a", "b"), ("a", "p003", "b", "p003", "exact")), ([], {}))
        expected = "a/plain+b/plain left out: none; 1 pairs are in the test splits of both sets and stay there"
        self.assertIn(expected, logged.output[-1])

    def test_the_audit_runs_once_for_the_same_sets(self):
        records, audit = self._records("a", "b"), self._audit(("a", "p003", "b", "p000", "exact"))
        counts = [leave_out_copies(records, audit)[1] for _ in range(2)]
        self.assertEqual(counts[0], counts[1])
        self.assertEqual(self.audited, [[part.directory for part in records.parts]])
        self.assertLen(list(pathlib.Path(records.directory).glob("audits/*.csv")), 1)
        self.assertEqual(open_records(self.root, "a+b").fingerprint, records.fingerprint)

    def test_either_eye_of_a_patient(self):
        for name in ("a", "b"):
            pairs = [pair_fields(i, absent={1: "left"}.get(i)) for i in range(3)]
            write_set(self.root, {"train": pairs[:2], "test": pairs[2:]}, name=name, paired=True)
        names, _ = self._left_pairs(
            ("a", "p005right", "b", "p003right", "copy"), ("a", "p000left", "b", "p004left", "copy")
        )
        self.assertEqual(names, ["a/p000", "b/p001"])

    def _left_pairs(self, *pairs):
        records = open_records(self.root, ["a", "b"])
        left, counts = leave_out_copies(records, self._audit(*pairs))
        return left.columns["patient_id"][left.columns["split"] == LEFT_OUT].tolist(), counts


if __name__ == "__main__":
    tf.test.main()
