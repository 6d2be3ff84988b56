"""Copies of folders in buckets: what is copied again, hostile names, kills, and full disks."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest
from unittest import mock

from dr_tf.buckets import cache
from dr_tf.buckets.mirror import copy_one, mirror
from dr_tf.console import UserError
from tests.s3_server import BucketTest, Fault, needs_s3_server

URL = "s3://clinic/photographs"


@needs_s3_server
class MirrorTest(BucketTest):
    def setUp(self):
        super().setUp()
        self.contents = {f"{folder}/{i}.jpg": f"{folder} {i}".encode() * 100 for folder in "ab" for i in range(3)}
        for name, content in self.contents.items():
            self.put(f"photographs/{name}", content)

    def files(self, folder):
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def copied(self):
        """Names that were read since the last call."""
        names = sorted(path.removeprefix("/clinic/photographs/") for m, path in self.server.requests if m == "GET")
        self.server.requests.clear()
        return [name for name in names if name != "/clinic"]

    def test_every_file_is_copied_once(self):
        copy = mirror(URL)
        self.assertTrue(copy.folder.is_relative_to(self.cache))
        self.assertEqual(self.files(copy.folder), self.contents)
        self.assertEqual(self.copied(), sorted(self.contents))
        self.assertEqual(mirror(f"{URL}/"), copy)
        self.assertEqual(self.copied(), [])

    def test_what_changed_in_the_bucket_changes_in_the_copy(self):
        mirror(URL)
        self.copied()
        self.contents["a/0.jpg"] = self.contents["a/0.jpg"][::-1]  # of the same size
        self.put("photographs/a/0.jpg", self.contents["a/0.jpg"])
        for name in ("b/0.jpg", "b/1.jpg", "b/2.jpg"):
            self.bucket.delete_object(Bucket="clinic", Key=f"photographs/{name}")
            del self.contents[name]
        folder = mirror(URL).folder
        self.assertEqual(self.files(folder), self.contents)
        self.assertEqual(self.copied(), ["a/0.jpg"])
        self.assertFalse((folder / "b").exists())

    def test_a_file_may_become_a_folder_and_a_folder_a_file(self):
        for key in ("photographs/c", "photographs/d/e"):
            self.put(key)
        mirror(URL)
        for key in ("photographs/c", "photographs/d/e"):
            self.bucket.delete_object(Bucket="clinic", Key=key)
        for key in ("photographs/c/e", "photographs/d"):
            self.put(key)
        self.assertEqual(set(self.files(mirror(URL).folder)), {*self.contents, "c/e", "d"})

    def test_damaged_copies_are_copied_again(self):
        folder = mirror(URL).folder
        (folder / "a/1.jpg").write_bytes(b"cut")
        (folder / "b/1.jpg").unlink()
        (folder / "stranger.jpg").write_bytes(b"x")
        self.copied()
        mirror(URL)
        self.assertEqual(self.files(folder), self.contents)
        self.assertEqual(self.copied(), ["a/1.jpg", "b/1.jpg"])

    def test_hostile_names_are_left_out_and_named(self):
        hostile = [
            "../../escaped",
            "/etc/escaped",
            "a/../../../escaped",
            "a\\..\\escaped",
            "a//escaped",
            "a",
            "x" * 240,
        ]
        for name in hostile:
            self.put(f"photographs/{name}", b"hostile")
        copy = mirror(URL)
        self.assertEqual(set(copy.left_out), set(hostile))
        self.assertEqual(copy.left_out["a"], "a folder has its name")
        self.assertEqual(self.files(copy.folder), self.contents)
        self.assertEqual(list(pathlib.Path(self.cache).rglob("*escaped*")), [])

    def test_a_refused_file_leaves_the_others(self):
        self.server.faults.append(Fault("GET", "b/2.jpg", status=403, code="AccessDenied"))
        with self.assertRaisesRegex(UserError, f"^{URL}/b/2.jpg cannot be read: AccessDenied here$"):
            mirror(URL)
        self.server.faults.clear()
        self.copied()
        self.assertEqual(self.files(mirror(URL).folder), self.contents)
        self.assertIn("b/2.jpg", self.copied())

    def test_a_killed_copy_goes_on(self):
        self.server.faults.append(Fault("GET", "photographs/.*[12].jpg"))
        code = f"from dr_tf.buckets.mirror import mirror; mirror({URL!r})"
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        index = next(self._wait_for(lambda: list(pathlib.Path(self.cache).glob("sources/*/copied.jsonl"))))
        next(self._wait_for(lambda: len(index.read_text().splitlines()) == 2))  # a/0 and b/0
        process.send_signal(signal.SIGKILL)
        process.wait()
        with open(index, "a") as file:
            file.write('["a/1.jpg", 3')  # cut short by the kill
        self.server.faults.clear()
        self.copied()
        self.assertEqual(self.files(mirror(URL).folder), self.contents)
        self.assertEqual(self.copied(), [name for name in sorted(self.contents) if name[2] != "0"])
        self.assertEqual(len([json.loads(line) for line in index.read_text().splitlines()]), len(self.contents))

    def _wait_for(self, condition):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if found := condition():
                yield found[0] if isinstance(found, list) else found
            time.sleep(0.02)
        self.fail("waited for a minute")

    def test_a_disk_without_room_is_one_line(self):
        with (
            mock.patch.object(cache.shutil, "disk_usage", return_value=mock.Mock(free=100)),
            self.assertRaisesRegex(UserError, "has 0.00 GB free, 0.00 GB are needed: name .* DR_TF_CACHE"),
        ):
            mirror(URL)
        self.assertEqual(self.copied(), [])

    def test_a_cache_that_cannot_be_written_is_one_line(self):
        with (
            mock.patch.dict(os.environ, DR_TF_CACHE="/proc/absent"),
            self.assertRaisesRegex(UserError, "^/proc/absent/.* cannot be written: .* DR_TF_CACHE names another"),
        ):
            mirror(URL)

    def test_an_empty_folder_is_one_line(self):
        with self.assertRaisesRegex(UserError, "^s3://clinic/absent holds no files$"):
            mirror("s3://clinic/absent")

    def test_one_file(self):
        self.put("labels.csv", b"1")
        path = copy_one("s3://clinic/labels.csv")
        self.assertEqual((path.name, path.read_bytes()), ("labels.csv", b"1"))
        self.put("labels.csv", b"2")
        self.assertEqual(copy_one("s3://clinic/labels.csv").read_bytes(), b"2")
        with self.assertRaisesRegex(UserError, "^there is no file s3://clinic/absent.csv$"):
            copy_one("s3://clinic/absent.csv")


class CacheFolderTest(unittest.TestCase):
    def test_urls_and_contents_have_folders_of_their_own(self):
        with mock.patch.dict(os.environ, {"DR_TF_CACHE": "/cache"}):
            places = [
                ("records", "s3://a/b"),
                ("records", "gs://a/b"),
                ("sources", "s3://a/b"),
                ("records", "s3://a/b", b"1"),
            ]
            folders = [cache.cache_folder(*place) for place in places]
        self.assertEqual(len(set(folders)), len(places))
        self.assertTrue(str(folders[0]).startswith("/cache/records/a_b-"))

    def test_the_default_is_the_cache_of_the_user(self):
        with mock.patch.dict(os.environ, {"DR_TF_CACHE": "", "XDG_CACHE_HOME": "/home/x/.c"}):
            with mock.patch.object(cache.sys, "platform", "linux"):
                self.assertEqual(cache.cache_folder("r", "s3://b").parent, pathlib.Path("/home/x/.c/dr_tf/r"))
            with mock.patch.object(cache.sys, "platform", "darwin"):
                self.assertEqual(
                    cache.cache_folder("r", "s3://b").parent, pathlib.Path.home() / "Library/Caches/dr_tf/r"
                )


if __name__ == "__main__":
    unittest.main()
