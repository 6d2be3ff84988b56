"""Bad and unusual input: each bad file is rejected with a reason, and unusual good files are accepted."""

import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

import cv2
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from dr_tf.fundus.prepare import prepare
from tests.tfrecords_builder import trees

ROOT = pathlib.Path(__file__).parents[2]
SIZE = 64
FLAGS = ("--image_size", SIZE, "--workers", 2, "--classes", "none,mild,moderate,severe,proliferative")

GOOD = trees.photograph(1)
JPEG = trees.jpeg(GOOD)
PNG = trees.encoded(GOOD, "png")
NO_RETINA = "no retina found"


def opencv(kind, pixels):
    """Encode with OpenCV, which writes the formats that Pillow does not."""
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(f".{kind}", np.ascontiguousarray(bgr))[1].tobytes()


def half(data):
    return data[: len(data) // 2]


def jpeg_that_claims(width, height):
    frame = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:frame] + struct.pack(">HH", height, width) + JPEG[frame + 4 :]


def png_that_claims(width, height):
    head = b"IHDR" + struct.pack(">II", width, height) + PNG[24:29]
    return PNG[:12] + head + struct.pack(">I", zlib.crc32(head)) + PNG[33:]


def overwritten(data, with_bytes):
    middle = len(data) // 2
    return data[:middle] + with_bytes + data[middle + len(with_bytes) :]


def plain(colour, shape=(300, 400)):
    return np.full((*shape, 3), colour, np.uint8)


def noise():
    return np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


def page_of_text():
    page = plain(250)
    for y in range(25, 290, 18):
        cv2.putText(page, "Dear colleague, thank you for sending", (10, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20))
    return page


def landscape():
    y, x = np.mgrid[:300, :400]
    sky = np.array([120, 170, 230]) + 0.2 * y[..., None]
    rough = np.random.default_rng(0).normal(0, 20, (300, 400, 3))
    hill = np.array([70, 120, 50]) + cv2.GaussianBlur(rough, (0, 0), 1)
    return np.clip(np.where((y > 170 + 30 * np.sin(x / 50))[..., None], hill, sky), 0, 255).astype(np.uint8)


# Name -> (the file's bytes, what the reason says).
BAD = {
    "truncated.jpg": (half(JPEG), "cut short"),
    "without its last bytes.jpg": (JPEG[:-20], "cut short"),
    "only a header.jpg": (JPEG[:40], "cut short"),
    "truncated.png": (half(PNG), "cut short or damaged"),
    "truncated.tif": (half(opencv("tiff", GOOD)), "cut short"),
    "truncated.bmp": (half(trees.encoded(GOOD, "bmp")), "cut short"),
    "empty.jpg": (b"", "the file is empty"),
    "one byte.png": (b"\x89", "not a JPEG, PNG, TIFF, BMP or DICOM"),
    "text.jpg": (b"a photograph was to be here\n", "not a JPEG, PNG, TIFF, BMP or DICOM"),
    "page.png": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not a JPEG, PNG, TIFF, BMP or DICOM"),
    "archive.tif": (b"PK\x03\x04" + bytes(300), "not a JPEG, PNG, TIFF, BMP or DICOM"),
    "gif.jpg": (trees.encoded(Image.fromarray(GOOD).convert("P"), "gif"), "not a JPEG, PNG, TIFF, BMP or DICOM"),
    "webp.jpg": (trees.encoded(GOOD, "webp"), "not a JPEG, PNG, TIFF, BMP or DICOM"),
    "damaged.jpg": (overwritten(JPEG, b"\xff\xc1\xff\x05" * 40), "damaged"),
    "damaged.png": (overwritten(PNG, bytes(50)), "damaged"),
    "wrong checksum.png": (PNG[:-6] + b"\0\0" + PNG[-4:], "damaged"),
    "gigapixel.png": (png_that_claims(60000, 60000), "over the limit of 200 megapixels"),
    "gigapixel.jpg": (jpeg_that_claims(65000, 65000), "over the limit of 200 megapixels"),
    "no width.png": (png_that_claims(0, 300), "states a size of zero"),
    "no height.jpg": (jpeg_that_claims(400, 0), "states a size of zero"),
    "float.tif": (opencv("tiff", GOOD.astype(np.float32) / 255), "the pixels have type float32"),
    "grey.jpg": (trees.jpeg(Image.fromarray(GOOD).convert("L")), "greyscale or red-free photograph"),
    "grey 16 bit.tif": (opencv("tiff", GOOD[..., 1].astype(np.uint16) * 257), "greyscale or red-free photograph"),
    "flipped.tif": (overwritten(trees.encoded(GOOD, "tiff", compression="tiff_lzw"), b"LZW"), "TIFF file is damaged"),
    "a byte too few.jpg": (JPEG[: len(JPEG) // 2] + JPEG[len(JPEG) // 2 + 100 :], "JPEG file is damaged"),
    "bomb.png": (trees.encoded(np.zeros((6000, 6000, 3), np.uint8), "png"), "no photograph compresses so well"),
    "all black.jpg": (trees.jpeg(plain(0)), NO_RETINA),
    "all white.jpg": (trees.jpeg(plain(255)), NO_RETINA),
    "one colour.png": (trees.encoded(plain((190, 95, 45)), "png"), NO_RETINA),
    "noise.jpg": (trees.jpeg(noise()), NO_RETINA),
    "text page.png": (trees.encoded(page_of_text(), "png"), NO_RETINA),
    "landscape.jpg": (trees.jpeg(landscape()), NO_RETINA),
    "one pixel.png": (trees.encoded(plain(90, (1, 1)), "png"), "1 x 1 pixels are too few"),
    "icon.png": (trees.encoded(cv2.resize(GOOD, (8, 8)), "png"), "8 x 8 pixels are too few"),
    "a line.png": (trees.encoded(plain(90, (1, 3000)), "png"), "too few for a retina"),
}


def exif_rotated():
    """A JPEG stored sideways, with an EXIF orientation that turns it upright."""
    exif = Image.Exif()
    exif[274] = 6
    return trees.jpeg(np.rot90(GOOD), exif=exif)


def with_alpha(opacity):
    return np.dstack([GOOD, np.full(GOOD.shape[:2], opacity, np.uint8)])


# All of these show GOOD, and are understood as a viewer would.
ACCEPTED = {
    "16 bit.png": opencv("png", GOOD.astype(np.uint16) * 257),
    "16 bit.tif": opencv("tiff", GOOD.astype(np.uint16) * 257),
    "12 bit in 16.png": opencv("png", GOOD.astype(np.uint16) * 16),
    "with alpha.png": trees.encoded(with_alpha(255), "png"),
    "palette.png": trees.encoded(Image.fromarray(GOOD).convert("P", palette=Image.Palette.ADAPTIVE), "png"),
    "cmyk.jpg": trees.jpeg(Image.fromarray(GOOD).convert("CMYK")),
    "rotated.jpg": exif_rotated(),
    "progressive.jpg": trees.jpeg(GOOD, progressive=True),
    "trailing bytes.jpg": JPEG + bytes(1000),
    "a comment within.jpg": JPEG[:2] + b"\xff\xfe\0\x06\xff\xd9\xff\xd9" + JPEG[2:],
    "really a png.jpg": PNG,
    "shouted.JPG": JPEG,
    "long form.JPEG": JPEG,
    "tagged.TIFF": trees.encoded(GOOD, "tiff"),
    "packed.tif": trees.encoded(GOOD, "tiff", compression="tiff_lzw"),
    "bitmap.bmp": trees.encoded(GOOD, "bmp"),
    "spaces  and, commas; \"quotes\".jpg": JPEG,
    "Auge — 眼底 é.jpg": JPEG,
    "not utf-8 \udce9.jpg": JPEG,
}  # fmt: skip


def write_all(source):
    """Write a class folder of bad files and one of unusual but good files."""
    for name, (data, _) in BAD.items():
        trees.write(source / "mild" / name, data)
    for name, data in ACCEPTED.items():
        trees.write(source / "severe" / name, data)
    (source / "mild" / "folder.jpg").mkdir()  # a folder like any other, and empty
    (source / "mild" / "dangling.jpg").symlink_to(source / "gone.jpg")
    os.mkfifo(source / "mild" / "pipe.jpg")
    trees.write(source / "mild" / "secret.jpg", JPEG).chmod(0)
    trees.write(source / "mild" / ".hidden.jpg", b"")
    trees.write(source / "mild" / "notes.txt", b"")
    return source


SPECIAL = {
    "dangling.jpg": "a broken link (No such file or directory)",
    "pipe.jpg": "not a file",
    "secret.jpg": "the file cannot be read: Permission denied",
}
IS_ROOT = os.geteuid() == 0  # to whom no file is unreadable


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tfrecords_builder", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


class BadImagesTest(tf.test.TestCase):
    """One build of a folder that contains all bad files beside good ones."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        source, records = write_all(cls.folder / "source"), cls.folder / "records"
        cls.sheet = cls.folder / "sheet.png"
        # Most files are one photograph in another encoding: the leak audit would find them all.
        flags = ("--source", source, "--records", records, "--sheet", cls.sheet, "--audit", "off", *FLAGS)
        cls.result = command("folder", *flags)
        cls.target = records / "folder" / f"{SIZE}-plain-q95" / "1.0.0"

    def test_at_least_25_kinds_of_bad_files_are_tested(self):
        self.assertGreaterEqual(len(BAD) + len(SPECIAL), 25)

    def test_the_build_goes_on_without_a_traceback(self):
        self.assertEqual(self.result.returncode, 0, self.result.stderr)
        self.assertNotIn("Traceback", self.result.stdout + self.result.stderr)

    def test_image_libraries_print_nothing(self):
        """Neither while images are cropped nor while the contact sheet is drawn."""
        for message in ("Corrupt JPEG", "TIFF_", "libpng", "WARN"):
            self.assertNotIn(message, self.result.stderr)

    def test_each_bad_file_is_named_with_its_reason(self):
        reasons = {row["image_id"]: row["reason"] for row in trees.read_csv(self.target / "rejected.csv")}
        expected = {name: fragment for name, (_, fragment) in BAD.items()} | SPECIAL
        if IS_ROOT:
            del expected["secret.jpg"]
        for name, fragment in expected.items():
            with self.subTest(name):
                self.assertIn(fragment, reasons.get(f"mild/{name}", "it is not in rejected.csv"))
        self.assertEqual(set(reasons), {f"mild/{name}" for name in expected}, "nothing else is rejected")

    def test_odd_but_good_files_are_accepted_and_look_right(self):
        records = {
            record["image_id"].decode(): record["image"]
            for split in tfds.builder_from_directory(str(self.target)).as_dataset().values()
            for record in tfds.as_numpy(split)
        }
        upright = prepare(JPEG, size=SIZE).image.astype(float)
        for name in ACCEPTED:
            stored = name.encode("utf-8", "backslashreplace").decode()
            with self.subTest(stored):
                image = records[f"severe/{stored}"]
                self.assertLess(np.abs(image - upright).mean(), 8)

    def test_summary_counts_them(self):
        count = len(BAD) + len(SPECIAL) - IS_ROOT
        self.assertIn(f"rejected: {count} (listed in rejected.csv)", self.result.stdout)
        self.assertIn("not a JPEG, PNG, TIFF, BMP or DICOM file", self.result.stdout)

    def test_contact_sheet_is_drawn(self):
        self.assertGreater(cv2.imread(str(self.sheet)).size, 0)


class NothingLeftTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source = self.folder / "source"

    def assert_one_line(self, result, *expected):
        self.assertNotEqual(result.returncode, 0)
        self.assertNotIn("Traceback", result.stdout + result.stderr)
        self.assertEqual(result.stdout, "")
        for text in expected:
            self.assertIn(text, result.stderr)
        self.assertEqual([p for p in self.folder.rglob("*") if "records" in p.parts and p.is_file()], [])

    def test_only_bad_images(self):
        trees.write(self.source / "none" / "a.jpg", b"")
        trees.write(self.source / "none" / "b.jpg", b"")
        trees.write(self.source / "mild" / "c.jpg", b"text")
        result = command("folder", "--source", self.source, "--records", self.folder / "records", *FLAGS)
        self.assert_one_line(
            result,
            "error: no image is left to build from\n  2 x the file is empty\n  1 x not a JPEG, PNG, TIFF, BMP or DICOM file",
        )

    def test_only_rejected_rows(self):
        trees.write(self.source / "a.jpg", JPEG)
        labels = trees.write_table(self.source / "labels.csv", ("file", "grade"), [("a.jpg", 7), ("b.jpg", 1)])
        flags = ("--labels", labels, "--name", "x", "--image_column", "file", "--grade_column", "grade")
        result = command("csv", "--source", self.source, "--records", self.folder / "records", *flags)
        self.assert_one_line(result, "error: no image is left to build from", "1 x unknown grade 7")

    def test_unusable_tables_and_flags(self):
        trees.write(self.source / "a.jpg", JPEG)
        labels = self.source / "labels.csv"
        flags = ("--records", self.folder / "records", "--image_column", "file", "--grade_column", "grade")
        for data, more, expected in (
            (None, ("--name", "x"), "there is no file"),
            (b"", ("--name", "x"), "is empty"),
            (b"file,grade\n", ("--name", "x"), "has a header but no rows"),
            (b"image,grade\na,1\n", ("--name", "x"), "has no column 'file'; it has: image, grade"),
            (b"file,grade,grade\na,1,1\n", ("--name", "x"), "names a column twice"),
            (bytes(300), ("--name", "x"), "is not a text table"),
            (b'file,grade\n"a,1\n' + b"b,1\n" * 40000, ("--name", "x"), "cannot be read as a table"),
            (b'file,grade\na,1\n"b,1\n' + b"c,1\n" * 20, ("--name", "x"), "the row that begins in line 3"),
            (b'file,grade\n"b,1\n' + b"c,1\n" * 20 + b'"d",1\n', ("--name", "x"), "is a quote not closed?"),
            (b"file,grade\na,1\n", ("--name", "My Set"), "--name 'My Set': use small letters"),
            (b"file,grade\na,1\n", ("--name", "../x"), "--name '../x': use small letters"),
            (b"file,grade\na,1\n", ("--name", "x", "--shares", "train"), "--shares 'train' does not have the form"),
            (b"file,grade\na,1\n", ("--name", "x", "--shares", "test=nan"), "with shares of at least 0"),
            (b"file,grade\na,1\n", ("--name", "x", "--max_megapixels", "nan"), "must be a whole number"),
            (b"file,grade\na,1\n", ("--name", "x", "--image_size", "0"), "must be a whole number from 32"),
            (b"file,grade\na,1\n", ("--name", "x", "--workers", "0"), "must be a whole number from 1"),
            (b"file,grade\na,1\n", ("--name", "x", "--folds", "1"), "must be a whole number from 2"),
        ):
            with self.subTest(expected):
                labels.unlink(missing_ok=True)
                if data is not None:
                    labels.write_bytes(data)
                status, output, errors = trees.run_builder(
                    "csv", "--source", self.source, "--labels", labels, *flags, *more
                )
                self.assertNotEqual(status, 0)
                self.assertEqual(output, "")
                self.assertIn(expected, errors)
                self.assertFalse((self.folder / "records").exists())


if __name__ == "__main__":
    tf.test.main()
