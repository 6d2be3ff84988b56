"""Buckets: what is listed, faults that pass and faults that do not, stalls, and stores that are not installed."""

import pathlib
import sys
import tempfile
import time
import unittest
from unittest import mock

import pytest

from dr_tf.buckets import storage
from dr_tf.buckets.storage import Bucket
from dr_tf.buckets.urls import fault_of_name, is_url, join, path_or_url
from dr_tf.console import UserError, is_installed
from tests import commands
from tests.s3_server import BucketTest, Fault, needs_s3_server
from tfrecords_builder.__main__ import main


class UrlTest(unittest.TestCase):
    def test_a_url_stays_text(self):
        self.assertEqual(path_or_url("s3://clinic/records"), "s3://clinic/records")
        self.assertEqual(path_or_url("a/../b"), pathlib.Path("a/../b"))
        self.assertEqual(join("s3://clinic/records/", "idrid", "1.0.0"), "s3://clinic/records/idrid/1.0.0")

    def test_paths_are_no_urls(self):
        for place in ("records", "/data/records", "C://records", "./s3://x", "s3:/x", pathlib.Path("s3://x"), None):
            self.assertFalse(is_url(place), place)

    def test_names_that_leave_a_folder_are_refused(self):
        for name in ("../a", "a/../../b", "/etc/passwd", "a//b", "a/./b", "..", "", "a\\b", "..\\a", "a\0b"):
            self.assertIn("not that of a file", fault_of_name(name), name)
        self.assertIn("too long", fault_of_name("ä" * 200))
        for name in ("a.jpg", "deep/er/a b.jpg", "..a", "a..", "ä.jpg", ".hidden", "line\nfeed"):
            self.assertEqual(fault_of_name(name), "")


class MissingExtraTest(unittest.TestCase):
    def test_the_line_names_the_extra(self):
        for package, url in (("fsspec", "s3://clinic/x"), ("s3fs", "s3://clinic/x"), ("gcsfs", "gs://clinic/x")):
            with self.subTest(package):
                with mock.patch.object(sys.modules["importlib.util"], "find_spec", _absent(package)):
                    status, _, errors = commands.run(
                        main, "folder", "--classes", "a,b", "--label", "any_dr", "--source", url, "--records", "x"
                    )
                self.assertEqual(status, 2)
                self.assertEqual(
                    errors, f"error: this needs {package}, which is not installed: pip install 'dr_tf[bucket]'\n"
                )

    @unittest.skipUnless(is_installed("fsspec"), "fsspec is not installed: pip install 'dr_tf[bucket]'")
    def test_unknown_stores_are_one_line(self):
        with self.assertRaisesRegex(UserError, "^s4://clinic/x cannot be opened: Protocol not known: s4$"):
            Bucket("s4://clinic/x")


def _absent(package):
    import importlib.util

    find_spec = importlib.util.find_spec

    def found(name, *arguments):
        return name != package or None if name in ("fsspec", "s3fs", "gcsfs") else find_spec(name, *arguments)

    return found


@needs_s3_server
class StorageTest(BucketTest):
    def setUp(self):
        super().setUp()
        self.store = Bucket("s3://clinic/photographs/")
        self.put("photographs/a.jpg", b"abc")

    def read(self):
        return self.store.read("a.jpg", 0, 3)

    def test_files_are_those_below_the_folder(self):
        self.put("photographs/deep/b.jpg", b"abcd")
        self.put("photographs/folder/")
        self.put("photographs2/c.jpg")
        files = self.store.files()
        self.assertEqual({name: entry.size for name, entry in files.items()}, {"a.jpg": 3, "deep/b.jpg": 4})
        self.assertEqual(set(self.store.files("deep")), {"b.jpg"})
        self.assertEqual(set(self.store.files(depth=1)), {"a.jpg"})
        self.assertEqual(self.store.files("absent"), {})
        self.put("photographs/a.jpg", b"abd")
        self.assertNotEqual(self.store.files()["a.jpg"].tag, files["a.jpg"].tag)

    def test_faults_that_pass_are_tried_again(self):
        for fault in (
            Fault("GET", "a.jpg", status=503, code="SlowDown", times=4),
            Fault("GET", "a.jpg", status=500, times=2),
            Fault("GET", "a.jpg", cut=True, times=2),
        ):
            self.server.faults[:] = [fault]
            self.assertEqual(self.read(), b"abc")

    def test_faults_that_stay_are_one_line(self):
        for fault, requests, reason in (
            (Fault("GET", "a.jpg", status=403, code="AccessDenied"), 1, "AccessDenied here"),
            (Fault("GET", "a.jpg", status=404, code="NoSuchKey"), 1, "NoSuchKey here"),
            (Fault("GET", "a.jpg", status=503, code="SlowDown"), storage.ATTEMPTS, "SlowDown here"),
            (Fault("GET", "a.jpg", cut=True), storage.ATTEMPTS, "Response payload is not completed"),
        ):
            self.server.faults[:] = [fault]
            self.server.requests.clear()
            with self.assertRaisesRegex(UserError, f"^s3://clinic/photographs/a.jpg cannot be read: {reason}"):
                self.read()
            self.assertEqual(self.server.count("GET"), requests)

    def test_a_read_that_stalls_ends(self):
        self.server.faults.append(Fault("GET", "a.jpg"))
        start = time.monotonic()
        with (
            mock.patch.object(storage, "ATTEMPTS", 2),
            self.assertRaisesRegex(UserError, "cannot be read: Read timeout"),
        ):
            self.read()
        self.assertLess(time.monotonic() - start, 10)

    def test_a_slow_read_that_goes_on_is_waited_for(self):
        self.put("photographs/a.jpg", bytes(1000))
        self.server.faults.append(Fault("GET", "a.jpg", pause=0.12))  # 1.2 seconds, and a timeout of 1
        with mock.patch.object(storage, "SLOWEST", 100):
            self.assertEqual(self.store.read("a.jpg", 0, 1000), bytes(1000))
        self.assertEqual(self.server.count("GET", "a.jpg"), 1)

    def test_a_large_file_is_uploaded_in_parts(self):
        content = bytes(range(256)) * 70_000
        with tempfile.NamedTemporaryFile() as file, mock.patch.object(storage, "TIMEOUT", 30):
            pathlib.Path(file.name).write_bytes(content)
            Bucket("s3://clinic/photographs").put(file.name, "big")
        self.assertEqual(self.server.count("PUT", "big"), 3)
        self.assertEqual(self.get("photographs/big"), content)

    @pytest.mark.slow
    def test_an_upload_that_stalls_ends(self):
        """The server takes no bytes: no timeout of a read ends that."""
        self.server.faults.append(Fault("PUT", "big"))
        start = time.monotonic()
        with tempfile.NamedTemporaryFile() as file:
            file.truncate(12_000_000)
            with (
                mock.patch.multiple(storage, ATTEMPTS=1, SLOWEST=1e8),
                self.assertRaisesRegex(UserError, "^s3://clinic/photographs/big cannot be written: it took too long"),
            ):
                self.store.put(file.name, "big")
        self.assertLess(time.monotonic() - start, 10)

    def test_lists_and_buckets_that_are_refused_are_one_line(self):
        self.server.faults.append(Fault("GET", "^/clinic$", status=403, code="AccessDenied"))
        with self.assertRaisesRegex(UserError, "^s3://clinic/photographs cannot be listed: AccessDenied here$"):
            self.store.files()
        with self.assertRaisesRegex(UserError, "^s3://absent/x cannot be listed: The specified bucket does not exist$"):
            Bucket("s3://absent/x").files()

    def test_a_file_that_is_too_large_to_be_a_table_is_not_read(self):
        with self.assertRaisesRegex(UserError, "^s3://clinic/photographs/a.jpg is too large for a file of its kind$"):
            self.store.read_whole("a.jpg", 1 << 40)


if __name__ == "__main__":
    unittest.main()
