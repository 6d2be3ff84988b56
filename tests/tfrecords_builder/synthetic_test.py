"""The synthetic layout from drawing to records, single and paired, with lesion masks."""

import contextlib
import io
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from dr_tf.fundus.prepare import prepare
from dr_tf.fundus.synthesis import CAMERAS, LESIONS
from tfrecords_builder.__main__ import main
from tfrecords_builder.tables import read_table


def _build(folder, *flags):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(
            [
                "synthetic",
                "--source",
                f"{folder}/photographs",
                "--records",
                f"{folder}/records",
                "--image_size",
                "128",
                "--workers",
                "2",
                *flags,
            ]
        )
    return out.getvalue()


def _examples(folder, config, split=None):
    builder = tfds.builder_from_directory(f"{folder}/records/synthetic/{config}/1.0.0")
    splits = [split] if split else list(builder.info.splits)
    return [example for name in splits for example in tfds.as_numpy(builder.as_dataset(name))]


class SyntheticTest(tf.test.TestCase):
    FLAGS = ("--patients", "8", "--side", "256", "--grade_shares", "1,1,1,1,1", "--findings_share", "0.5")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls._temporary.name)
        _build(cls.folder, *cls.FLAGS, "--sheet", f"{cls.folder}/sheet.png")
        _build(cls.folder, *cls.FLAGS, "--paired")
        cls.rows = {row["image_id"]: row for row in read_table(cls.folder / "photographs" / "labels.csv")}
        cls.single = _examples(cls.folder, "128-plain-q95")
        cls.paired = _examples(cls.folder, "128-plain-q95-paired")

    @classmethod
    def tearDownClass(cls):
        cls._temporary.cleanup()
        super().tearDownClass()

    def test_one_record_per_image_with_the_labels_of_the_table(self):
        self.assertLen(self.single, 16)
        for example in self.single:
            row = self.rows[example["image_id"].decode()]
            self.assertEqual(example["grade"], int(row["grade"]))
            self.assertEqual(example["eye"].decode(), row["eye"])
            self.assertEqual(example["source"].decode(), row["camera"])
            self.assertIn(row["camera"], CAMERAS)
            self.assertEqual("".join(map(str, example["labels"])), row["labels"])
            self.assertTrue(example["patient_known"])

    def test_masks_are_aligned_with_the_crop(self):
        """Microaneurysms are darker in green than what surrounds them, on the crop as on the original."""
        differences = []
        for example in self.single:
            for lesion, mask in zip(example["masks"]["lesion"], example["masks"]["mask"], strict=True):
                self.assertIn(lesion.decode(), LESIONS)
                self.assertAllInSet(np.unique(mask), [0, 1])
                mask = mask[..., 0].astype(bool)
                if lesion == b"haemorrhages" and mask.sum() > 20:
                    green = example["image"][..., 1].astype(float)
                    around = tf.nn.max_pool2d(mask[None, ..., None].astype(float), 7, 1, "SAME").numpy()[0, ..., 0] > 0
                    differences.append(green[mask].mean() - green[around & ~mask].mean())
        self.assertNotEmpty(differences)
        self.assertLess(np.median(differences), -3)

    def test_grade_0_has_no_microaneurysm_masks(self):
        for example in self.single:
            if example["grade"] == 0:
                self.assertNotIn(b"microaneurysms", list(example["masks"]["lesion"]))

    def test_a_pair_holds_both_eyes_and_the_patients_labels(self):
        self.assertLen(self.paired, 8)
        for pair in self.paired:
            patient = pair["patient_id"].decode()
            self.assertTrue(pair["left_present"] and pair["right_present"])
            for eye in ("left", "right"):
                row = self.rows[f"{patient}_{eye}"]
                self.assertEqual(pair[eye]["grade"], int(row["grade"]))
                self.assertEqual("".join(map(str, pair["labels"])), row["patient_labels"])
                data = (self.folder / "photographs" / "images" / f"{patient}_{eye}.jpg").read_bytes()
                self.assertAllClose(
                    pair[eye]["image"].astype(float), prepare(data, size=128).image.astype(float), atol=40
                )

    def test_a_patient_is_in_one_split(self):
        builder = tfds.builder_from_directory(f"{self.folder}/records/synthetic/128-plain-q95/1.0.0")
        seen = {}
        for split in builder.info.splits:
            for example in tfds.as_numpy(builder.as_dataset(split)):
                self.assertEqual(seen.setdefault(example["patient_id"], split), split)

    def test_the_sheet_is_drawn(self):
        self.assertGreater((self.folder / "sheet.png").stat().st_size, 10_000)

    def test_other_flags_do_not_change_drawn_images(self):
        before = (self.folder / "photographs" / "labels.csv").read_bytes()
        with self.assertRaisesRegex(SystemExit, "drawn with other flags"):
            _build(self.folder, "--patients", "9", "--side", "256")
        self.assertEqual((self.folder / "photographs" / "labels.csv").read_bytes(), before)

    def test_options_that_cannot_be_read_are_refused(self):
        for text in ("", "{", "[" * 100_000, "\xff"):
            with tempfile.TemporaryDirectory() as folder:
                (pathlib.Path(folder) / "photographs").mkdir()
                (pathlib.Path(folder) / "photographs" / "options.json").write_bytes(text.encode("latin-1"))
                with self.assertRaisesRegex(SystemExit, "options.json cannot be read"):
                    _build(folder, "--patients", "9")

    def test_a_folder_with_other_files_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "photographs").mkdir()
            (pathlib.Path(folder) / "photographs" / "thesis.doc").write_text("mine")
            with self.assertRaisesRegex(SystemExit, "contains other files"):
                _build(folder)

    def test_wrong_flags_are_one_line_errors(self):
        for flags, message in (
            (("--cameras", "polaroid"), "unknown camera polaroid; known: "),
            (("--grade_shares", "1,2"), "give five shares"),
            (("--patients", "0"), "at least 1"),
        ):
            with self.subTest(flags=flags), self.assertRaisesRegex(SystemExit, message):
                _build(self.folder / "new", *flags)


if __name__ == "__main__":
    tf.test.main()
