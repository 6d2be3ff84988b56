"""Builds from and to a bucket: equal to local ones, the marker last, faults in an upload, labels, the audit, and a run."""

import pathlib
import shutil
import tempfile
import unittest
from unittest import mock

import pytest

from dr_tf.buckets.storage import Bucket
from dr_tf.cli import ensemble, evaluate, explain, export, recalibrate, train
from dr_tf.console import UserError
from tests import commands
from tests.s3_server import BucketTest, Fault, needs_s3_server
from tests.tfrecords_builder import trees
from tfrecords_builder.plan import Options, Plan
from tfrecords_builder.publication import upload

FLAGS = ("folder", "--classes", "none,mild,moderate,severe,proliferative", "--image_size", 64, "--workers", 1)
ROOT, CONFIG = "s3://clinic/records", "folder/64-plain-q95"
URL, PREFIX = f"{ROOT}/{CONFIG}/1.0.0", f"records/{CONFIG}/1.0.0"
SHARD, MARKER, CHECKSUMS = "folder-train.tfrecord-00000-of-00001", "dataset_info.json", "checksums.json"


class LocalSetTest(BucketTest):
    """Tests beside a record set that was built on this machine."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.photographs, cls.records = trees.write_folder(folder / "photographs"), folder / "records"
        status, _, errors = trees.run_builder(*FLAGS, "--source", cls.photographs, "--records", cls.records)
        assert status == 0, errors
        cls.local = trees.digests(cls.records / CONFIG / "1.0.0")

    def published(self):
        """{file: digest} of the version folder in the bucket."""
        with tempfile.TemporaryDirectory() as folder:
            for key in self.keys():
                if key.startswith(f"{PREFIX}/"):
                    trees.write(pathlib.Path(folder) / key.rpartition("/")[2], self.get(key))
            return trees.digests(folder)

    def changes(self):
        """(method, name) of what was written and removed since the last call."""
        requests = [(method, path.rpartition("/")[2]) for method, path in self.server.requests]
        self.server.requests.clear()
        return [request for request in requests if request[0] in ("PUT", "DELETE")]


@needs_s3_server
class BuildTest(LocalSetTest):
    def build(self, *flags, source=None):
        return trees.run_builder(*FLAGS, "--source", source or self.photographs, "--records", ROOT, *flags)

    def assert_refused(self, result, message):
        status, output, errors = result
        self.assertEqual(status, 2, output + errors)
        self.assertNotIn("Traceback", errors)
        self.assertIn(f"\nerror: {message}", errors)

    def test_records_from_and_to_a_bucket_equal_local_ones(self):
        self.put_folder(self.photographs, "photographs")
        self.put("photographs/mild/../../escaped.jpg", b"hostile")
        self.server.requests.clear()
        status, output, errors = self.build(source="s3://clinic/photographs")
        self.assertEqual(status, 0, errors)
        self.assertIn("s3://clinic/photographs: 5 files, 0.1 MB; 5 files, 0.1 MB to copy to ", errors)
        self.assertIn("rejected: 1 (listed in rejected.csv)", output)
        self.assertTrue(output.endswith(f"\n{URL}\n"), output)
        changes, published = self.changes(), self.published()
        self.assertEqual((changes[0], changes[-1]), (("PUT", CHECKSUMS), ("PUT", MARKER)))
        self.assertIn(b"mild/../../escaped.jpg", self.get(f"{PREFIX}/rejected.csv"))
        for name in ("rejected.csv", CHECKSUMS):  # they differ by the hostile name
            del published[name]
        self.assertEqual(published, {name: self.local[name] for name in published})
        self.assertEqual(list(pathlib.Path(self.cache).rglob("builds/**/*.tfrecord*")), [])  # deleted after the upload

    def test_a_finished_set_is_up_to_date_or_names_what_changed(self):
        self.put_folder(self.records, "records")
        self.changes()
        status, output, _ = self.build()
        self.assertEqual((status, output), (0, f"{URL} is up to date: same options, same 5 images\n"))
        self.assert_refused(
            self.build("--seed", 1), f"{URL} exists, but was made from different inputs:\n  seed: 0 bef"
        )
        self.put(f"{PREFIX}/{SHARD}", b"half")
        self.assert_refused(self.build(), f"{URL} is damaged: {SHARD} has 4 bytes, not ")
        self.put(f"{PREFIX}/metadata.json", b"half {")
        self.assert_refused(self.build(), f"{URL} was not written by this builder; --overwrite replaces it")
        self.assertEqual({method for method, name in self.changes() if name not in (SHARD, "metadata.json")}, set())
        self.assertEqual(self.build("--overwrite")[0], 0)
        self.assertEqual(self.published(), self.local)

    def test_a_refused_write_leaves_no_marker_and_the_next_build_goes_on(self):
        self.server.faults.append(Fault("PUT", "tfrecord", status=403, code="AccessDenied"))
        self.assert_refused(self.build(), f"{URL}/{SHARD} cannot be written: AccessDenied here\n")
        before = self.changes()
        self.assertNotIn(("PUT", MARKER), before)
        self.server.faults.clear()
        with mock.patch("tfrecords_builder.build._build", side_effect=AssertionError("it was built already")):
            status, output, errors = self.build()
        self.assertEqual((status, output), (0, f"{URL} is up to date: same options, same 5 images\n"), errors)
        self.assertEqual(self.published(), self.local)
        self.assertEqual(set(self.changes()) & set(before), {("PUT", SHARD)})

    def test_labels_take_a_url(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = [(f"{name}/00.jpg", grade) for grade, name in enumerate(("none", "mild"))]
            trees.write_table(pathlib.Path(folder) / "labels.csv", ("file", "icdr"), rows)
            self.put_folder(pathlib.Path(folder), "tables")
        columns = ("--image_column", "file", "--grade_column", "icdr", "--image_size", 64, "--workers", 1)
        places = ("--source", self.photographs, "--records", ROOT, "--labels", "s3://clinic/tables/labels.csv")
        status, output, errors = trees.run_builder("csv", *places, "--name", "clinic", *columns)
        self.assertEqual(status, 0, errors)
        self.assertTrue(output.endswith(f"\n{ROOT}/clinic/64-plain-q95/1.0.0\n"), output)

    def test_the_audit_takes_urls(self):
        for name in ("one", "two"):
            self.put_folder(self.records / "folder", f"records/{name}")
        urls = [f"{ROOT}/{name}/64-plain-q95/1.0.0" for name in ("one", "two")]
        output = pathlib.Path(self.cache) / "audit.csv"
        status, lines, errors = trees.run_builder("audit", *urls, "--output", output, "--workers", 1)
        self.assertEqual(status, 0, errors)
        self.assertIn("5 in one/64-plain-q95/1.0.0, 5 in two/64-plain-q95/1.0.0", lines)
        self.assertEqual(len(trees.read_csv(output)), 5)


@needs_s3_server
class UploadTest(LocalSetTest):
    def setUp(self):
        super().setUp()
        records = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "records"
        shutil.copytree(self.records, records)
        options = Options(image_size=64)
        self.plan = Plan("folder", self.photographs, records, options, shares={}, bucket=ROOT)
        self.assertEqual(self.plan.address, URL)

    def upload(self):
        upload(self.plan, Bucket(URL))

    def assert_refused(self, message):
        with self.assertRaisesRegex(UserError, message):
            self.upload()
        self.assertNotIn(f"{PREFIX}/{MARKER}", self.keys())

    def test_a_refused_marker_is_all_that_the_next_upload_writes(self):
        self.server.faults.append(Fault("PUT", MARKER, status=500))
        self.assert_refused(f"^{URL}/{MARKER} cannot be written: InternalError here$")
        self.server.faults.clear()
        self.changes()
        self.upload()
        self.assertEqual(self.changes(), [("PUT", MARKER)])
        self.assertEqual(self.published(), self.local)

    def test_faults_that_pass_are_tried_again(self):
        self.server.faults += [Fault("PUT", "", status=503, code="SlowDown", after=i, times=2) for i in (1, 6)]
        self.upload()
        self.assertEqual(self.published(), self.local)

    def test_an_unfinished_set_with_other_content_is_replaced(self):
        """A shard of it may have the same name and size."""
        self.put_folder(self.records, "records")
        self.put(f"{PREFIX}/{SHARD}", bytes(len(self.get(f"{PREFIX}/{SHARD}"))))
        self.put(f"{PREFIX}/notes.txt", b"of a user")
        self.bucket.delete_object(Bucket="clinic", Key=f"{PREFIX}/{MARKER}")
        for content in (
            b"{}",
            b"",
            b'{"notes.txt": {"bytes": 9, "sha256": ""}, "../../../x": {"bytes": 1, "sha256": ""}}',
        ):
            with self.subTest(content):
                self.put(f"{PREFIX}/{CHECKSUMS}", content)
                self.upload()
                published = self.published()
                self.assertTrue(published.pop("notes.txt"))  # what the set does not consist of stays
                self.assertEqual(published, self.local)

    def test_overwriting_removes_the_marker_first_and_shards_that_are_no_more(self):
        self.put_folder(self.records, "records")
        old = self.get(f"{PREFIX}/{CHECKSUMS}").replace(SHARD.encode(), b"folder-train.tfrecord-00000-of-00002")
        self.put(f"{PREFIX}/{CHECKSUMS}", old)
        self.put(f"{PREFIX}/folder-train.tfrecord-00000-of-00002")
        self.changes()
        self.upload()
        changes = self.changes()
        self.assertEqual((changes[0], changes[-1]), (("DELETE", MARKER), ("PUT", MARKER)))
        self.assertEqual(self.published(), self.local)

    def test_a_half_written_object_is_found_before_the_marker_is_written(self):
        put = Bucket.put

        def half(bucket, path, name):
            put(bucket, path, name)
            if name == SHARD:
                self.put(f"{PREFIX}/{name}", b"half")

        with mock.patch.object(Bucket, "put", half):
            self.assert_refused(f"^{URL} is damaged: {SHARD} has 4 bytes, not .*; run the command again$")
        self.upload()
        self.assertEqual(self.published(), self.local)


class FlagsTest(unittest.TestCase):
    def test_no_command_changes_a_url(self):
        for module, flags in (
            (train, ("--gin_file", "quickstart", "--run_dir", "r")),
            (evaluate, ("--run_dir", "r")),
            (explain, ("--run_dir", "r", "--output", "o", "a.jpg")),
            (export, ("--run_dir", "r", "--format", "onnx")),
            (ensemble, ("--run_dirs", "a", "b", "--run_dir", "r")),
            (recalibrate, ("--dataset", "clinic", "--output", "r")),
        ):
            self.assertEqual(module.parse([*flags, "--records", ROOT]).records, ROOT, module)


@needs_s3_server
class RunTest(BucketTest):
    @pytest.mark.slow
    def test_records_and_run_of_a_bucket_equal_local_ones(self):
        import evaluate
        from tests import tiny

        local = tiny.run_dir()
        self.put_folder(local.parent / "photographs", "photographs")
        tiny.build_records("folder", "s3://clinic/photographs", ROOT, "--name", "tiny", "--classes", tiny.CLASSES)
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        remote = tiny.train_run(folder, tiny.CONFIG, ROOT)
        for run_dir, records in ((local, tiny.records_root()), (remote, ROOT)):
            flags = ("--run_dir", run_dir, "--records", records, "--bootstrap_samples", 20)
            status, _, errors = commands.run(evaluate.main, *flags)
            self.assertEqual(status, 0, errors)
        names = ("decision.json", "history.csv", "calibration.npz")
        for name in (*names, "evaluation/*/predictions.csv", "evaluation/*/metrics.json"):
            with self.subTest(name):
                (first,), (second,) = local.glob(name), remote.glob(name)
                self.assertEqual(first.read_bytes(), second.read_bytes())


if __name__ == "__main__":
    unittest.main()
