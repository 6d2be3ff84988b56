"""The leak audit from images to audit.csv: copies are found, rejected, and flagged in a published test split."""

import contextlib
import csv
import io
import os
import pathlib
import tempfile
import unittest

import cv2
import numpy as np
import pytest

from dr_tf.fundus.synthesis import render_patient
from tfrecords_builder.__main__ import main

SHARED = pathlib.Path(os.environ.get("DR_TF_SHARED", pathlib.Path(__file__).parents[3] / "shared"))
IDRID = SHARED / "data" / "idrid"


def _build(layout, source, records, *flags):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main([layout, "--source", str(source), "--records", str(records), "--workers", "2", *flags])


def _rows(records, name):
    (path,) = pathlib.Path(records).glob(f"*/*/1.0.0/{name}")
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class CopiesTest(unittest.TestCase):
    """Four eyes of two patients, and changed copies of the first one in both splits."""

    FLAGS = ("--classes", "healthy,DR", "--label", "any_dr", "--image_size", "256")

    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.source, cls.records = folder / "source", folder / "records"
        eyes = [eye.image for seed in (3, 8) for eye in render_patient(seed, side=384, grades=(2, 2)).eyes]
        first = eyes[0]
        cls.pictures = {
            "train/DR/eye0.png": first,
            **{f"train/DR/eye{i}.png": eye for i, eye in enumerate(eyes) if i},
            "train/DR/mirrored.jpg": np.ascontiguousarray(first[:, ::-1]),
            "train/DR/smaller.jpg": cv2.resize(first, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
            "test/DR/brighter.jpg": np.clip(first * 1.25, 0, 255).astype(np.uint8),
            "test/healthy/another.png": render_patient(21, side=384, grades=(0, 0)).eyes[0].image,
        }
        for name, picture in cls.pictures.items():
            (cls.source / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(cls.source / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        _build("folder", cls.source, cls.records, *cls.FLAGS)
        cls.pairs = {frozenset((r["image_a"], r["image_b"])): r for r in _rows(cls.records, "audit.csv")}
        cls.rejected = {r["image_id"]: r["reason"] for r in _rows(cls.records, "rejected.csv")}

    def test_every_changed_copy_is_found(self):
        copies = {"train/DR/eye0.png", "train/DR/mirrored.jpg", "train/DR/smaller.jpg", "test/DR/brighter.jpg"}
        for copy in copies - {"train/DR/eye0.png"}:
            self.assertIn(frozenset(("train/DR/eye0.png", copy)), self.pairs)

    def test_other_eyes_are_no_copies(self):
        for pair in self.pairs:
            for name in ("train/DR/eye1.png", "train/DR/eye2.png", "train/DR/eye3.png", "test/healthy/another.png"):
                self.assertNotIn(name, pair)

    def test_what_copies_the_test_split_is_dropped_and_the_test_split_is_whole(self):
        self.assertEqual(set(self.rejected), {"train/DR/eye0.png", "train/DR/mirrored.jpg", "train/DR/smaller.jpg"})
        for reason in self.rejected.values():
            self.assertIn("copy of test/DR/brighter.jpg in the published test split", reason)

    def test_strict_refuses_and_writes_nothing(self):
        with tempfile.TemporaryDirectory() as records:
            with self.assertRaisesRegex(SystemExit, "cross the published splits"):
                _build("folder", self.source, records, *self.FLAGS, "--audit", "strict")
            self.assertEqual(list(pathlib.Path(records).glob("*/*/1.0.0")), [])


@unittest.skipUnless(IDRID.is_dir(), f"needs IDRiD: looked for {IDRID}")
@pytest.mark.slow
class IdridTest(unittest.TestCase):
    def test_the_known_repeats_are_found(self):
        with tempfile.TemporaryDirectory() as records:
            _build("idrid", IDRID, records, "--image_size", "128")
            rows = _rows(records, "audit.csv")
            rejected = {r["image_id"] for r in _rows(records, "rejected.csv")}
        exact = [r for r in rows if r["kind"] == "exact"]
        self.assertEqual(len(exact), 6)
        crossing = [(r["image_a"], r["image_b"]) for r in exact if r["split_a"] != r["split_b"]]
        self.assertEqual(crossing, [("train/IDRiD_118", "test/IDRiD_064")])
        second = [(r["image_a"], r["image_b"], r["kind"]) for r in rows if r not in exact]
        self.assertEqual(second, [("train/IDRiD_013", "train/IDRiD_397", "same_eye")])
        self.assertIn("train/IDRiD_118", rejected)
        self.assertFalse(any(name.startswith("test/") for name in rejected))


if __name__ == "__main__":
    unittest.main()
