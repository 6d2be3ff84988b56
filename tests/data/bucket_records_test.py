"""Record sets in a bucket: equal to local ones, copied once, refused unless they are whole, and never mixed."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.bucket_records import copy_version, parse_checksums
from dr_tf.data.find_records import has_records
from dr_tf.data.records import open_records
from tests.data import sets
from tests.s3_server import BucketTest, Fault, needs_s3_server
from tests.tfrecords_builder.trees import digests
from tfrecords_builder.manifest import write_manifest

ROOT, NAME = "s3://clinic/records", "drawn/plain"
VERSION = f"{ROOT}/{NAME}/1.0.0"
SHARD = "drawn-train.tfrecord-00000-of-00001"


@needs_s3_server
class BucketRecordsTest(BucketTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.root = folder / "records"
        shutil.copytree(sets.drawn_root(), cls.root)
        cls.folder = cls.root / NAME / "1.0.0"
        write_manifest(cls.folder)

    def setUp(self):
        super().setUp()
        self.put_folder(self.folder, f"records/{NAME}/1.0.0")
        self.server.requests.clear()

    def refused(self, message, dataset=NAME):
        with self.assertRaisesRegex(UserError, message):
            open_records(ROOT, dataset)

    def test_records_equal_local_ones(self):
        local, remote = open_records(self.root, NAME), open_records(ROOT, NAME)
        self.assertEqual((remote.name, remote.fingerprint, len(remote)), (local.name, local.fingerprint, len(local)))
        for name, values in local.columns.items():
            np.testing.assert_array_equal(remote.columns[name], values)
        self.assertTrue(all(remote.encoded_image(row) == local.encoded_image(row) for row in range(len(local))))
        self.assertTrue(pathlib.Path(remote.directory).is_relative_to(self.cache))
        self.assertEqual(digests(remote.directory), digests(self.folder))

    def test_files_are_copied_once(self):
        open_records(ROOT, NAME)
        self.assertEqual(self.server.count("GET", "tfrecord"), 3)
        self.server.requests.clear()
        open_records(f"{ROOT}/", "drawn")
        self.assertEqual(self.server.count("GET", "1.0.0/(?!checksums)"), 0)

    def test_names_are_those_of_local_sets(self):
        self.put_folder(self.folder, "records/drawn/other/1.0.0")
        self.put_folder(self.folder, f"records/{NAME}/1.10.0")
        self.put_folder(self.folder, f"records/{NAME}/1.9.0")
        self.assertTrue(open_records(ROOT, NAME).directory.endswith(f"{NAME}/1.10.0"))
        self.refused(
            "^s3://clinic/records/drawn holds several record sets; name one of: drawn/other, drawn/plain$", "drawn"
        )
        self.refused("^no records 'absent' in s3://clinic/records; there are: drawn/other, drawn/plain$", "absent")
        self.refused("^a record set is named as NAME/CONFIG, not '../records/drawn'$", "../records/drawn")
        self.refused("is a version: name a record set as NAME/CONFIG$", f"{NAME}/1.0.0")
        self.assertTrue(has_records(ROOT, NAME))
        self.assertFalse(has_records(ROOT, "absent/plain"))
        with self.assertRaisesRegex(UserError, "^s3://clinic/records is not a record set: name a folder RECORDS/NAME"):
            copy_version(ROOT)

    def test_a_set_without_its_marker_is_refused(self):
        self.bucket.delete_object(Bucket="clinic", Key=f"records/{NAME}/1.0.0/dataset_info.json")
        self.refused(
            f"^{ROOT}/{NAME} holds no finished records: an upload was not completed; run `dr_tf records` again$"
        )
        with self.assertRaisesRegex(UserError, f"^{VERSION} holds no finished records"):
            copy_version(VERSION)
        self.assertFalse(has_records(ROOT, NAME))

    def test_half_written_and_missing_files_are_refused_before_anything_is_copied(self):
        whole = (self.folder / SHARD).read_bytes()
        for content, fault in (
            (whole[:1000], f"{SHARD} has 1000 bytes, not {len(whole)}"),
            (None, f"{SHARD} is missing"),
        ):
            key = f"records/{NAME}/1.0.0/{SHARD}"
            self.put(key, content) if content else self.bucket.delete_object(Bucket="clinic", Key=key)
            self.refused(f"^{VERSION} is damaged: {fault}$")
        self.assertEqual(self.server.count("GET", "tfrecord"), 0)

    def test_altered_files_are_refused(self):
        folds = (self.folder / "folds.csv").read_bytes()
        self.put(f"records/{NAME}/1.0.0/folds.csv", folds.replace(b",1\n", b",0\n"))
        self.refused(f"^{VERSION}/folds.csv is not what checksums.json says")
        self.put(f"records/{NAME}/1.0.0/folds.csv", folds)
        self.assertEqual(open_records(ROOT, NAME).fingerprint, open_records(self.root, NAME).fingerprint)

    def test_a_set_that_was_replaced_is_copied_anew(self):
        old = open_records(ROOT, NAME)
        before = digests(old.directory)
        splits = {split: [sets.eye_fields(i) for i in numbers] for split, numbers in {"train": range(5)}.items()}
        with tempfile.TemporaryDirectory() as folder:
            new = sets.write_set(folder, splits)
            write_manifest(new)
            for key in self.keys():
                self.bucket.delete_object(Bucket="clinic", Key=key)
            self.put_folder(new, f"records/{NAME}/1.0.0")
            replaced = open_records(ROOT, NAME)
            self.assertEqual(len(replaced), 5)
            self.assertEqual(digests(replaced.directory), digests(new))
        self.assertNotEqual(replaced.directory, old.directory)
        self.assertEqual(digests(old.directory), before)  # a training that runs keeps its files

    def test_a_file_that_is_gone_while_it_is_copied_is_one_line(self):
        self.server.faults.append(Fault("GET", "features.json", status=404, code="NoSuchKey"))
        self.refused(f"^{VERSION}/features.json cannot be read: NoSuchKey here$")

    def test_a_killed_copy_goes_on(self):
        self.server.faults.append(Fault("GET", SHARD))
        code = f"from dr_tf.data.bucket_records import copy_record_set; copy_record_set({ROOT!r}, {NAME!r})"
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        others, end = len(digests(self.folder)) - 1, time.monotonic() + 60
        while len(list(pathlib.Path(self.cache).rglob("1.0.0/[!.]*"))) < others and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.server.faults.clear()
        self.server.requests.clear()
        records = open_records(ROOT, NAME)
        self.assertEqual(digests(records.directory), digests(self.folder))
        self.assertEqual(self.server.count("GET", "1.0.0/(?!checksums)"), 1)

    def test_a_damaged_copy_is_copied_again(self):
        shard = pathlib.Path(open_records(ROOT, NAME).directory) / SHARD
        shard.write_bytes(shard.read_bytes()[:1000])
        self.server.requests.clear()
        self.assertEqual(digests(open_records(ROOT, NAME).directory), digests(self.folder))
        self.assertEqual(self.server.count("GET", "1.0.0/(?!checksums)"), 1)

    def test_hostile_tables_of_checksums_are_refused(self):
        stated = json.loads((self.folder / "checksums.json").read_text())
        fine = stated["folds.csv"]
        for table, reason in (
            (stated | {"../../escaped": fine}, "'../../escaped' cannot be a file of a record set"),
            (stated | {"a/b": fine}, "'a/b' cannot be a file"),
            (stated | {"a\\b": fine}, "cannot be a file"),
            (stated | {"checksums.json": fine}, "'checksums.json' cannot be a file"),
            (stated | {"x": {"bytes": -1, "sha256": "0" * 64}}, "'x' cannot be a file"),
            (stated | {"x": {"bytes": 1, "sha256": 3}}, "'x' has no SHA-256"),
            (stated | {"x": 3}, "no table of files: TypeError"),
            ([1], "no table of files: AttributeError"),
            (
                {SHARD: stated[SHARD]},
                "does not state dataset_info.json, features.json: the set was built by an earlier",
            ),
        ):
            with self.subTest(reason):
                self.put(f"records/{NAME}/1.0.0/checksums.json", json.dumps(table).encode())
                self.refused(f"^{VERSION}/checksums.json cannot be read: .*{reason}")
        self.bucket.delete_object(Bucket="clinic", Key=f"records/{NAME}/1.0.0/checksums.json")
        self.refused(f"^{VERSION} has no checksums.json, so it cannot be checked")
        self.assertEqual(list(pathlib.Path(self.cache).rglob("*")), [])


class ChecksumsTest(unittest.TestCase):
    def test_a_table_that_is_cut_short_is_an_error(self):
        for content in (b"", b'{"a": {"bytes"', b"\xff", b"[" * 100_000):
            with self.assertRaises(ValueError):
                parse_checksums(content)


if __name__ == "__main__":
    unittest.main()
