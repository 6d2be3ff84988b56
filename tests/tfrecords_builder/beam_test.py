"""A build on Apache Beam writes what a local build writes, byte for byte."""

import contextlib
import importlib.util
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from tensorflow_datasets.core.utils.shard_utils import ShardConfig

from tests.tfrecords_builder import audit_build_test, trees

BEAM = importlib.util.find_spec("apache_beam")
ON_BEAM = ("--beam_runner", "DirectRunner")


@contextlib.contextmanager
def crashing(path):
    """Make one image crash the process that reads it, locally and on Beam."""
    crop = trees.CrashingCrop(path)
    with (
        mock.patch("tfrecords_builder.build.crop_sample", crop),
        mock.patch("tfrecords_builder.beam_crops.crop_sample", crop),
    ):
        yield


@unittest.skipUnless(BEAM, "Apache Beam is not installed: pip install -c constraints.txt -e '.[beam]'")
class SameRecordsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_copies_bad_images_and_several_shards(self):
        source = audit_build_test.write_clinic(self.folder / "source")
        (source / "05.jpg").write_bytes((source / "05.jpg").read_bytes()[:3000])
        trees.write(source / "06.jpg", trees.encoded(np.zeros((300, 300, 3), np.uint8), "jpeg"))
        with crashing(source / "07.jpg"), mock.patch.object(ShardConfig, "min_shard_size", 20_000):
            status, local, errors = audit_build_test.build(source, self.folder / "local")
            self.assertEqual(status, 0, errors)
            status, output, errors = audit_build_test.build(source, self.folder / "beam", *ON_BEAM)
            self.assertEqual(status, 0, errors)
        found = trees.digests(self.folder / "beam")
        self.assertEqual(found, trees.digests(self.folder / "local"))
        self.assertTrue(any("train.tfrecord-00001-of-00002" in name for name in found), sorted(found))
        self.assertEqual([p.name for p in (self.folder / "beam").iterdir()], ["clinic"])
        self.assertIn("on DirectRunner", output)
        self.assertEqual(output.splitlines()[:-2], local.replace("/local/", "/beam/").splitlines()[:-2])
        rejected = trees.read_csv(self.folder / "beam" / "clinic" / "128-plain-q95" / "1.0.0" / "rejected.csv")
        reasons = {r["image_id"]: r["reason"] for r in rejected}
        self.assertEqual(len(reasons), 8)
        self.assertIn("process that read the file crashed", reasons["07.jpg"])

    def test_pairs_with_lesion_masks(self):
        drawn = ("--patients", 5, "--side", 256, "--image_size", 64)
        flags = ("synthetic", "--source", self.folder / "source", *drawn, "--paired")
        for records, more in (("local", ("--workers", 2)), ("beam", ON_BEAM)):
            status, _, errors = trees.run_builder(*flags, "--records", self.folder / records, *more)
            self.assertEqual(status, 0, errors)
        self.assertEqual(trees.digests(self.folder / "beam"), trees.digests(self.folder / "local"))

    def test_user_errors_are_one_line(self):
        for flags, message in (
            (("--beam_runner", "Nowhere"), "Unexpected pipeline runner: Nowhere. Valid values are"),
            ((*ON_BEAM, "--beam_option", "direct_num_workers=x"), "invalid int value: 'x'"),
            ((*ON_BEAM, "--beam_option=--streaming"), "without dashes"),
            (("--beam_option", "streaming"), "--beam_option needs --beam_runner"),
        ):
            with self.subTest(message):
                self.assert_refused(flags, message)

    def test_missing_results_of_workers_are_an_error(self):
        with mock.patch("tfrecords_builder.beam_crops._in_order", return_value=iter([])):
            self.assert_refused(ON_BEAM, "left 0 of 5 results below")
        self.assertEqual(list((self.folder / "records").iterdir()), [])

    def assert_refused(self, flags, message):
        trees.write_folder(self.folder / "source")
        flags = ("--source", self.folder / "source", "--records", self.folder / "records", *flags)
        status, _, errors = trees.run_builder("folder", "--classes", "none,mild,moderate,severe,proliferative", *flags)
        self.assertNotEqual(status, 0)
        self.assertIn(message, errors)
        self.assertNotIn("Traceback", errors)
        self.assertLessEqual(len([line for line in errors.splitlines() if line.startswith("error")]), 1, errors)


class WithoutBeamTest(unittest.TestCase):
    def test_error_names_the_extra_to_install(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(sys.modules, {"apache_beam": None}):
            flags = ("--source", trees.write_folder(folder, classes=("no", "yes")), "--records", folder, *ON_BEAM)
            status, _, errors = trees.run_builder("folder", "--classes", "no,yes", "--label", "any_dr", *flags)
        self.assertNotEqual(status, 0)
        self.assertIn("[train,beam]", errors)
        self.assertEqual(len(errors.strip().splitlines()), 1, errors)


if __name__ == "__main__":
    unittest.main()
