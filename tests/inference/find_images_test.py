import os
import pathlib
import tempfile
import unittest
from unittest import mock

import cv2

from dr_tf.cli import explain, predict
from dr_tf.console import UserError
from dr_tf.fundus.prepare import prepare
from dr_tf.image_files import SUFFIXES
from dr_tf.inference.find_images import find_images
from tests import commands
from tests.fundus.synthetic_images import draw_fundus


class FindImagesTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.skipped = []

    def _write(self, *names):
        for name in names:
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(b"")

    def _found(self, *places):
        """Paths below the folder, as text."""
        return [
            str(path.relative_to(self.folder))
            for path in find_images(places or [self.folder], on_skipped=self.skipped.append)
        ]

    def test_named_files_and_sorted_files_below_a_folder(self):
        self._write("b/2.jpg", "b/1.PNG", "a.tiff", "b/notes.txt", "a.webp")
        self.assertEqual(self._found(), ["a.tiff", "b/1.PNG", "b/2.jpg"])
        self.assertEqual(
            self._found(self.folder / "b/notes.txt", self.folder / "b"), ["b/notes.txt", "b/1.PNG", "b/2.jpg"]
        )
        self.assertEqual(self.skipped, [])

    def test_skipped_entries_are_reported_and_links_and_pipes_do_not_hang(self):
        self._write("eye.jpg", "in/other.jpg")
        os.mkfifo(self.folder / "pipe.jpg")
        (self.folder / "in" / "round").symlink_to(self.folder)
        (self.folder / "gone.jpg").symlink_to(self.folder / "nowhere")
        (self.folder / "itself.jpg").symlink_to(self.folder / "itself.jpg")
        (self.folder / "zero.jpg").symlink_to("/dev/zero")
        (self.folder / "same.jpg").symlink_to(self.folder / "eye.jpg")
        self.assertEqual(self._found(), ["eye.jpg", "in/other.jpg", "same.jpg"])
        self.assertEqual(
            sorted(line.replace(f"{self.folder}/", "") for line in self.skipped),
            [
                "skipped: gone.jpg: a broken link (No such file or directory)",
                "skipped: in/round: a link to a folder",
                "skipped: itself.jpg: a broken link (Too many levels of symbolic links)",
                "skipped: pipe.jpg: not a file",
                "skipped: zero.jpg: not a file",
            ],
        )

    def test_an_unreadable_folder_is_reported(self):
        self._write("eye.jpg", "secret/other.jpg")
        read = os.scandir

        def refused(path):  # patched, because root can read every folder
            if str(path).endswith("secret"):
                raise PermissionError(13, "Permission denied", str(path))
            return read(path)

        with mock.patch("os.scandir", refused):
            self.assertEqual(self._found(), ["eye.jpg"])
        self.assertEqual(self.skipped, [f"skipped: {self.folder}/secret: the folder cannot be read: Permission denied"])

    def test_user_errors_are_one_line(self):
        for place, said in (
            (self.folder, "no photograph below .*; looked for .jpg, .jpeg, .png, .tif, .tiff, .bmp, .dcm$"),
            (self.folder / "nowhere.jpg", "no file .*nowhere.jpg"),
            (self.folder / "a\nb.jpg", r"no file .*a\\x0ab.jpg$"),
            ("x" * 304, "^xxx.*xxx cannot be read: File name too long$"),
            ("a\0b", r"no file a\\x00b$"),
        ):
            with self.assertRaisesRegex(UserError, said):
                self._found(place)


class AcceptedFormatsTest(unittest.TestCase):
    def test_every_suffix_can_be_decoded(self):
        pixels = draw_fundus(size=(400, 300), radius=140)[..., ::-1]
        for suffix in set(SUFFIXES) - {".dcm"}:
            with self.subTest(suffix):
                data = cv2.imencode(suffix, pixels)[1].tobytes()
                self.assertEqual(prepare(data, size=64).image.shape, (64, 64, 3))

    def test_help_lists_the_accepted_formats(self):
        for command in (predict, explain):
            status, told, _ = commands.run(command.main, "--help")
            self.assertEqual(status, 0)
            told = " ".join(told.split())
            for part in ("JPEG, PNG, TIFF, BMP or DICOM", *SUFFIXES, "exit status: 0 if every", "2 for wrong flags"):
                self.assertIn(part, told)


if __name__ == "__main__":
    unittest.main()
