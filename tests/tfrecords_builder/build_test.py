"""Builds from source to records: contents, repeatability, failures, kills, and concurrent builds."""

import errno
import fcntl
import hashlib
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import cv2
import numpy as np
import pytest
import tensorflow as tf

from dr_tf.fundus.prepare import prepare
from tests.tfrecords_builder import trees
from tfrecords_builder import records as writer
from tfrecords_builder.crops import CropStore, crop_sample
from tfrecords_builder.fingerprint import fingerprint
from tfrecords_builder.plan import Options, Plan
from tfrecords_builder.samples import Listing, make_sample

ROOT = pathlib.Path(__file__).parents[2]
SIZE = 64

# Prints every record as plain values; it knows TFDS and nothing of this project.
READER = """
import pickle, sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
records = {split: list(tfds.as_numpy(builder.as_dataset(split))) for split in builder.info.splits}
assert not any(name.split(".")[0] in ("dr_tf", "tfrecords_builder") for name in sys.modules)
plain = lambda v: {k: plain(w) for k, w in v.items()} if isinstance(v, dict) else v
records = {split: [plain(record) for record in rows] for split, rows in records.items()}
pickle.dump(records, open(sys.argv[2], "wb"))
"""

# file, grade, dme, patient, eye, split, age, sex, camera
ROWS = (
    ("a.jpg", 0, 0, "p1", "L", "train", 50, "f", "Kowa"),
    ("b.jpg", 0, "", "p1", "R", "train", 50, "f", "Kowa"),
    ("c.jpg", 1, 0, "p2", "L", "train", "", "", ""),
    ("d.jpg", 2, 1, "p3", "R", "train", 61, "m", "Topcon"),
    ("e.jpg", 3, 2, "p4", "", "train", 70, "m", ""),
    ("f.jpg", 4, 2, "p5", "", "train", 33, "f", ""),
    ("g.jpg", 2, "", "", "", "train", "", "", ""),
    ("h.jpg", "", "", "", "", "train", "", "", ""),
    ("deep/i.jpg", 0, 0, "p6", "L", "test", 44, "f", "Kowa"),
    ("deep/j.jpg", 4, 1, "p7", "R", "test", 45, "m", "Kowa"),
    ("torn.jpg", 4, 1, "p7", "L", "train", 45, "m", "Kowa"),
    ("broken.jpg", 1, 0, "p8", "L", "train", 45, "m", "Kowa"),
    ("black.png", 1, 0, "p9", "L", "train", 45, "m", "Kowa"),
    ("absent.jpg", 1, 0, "p9", "L", "train", 45, "m", "Kowa"),
    ("a.jpg", 0, 0, "p1", "L", "train", 50, "f", "Kowa"),
)
COLUMNS = ("file", "grade", "dme", "patient", "eye", "split", "age", "sex", "camera")
GOOD = {row[0]: row for row in ROWS[:10]}
COLUMN_FLAGS = [part for column in COLUMNS[1:] for part in (f"--{column}_column", column)]
FOLDER_FLAGS = ("--classes", "none,mild,moderate,severe,proliferative", "--workers", "2", "--image_size", SIZE)


def write_source(source):
    trees.write_photographs(source, GOOD)
    trees.write(source / "torn.jpg", trees.jpeg(trees.photograph(30)))
    trees.write(source / "broken.jpg", trees.jpeg(trees.photograph(31))[:3000])
    trees.write(source / "black.png", trees.encoded(np.zeros((300, 300, 3), np.uint8), "png"))
    trees.write_table(source / "labels.csv", COLUMNS, ROWS)
    return source


def csv_flags(source, records):
    flags = ["csv", "--source", source, "--records", records, "--image_size", SIZE, "--workers", 2]
    return [*flags, "--labels", source / "labels.csv", "--name", "clinic", "--image_column", "file", *COLUMN_FLAGS]


def build_csv(source, records, *arguments):
    return trees.run_builder(*csv_flags(source, records), *arguments)


def build_folder(source, records, *arguments):
    return trees.run_builder("folder", "--source", source, "--records", records, *FOLDER_FLAGS, *arguments)


class TemporaryTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source, self.records = self.folder / "source", self.folder / "records"

    def assert_only_finished(self, *targets):
        """Assert that the records folder contains these record sets and nothing else."""
        files = {path for path in self.records.rglob("*") if path.is_file()}
        below = {path for path in files if any(target in path.parents for target in targets)}
        self.assertEqual(files, below)
        self.assertTrue(all((target / "dataset_info.json").is_file() for target in targets))
        self.assertEqual([p.name for p in self.records.iterdir() if p.name.startswith(".")], [])

    def assert_refused(self, result, *expected):
        status, output, errors = result
        self.assertNotEqual(status, 0)
        self.assertNotIn("Traceback", output + errors)
        for text in expected:
            self.assertIn(text, errors)


class RecordsTest(TemporaryTest):
    """One build of a table with every column, read back by a process that does not import this project."""

    @classmethod
    def setUpClass(cls):
        cls.tree = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.tree)
        cls.original = write_source(cls.tree / "source")
        cls.built = cls.tree / "records"
        cls.result = build_csv(cls.original, cls.built, "--sheet", cls.tree / "sheets" / "sheet.png")
        cls.target = cls.built / "clinic" / f"{SIZE}-plain-q95" / "1.0.0"
        dump = cls.tree / "dump"
        subprocess.run([sys.executable, "-c", READER, cls.target, dump], cwd=cls.tree, check=True, capture_output=True)
        cls.splits = pickle.loads(dump.read_bytes())
        cls.read = {r["image_id"].decode(): r for records in cls.splits.values() for r in records}

    def test_each_good_image_has_one_record(self):
        self.assertEqual(self.result[0], 0, self.result[2])
        self.assertEqual(set(self.read), set(GOOD))
        self.assertEqual(sum(map(len, self.splits.values())), len(GOOD))

    def test_published_test_split_is_kept_and_the_others_are_assigned(self):
        self.assertEqual({r["image_id"].decode() for r in self.splits["test"]}, {"deep/i.jpg", "deep/j.jpg"})
        self.assertGreaterEqual(len(self.splits["train"]), 5)

    def test_labels_and_identity(self):
        def number(cell):
            return -1 if cell == "" else cell

        eyes, sexes = {"L": "left", "R": "right", "": ""}, {"f": "female", "m": "male", "": ""}
        for name, grade, dme, patient, eye, _, age, sex, camera in GOOD.values():
            with self.subTest(name):
                record = self.read[name]
                found = {k: v.decode() if isinstance(v, bytes) else v for k, v in record.items()}
                any_dr = -1 if grade == "" else int(grade > 0)
                numbers = {"grade": number(grade), "dme": number(dme), "age": number(age), "any_dr": any_dr}
                for field, value in numbers.items():
                    self.assertEqual(found[field], value, field)
                texts = {"eye": eyes[eye], "sex": sexes[sex], "camera": camera, "source": ""}
                for field, value in texts.items():
                    self.assertEqual(found[field], value, field)
                self.assertEqual(found["patient_id"], patient or name)
                self.assertEqual(found["patient_known"], bool(patient))
                self.assertEqual(found["labels"].tolist(), [-1] * 8)
                self.assertEqual(found["masks"]["lesion"].shape, (0,))
                self.assertEqual(len(found["masks"]["mask"]), 0)

    def test_pixels_geometry_and_digest_match_the_original(self):
        for name, record in self.read.items():
            with self.subTest(name):
                data = (self.original / name).read_bytes()
                prepared = prepare(data, size=SIZE)
                self.assertEqual(record["image"].shape, (SIZE, SIZE, 3))
                error = np.abs(record["image"].astype(int) - prepared.image)
                self.assertLess(error.mean(), 3)
                geometry, quality = prepared.geometry, prepared.gradability
                np.testing.assert_allclose(record["circle"], geometry.circle, rtol=1e-6)
                self.assertEqual(tuple(record["crop"]), geometry.rectangle)
                self.assertEqual(tuple(record["padding"]), geometry.padding)
                self.assertEqual(tuple(record["original_size"]), (trees.WIDTH, trees.HEIGHT))
                for part, value in record["gradability"].items():
                    np.testing.assert_allclose(value, getattr(quality, part), rtol=1e-6)
                self.assertEqual(record["sha256"].decode(), hashlib.sha256(data).hexdigest())

    def test_rejected_csv_lists_each_rejection_with_its_reason(self):
        found = {(r["image_id"], r["path"]): r["reason"] for r in trees.read_csv(self.target / "rejected.csv")}
        self.assertEqual(len(found), 5)
        self.assertIn("cut short", found["broken.jpg", "broken.jpg"])
        self.assertIn("no retina found", found["black.png", "black.png"])
        self.assertIn("no image of this name", found["absent.jpg", "labels.csv, row 15"])
        self.assertIn("published in train, but its patient p7 is also in test", found["torn.jpg", "torn.jpg"])
        self.assertEqual(found["a.jpg", "a.jpg"], "listed twice")

    def test_folds_csv_covers_everything_outside_the_test_split(self):
        rows = {row["image_id"]: row for row in trees.read_csv(self.target / "folds.csv")}
        self.assertEqual(set(rows), set(GOOD) - {"deep/i.jpg", "deep/j.jpg"})
        self.assertEqual(rows["a.jpg"]["fold"], rows["b.jpg"]["fold"], "a patient is in one fold")
        self.assertEqual((rows["d.jpg"]["patient_id"], rows["d.jpg"]["grade"]), ("p3", "2"))
        self.assertEqual((rows["h.jpg"]["patient_id"], rows["h.jpg"]["grade"]), ("h.jpg", "-1"))
        self.assertLessEqual({row["fold"] for row in rows.values()}, set("01234"))

    def test_summary_counts_splits_grades_rejections_sizes_and_seconds(self):
        lines = [line.split() for line in self.result[1].splitlines()]
        self.assertIn(["test", "1", "0", "0", "0", "1", "0", "2"], lines)
        self.assertIn(["all", "3", "1", "2", "1", "2", "1", "10"], lines)
        for text in (
            "rejected: 5 (listed in rejected.csv)",
            "1  listed twice",
            "the patient of 2 images is unknown",
            "MB of images -> ",
            " images/s with 2 workers)",
            str(self.target),
        ):
            self.assertIn(text, self.result[1])

    def test_progress_shows_a_bar_and_a_rate(self):
        self.assertIn("images below", self.result[2])
        self.assertRegex(self.result[2], r"cropping: +\d+%.*images")

    def test_contact_sheet_shows_good_and_rejected_images(self):
        sheet = cv2.imread(str(self.tree / "sheets" / "sheet.png"))
        shown = len(GOOD) + 4  # torn, broken, black, and the repeat of a.jpg
        rows, columns, caption = -(-shown // 4), 4, 34
        self.assertEqual((sheet.shape[0] % rows, sheet.shape[1] % columns), (0, 0))
        height, width = sheet.shape[0] // rows, sheet.shape[1] // columns
        self.assertTrue(300 <= width <= 400 and width / 2 < height < width, "two squares and a caption in each cell")

        def cells_with(rgb, part):
            found = np.all(np.abs(sheet[..., ::-1].astype(int) - rgb) < 40, -1).reshape(rows, height, columns, width)
            return found[:, part].any((1, 3)).ravel().tolist()

        refused = cells_with((235, 70, 60), slice(height - caption, None))
        self.assertEqual(refused, [True] * 4 + [False] * 12, "captions of what was rejected are red and come first")
        bordered = cells_with((60, 220, 60), slice(0, height - caption))
        self.assertEqual(bordered, [False] * 4 + [True] * len(GOOD) + [False] * 2, "the border is drawn on originals")

    def test_nothing_else_is_left_in_the_records_folder(self):
        self.records = self.built
        self.assert_only_finished(self.target)

    def test_same_bytes_whatever_the_number_of_workers_and_wherever_the_source_lies(self):
        expected = trees.digests(self.target)
        moved = self.folder / "elsewhere" / "photographs"
        shutil.copytree(self.original, moved)
        for workers, source in ((1, self.original), (3, moved)):
            with self.subTest(workers=workers):
                records = self.folder / f"records{workers}"
                self.assertEqual(build_csv(source, records, "--workers", workers)[0], 0)
                self.assertEqual(trees.digests(records / self.target.relative_to(self.built)), expected)

    @pytest.mark.slow
    def test_same_bytes_in_another_process(self):
        # The order of a proto's fields once followed each process's own hash seed.
        flags = csv_flags(self.original, self.records)
        command = [sys.executable, "-m", "tfrecords_builder", *map(str, flags)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        self.assertEqual(trees.digests(self.records / self.target.relative_to(self.built)), trees.digests(self.target))

    def test_second_run_reports_that_the_records_are_up_to_date(self):
        before = trees.digests(self.built)
        status, output, _ = build_csv(self.original, self.built)
        self.assertEqual(status, 0)
        self.assertIn(f"{self.target} is up to date: same options, same 13 images", output)
        self.assertEqual(trees.digests(self.built), before)

    def test_changed_options_are_listed_and_the_records_stay(self):
        before = trees.digests(self.built)
        for arguments, expected in (
            (("--seed", "7"), "seed: 0 before, 7 now"),
            (("--folds", "3"), "folds: 5 before, 3 now"),
            (("--max_megapixels", "50"), "max_megapixels: 200 before, 50 now"),
            (("--shares", "train=1"), "shares: "),
        ):
            with self.subTest(arguments):
                self.assert_refused(
                    build_csv(self.original, self.built, *arguments), expected, "--overwrite rebuilds it"
                )
        self.assertEqual(trees.digests(self.built), before)

    def test_changed_source_is_reported(self):
        def relabel(source):
            table = source / "labels.csv"
            table.write_text(table.read_text().replace("d.jpg,2", "d.jpg,3"))

        def grow(source):
            trees.write(source / "c.jpg", (source / "c.jpg").read_bytes() + b"\0")

        def remove(source):
            (source / "c.jpg").unlink()

        for change, expected in (
            (relabel, "their names, sizes or labels changed"),
            (grow, "their names, sizes or labels changed"),
            (remove, "source table: 13 images before, 12 now"),
        ):
            with self.subTest(change.__name__):
                source = self.folder / change.__name__
                shutil.copytree(self.original, source)
                change(source)
                self.assert_refused(build_csv(source, self.built), expected)


class IdridRecordsTest(TemporaryTest):
    def test_published_split_is_kept_and_source_may_be_either_folder(self):
        root = trees.write_idrid(self.source)
        arguments = ("--records", self.records, "--image_size", SIZE, "--workers", 2)
        status, output, _ = trees.run_builder("idrid", "--source", self.source, *arguments)
        self.assertEqual(status, 0)
        lines = [line.split() for line in output.splitlines()]
        self.assertIn(["test", "1", "0", "1", "0", "0", "2"], lines)
        self.assertIn(["all", "3", "1", "2", "1", "1", "8"], lines)
        status, output, _ = trees.run_builder("idrid", "--source", root, *arguments)
        self.assertIn("is up to date: same options, same 8 images", output)


class FolderTreeTest(TemporaryTest):
    def setUp(self):
        super().setUp()
        trees.write_folder(self.source, each=2)
        self.target = self.records / "folder" / f"{SIZE}-plain-q95" / "1.0.0"

    def all_bad(self):
        source = self.folder / "bad"
        for path in self.source.rglob("*.jpg"):
            trees.write(source / path.relative_to(self.source), b"")
        return source


class OverwriteTest(FolderTreeTest):
    def setUp(self):
        super().setUp()
        self.assertEqual(build_folder(self.source, self.records)[0], 0)
        self.before = trees.digests(self.target)

    def test_replaces_records_that_are_there(self):
        self.assertEqual(build_folder(self.source, self.records, "--seed", 5, "--overwrite")[0], 0)
        after = trees.digests(self.target)
        self.assertEqual(set(after) >= {"folds.csv", "metadata.json"}, True)
        self.assertNotEqual(after["metadata.json"], self.before["metadata.json"])
        self.assert_only_finished(self.target)

    @unittest.skipUnless(sys.platform == "linux", "exchanges folders as Linux does")
    def test_the_old_records_stay_in_place_until_the_new_ones_are_there(self):
        moved, rename = [], os.rename
        with mock.patch.object(os, "rename", lambda path, target: (moved.append(str(path)), rename(path, target))):
            self.assertEqual(build_folder(self.source, self.records, "--seed", 5, "--overwrite")[0], 0)
        self.assertNotIn(str(self.target), moved)
        self.assertNotEqual(trees.digests(self.target), self.before)
        self.assert_only_finished(self.target)

    def test_old_records_survive_builds_that_fail(self):
        self.enterContext(mock.patch("tfrecords_builder.build.exchange", return_value=False))
        rename = os.rename

        def no_second_rename(path, target):
            if str(target) == str(self.target) and ".building" in str(path):
                raise OSError(errno.EIO, "Input/output error", str(target))
            return rename(path, target)

        failures = {
            "no image is left": mock.patch.object(writer, "FundusRecords"),  # is not reached
            "No space left": mock.patch.object(writer.SortedFieldsWriter, "write", side_effect=full_disk()),
            "Input/output error": mock.patch.object(os, "rename", no_second_rename),
        }
        for expected, failure in failures.items():
            source = self.all_bad() if "no image" in expected else self.source
            with self.subTest(expected), failure:
                self.assert_refused(build_folder(source, self.records, "--overwrite"), expected)
            self.assertEqual(trees.digests(self.target), self.before)
            self.assert_only_finished(self.target)

    def test_a_kill_between_the_two_renames_is_repaired(self):
        replaced = self.records / f".replaced-folder-{SIZE}-plain-q95"
        self.target.rename(replaced)
        (self.records / f".building-folder-{SIZE}-plain-q95").mkdir()
        status, output, _ = build_folder(self.source, self.records)
        self.assertEqual(status, 0)
        self.assertIn("is up to date", output)
        self.assertEqual(trees.digests(self.target), self.before)
        self.assert_only_finished(self.target)

    def test_a_kill_after_both_renames_keeps_the_new_records(self):
        shutil.copytree(self.target, self.records / f".replaced-folder-{SIZE}-plain-q95")
        self.assertIn("is up to date", build_folder(self.source, self.records)[1])
        self.assertEqual(trees.digests(self.target), self.before)
        self.assert_only_finished(self.target)

    def test_damaged_shards_are_an_error(self):
        shard = next(self.target.glob("*.tfrecord*"))
        whole, manifest = shard.read_bytes(), self.target / "checksums.json"
        altered = bytes([whole[len(whole) // 2] ^ 1])
        altered = whole[: len(whole) // 2] + altered + whole[len(whole) // 2 + 1 :]
        noted = manifest.read_text()
        for data, expected in (
            (whole[: len(whole) // 2], f"is damaged: {shard.name} has {len(whole) // 2} bytes, not {len(whole)}; --ov"),
            (altered, f"is damaged: {shard.name} was altered"),
            (None, f"is damaged: {shard.name} is missing"),
        ):
            with self.subTest(expected):
                shard.unlink() if data is None else shard.write_bytes(data)
                self.assert_refused(build_folder(self.source, self.records), expected)
        manifest.unlink()  # as sets are that were written before there was one
        self.assert_refused(build_folder(self.source, self.records), "is damaged: the split")
        shard.write_bytes(whole[: len(whole) // 2])
        self.assert_refused(build_folder(self.source, self.records), "is damaged: the shards of the split")
        shard.write_bytes(whole)
        self.assertIn("is up to date", build_folder(self.source, self.records)[1])
        manifest.write_text(noted)
        shard.write_bytes(altered)
        self.assertEqual(build_folder(self.source, self.records, "--overwrite")[0], 0)
        self.assertEqual(shard.read_bytes(), whole)

    def test_records_of_another_builder_are_an_error(self):
        for text in ("{}", "[]", '{"fingerprint": 3}', '{"fingerprint": {"options": 1}}', "half {"):
            with self.subTest(text):
                (self.target / "metadata.json").write_text(text)
                self.assert_refused(build_folder(self.source, self.records), "was not written by this builder")


def full_disk():
    return OSError(errno.ENOSPC, "No space left on device", "/records/x.tfrecord")


class FailureTest(FolderTreeTest):
    def test_full_disk_gives_one_line_and_leaves_nothing(self):
        # TensorFlow's writer has errors of its own, which are no OSError, and TFDS wraps them once more.
        tensorflow_s = tf.errors.ResourceExhaustedError(None, None, "x.tfrecord; No space left on device")
        for failure in (
            mock.patch.object(writer.SortedFieldsWriter, "write", side_effect=full_disk()),
            mock.patch.object(writer.SortedFieldsWriter, "write", side_effect=tensorflow_s),
            mock.patch.object(CropStore, "append", side_effect=full_disk()),
        ):
            with self.subTest(failure), failure:
                result = build_folder(self.source, self.records)
                self.assert_refused(result, "error: ", "No space left on device", "no partial files were left")
                self.assert_only_finished()

    def test_a_programming_error_passes_through(self):
        with mock.patch.object(writer, "to_example", side_effect=ZeroDivisionError), self.assertRaises(Exception) as e:
            build_folder(self.source, self.records)
        self.assertNotIsInstance(e.exception, SystemExit)
        self.assert_only_finished()

    def test_records_folder_that_cannot_be_written(self):
        file = trees.write(self.folder / "file", b"")
        self.assert_refused(build_folder(self.source, file), "error: File exists", str(file))
        self.assert_refused(build_folder(self.source, file / "below"), "error: Not a directory")

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_read_only_records_folder(self):
        self.records.mkdir(mode=0o500)
        self.assert_refused(build_folder(self.source, self.records), "error: Permission denied")

    def test_no_image_left_is_an_error_with_the_main_reasons(self):
        result = build_folder(self.all_bad(), self.records)
        self.assert_refused(result, "error: no image is left to build from\n  10 x the file is empty")
        self.assert_only_finished()

    def test_a_second_build_at_the_same_time_is_an_error(self):
        self.records.mkdir()
        with open(self.records / f".building-folder-{SIZE}-plain-q95.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assert_refused(build_folder(self.source, self.records), f"another build of {self.target} is running")
        self.assertEqual(build_folder(self.source, self.records)[0], 0)
        self.assert_only_finished(self.target)

    def test_only_the_image_that_crashes_its_worker_is_rejected(self):
        # A decoder that crashes takes its process with it: here, by an environment that the workers share.
        victim = self.source / "mild" / "01.jpg"
        with mock.patch("tfrecords_builder.build.crop_sample", trees.CrashingCrop(victim)):
            status, _, errors = build_folder(self.source, self.records)
        self.assertEqual(status, 0, errors)
        (row,) = trees.read_csv(self.target / "rejected.csv")
        self.assertEqual(row["image_id"], "mild/01.jpg")
        self.assertIn("the process that read the file crashed", row["reason"])


# Stage of a build -> code that slows the stage down, so that the test can kill the build during it.
MOMENTS = {
    "cropping": """
from tfrecords_builder.crops import CropStore
append = CropStore.append
CropStore.append = lambda self, crop: (append(self, crop), self._file.flush(), say(), time.sleep(0.3))""",
    "writing": """
from tfrecords_builder import records
to_example = records.to_example
records.to_example = lambda crop: (say(), time.sleep(0.3), to_example(crop))[2]""",
    "renaming": """
from tfrecords_builder import build
build._put_in_place = lambda plan, folder: (say(), time.sleep(60))""",
}


class KilledTest(FolderTreeTest):
    def start(self, moment):
        """Start the command in its own process group, and return it when it reaches the stage."""
        sign = self.folder / f"at-{moment}"
        script = self.folder / f"{moment}.py"
        script.write_text(  # what a shell starts in the background ignores the interrupt key, and so would this
            "import pathlib, signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"sys.path.insert(0, {str(ROOT)!r})\n"
            f"say = pathlib.Path({str(sign)!r}).touch\n"
            "if __name__ == '__main__':"
            + MOMENTS[moment].replace("\n", "\n    ")
            + "\n    from tfrecords_builder.__main__ import main\n    main(sys.argv[1:])\n"
        )
        flags = ("folder", "--source", self.source, "--records", self.records, *FOLDER_FLAGS)
        process = subprocess.Popen(
            [sys.executable, script, *map(str, flags)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.addCleanup(self.end, process)
        until = time.monotonic() + 120
        while not sign.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        self.assertTrue(sign.exists() and process.poll() is None, f"the build is {moment}")
        return process

    def end(self, process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    @pytest.mark.slow
    def test_killed_at_any_moment_nothing_looks_finished_and_the_next_run_starts_cleanly(self):
        for moment in MOMENTS:
            for kill in (os.killpg, os.kill):
                if kill is os.kill and moment != "cropping":
                    continue  # only then are there workers that could outlive the parent
                with self.subTest(moment=moment, kill=kill.__name__):
                    process = self.start(moment)
                    kill(process.pid, signal.SIGKILL)
                    process.communicate(timeout=30)  # ends when the last worker has let go of the pipe
                    self.assertFalse(self.target.exists())
                    self.assertTrue(any(p.name.startswith(".building") for p in self.records.iterdir()))
                    self.assertEqual(list(self.records.glob("[!.]*/*/1.0.0")), [])
                    (self.folder / f"at-{moment}").unlink()
        self.assertEqual(build_folder(self.source, self.records)[0], 0)
        self.assert_only_finished(self.target)

    def test_leftovers_of_each_stage_are_cleaned_up(self):
        staging = self.records / f".building-folder-{SIZE}-plain-q95"
        for name in ("crops", f"folder/{SIZE}-plain-q95/incomplete.AAA_1.0.0/x.tfrecord", "folder/x/1.0.0/folds.csv"):
            trees.write(staging / name, b"half")
        trees.write(staging.with_name(staging.name + ".lock"), b"")
        self.assertEqual(build_folder(self.source, self.records)[0], 0)
        self.assert_only_finished(self.target)

    def test_the_interrupt_key_ends_in_one_line(self):
        process = self.start("cropping")
        time.sleep(1)  # the other worker may still be starting, when the interpreter itself answers the key
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("stopped; no partial files were left", output)
        self.assertNotIn("Traceback", output)
        self.assert_only_finished()

    @pytest.mark.slow
    def test_two_processes_at_once(self):
        process = self.start("renaming")
        self.assert_refused(build_folder(self.source, self.records), "another build of", "is running")
        self.assertIsNone(process.poll(), "the first is not disturbed")


class FingerprintTest(TemporaryTest):
    def of(self, source, mask=b"mask", grade=2):
        photograph = trees.write(self.folder / source / "a.jpg", b"photograph")
        masks = (("exudates", trees.write(self.folder / source / "a.png", mask)),)
        sample = make_sample(image_id="a.jpg", path=photograph, grade=grade, masks=masks)
        plan = Plan(name="x", source=self.folder / source, records=self.records, options=Options(), shares={"train": 1})
        return fingerprint(plan, Listing([sample], []))

    def test_paths_do_not_affect_the_fingerprint(self):
        self.assertEqual(self.of("here"), self.of("there"))

    def test_labels_and_file_sizes_affect_the_fingerprint(self):
        same = self.of("here")
        self.assertNotEqual(same, self.of("here", grade=3))
        self.assertNotEqual(same, self.of("here", mask=b"another mask"))


class CropStoreTest(TemporaryTest):
    def crops(self):
        for seed in range(3):
            path = trees.write(self.folder / f"{seed}.jpg", trees.jpeg(trees.photograph(seed)))
            options = Options(image_size=SIZE, audit="off")
            yield crop_sample(make_sample(image_id=path.name, path=path, split="train"), options)

    def test_jpegs_are_on_disk_only_and_can_be_read_back(self):
        with CropStore(self.folder / "crops") as store:
            expected = list(self.crops())
            for crop in expected:
                store.append(crop)
            self.assertEqual([crop.jpeg for crop in store.crops()], [b""] * 3, "memory holds no JPEG")
            self.assertEqual(list(store.read_split("train")), expected)
            self.assertGreaterEqual((self.folder / "crops").stat().st_size, sum(len(crop.jpeg) for crop in expected))

    def test_crops_without_an_updated_sample_are_dropped(self):
        with CropStore(self.folder / "crops") as store:
            for crop in self.crops():
                store.append(crop)
            store.update_samples({"1.jpg": make_sample(image_id="1.jpg", path=self.folder / "1.jpg", split="test")})
            self.assertEqual([crop.sample.image_id for crop in store.read_split("test")], ["1.jpg"])
            self.assertEqual(list(store.read_split("train")), [])
            self.assertEqual(len(store.crops()), 1)


if __name__ == "__main__":
    unittest.main()
