"""The layouts idrid, folder and csv: what they list, and which sources and cells they reject."""

import collections
import os
import pathlib
import tempfile
import unicodedata
import unittest
from unittest import mock

from dr_tf.console import UserError
from tests.tfrecords_builder import trees
from tfrecords_builder.__main__ import parse
from tfrecords_builder.layouts import known_layouts
from tfrecords_builder.samples import drop_repeated_ids

SHARED = pathlib.Path(os.environ.get("DR_TF_SHARED", pathlib.Path(__file__).parents[3] / "shared"))
IDRID = SHARED / "data" / "idrid"
GRADES = "none,mild,moderate,severe,proliferative"


def listed(layout, source, *arguments):
    """The listing of a source, before any image is read."""
    flags = parse([layout, "--source", str(source), "--records", "unused", *map(str, arguments)])
    return drop_repeated_ids(known_layouts()[layout].read(flags.source, flags))


class TreeTest(unittest.TestCase):
    """Layouts read file names only, so the images are empty files."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = pathlib.Path(folder.name) / "source"
        self.source.mkdir()

    def touch(self, *names):
        for name in names:
            trees.write(self.source / name, b"")

    def refusal(self, layout, *arguments):
        with self.assertRaises(UserError) as caught:
            listed(layout, self.source, *arguments)
        return str(caught.exception)


class IdridTest(TreeTest):
    def test_the_same_names_in_both_parts_are_different_photographs(self):
        trees.write_idrid(self.source, draw=False)
        samples = {s.image_id: s for s in listed("idrid", self.source).samples}
        self.assertEqual(len(samples), len(trees.IDRID_TRAIN) + len(trees.IDRID_TEST))
        one, other = samples["train/IDRiD_001"], samples["test/IDRiD_001"]
        self.assertEqual((one.grade, one.dme, one.split, one.any_dr), (0, 0, "train", 0))
        self.assertEqual((other.grade, other.dme, other.split, other.any_dr), (2, 1, "test", 1))
        self.assertEqual((one.patient_id, one.source, one.camera), ("", "idrid", "Kowa VX-10 alpha"))
        self.assertTrue(one.path.is_file() and one.path != other.path)

    def test_source_may_be_the_folder_itself(self):
        root = trees.write_idrid(self.source, draw=False)
        self.assertEqual(listed("idrid", self.source), listed("idrid", root))

    def test_a_wrong_folder_is_an_error_that_lists_its_contents_and_the_expected_tree(self):
        self.touch("images/a.jpg", "labels.csv")
        message = self.refusal("idrid")
        self.assertIn("folder not found: " + str(self.source / "1. Original Images"), message)
        self.assertIn(f"{self.source} contains images/, labels.csv", message)
        self.assertIn("a. Training Set/IDRiD_001.jpg", message, "the expected tree is shown")

    def test_missing_table_and_absent_source(self):
        root = trees.write_idrid(self.source, draw=False)
        table = root / "2. Groundtruths" / "b. IDRiD_Disease Grading_Testing Labels.csv"
        table.unlink()
        message = self.refusal("idrid")
        self.assertIn(f"file not found: {table}", message)
        self.assertIn("contains a. IDRiD_Disease Grading_Training Labels.csv", message)
        self.source = self.source / "nowhere" / "at all"
        self.assertIn(f"{self.source.parents[1]} contains", self.refusal("idrid"))

    def test_unknown_grade_is_rejected_and_the_rest_kept(self):
        root = trees.write_idrid(self.source, draw=False)
        table = root / "2. Groundtruths" / "a. IDRiD_Disease Grading_Training Labels.csv"
        table.write_text(table.read_text().replace("IDRiD_002,3,2", "IDRiD_002,7,2").replace("003,2,1", "003,2,x"))
        listing = listed("idrid", self.source)
        self.assertEqual(len(listing.samples), 6)
        self.assertEqual(
            {r.image_id: r.reason for r in listing.rejections},
            {"train/IDRiD_002": "unknown grade 7: it must be 0 to 4", "train/IDRiD_003": "unknown DME risk 'x'"},
        )

    @unittest.skipUnless(IDRID.is_dir(), f"{IDRID} is absent; DR_TF_SHARED names the folder that holds data/idrid")
    def test_the_published_set_has_the_published_counts(self):
        listing = listed("idrid", IDRID)
        self.assertEqual(listing.rejections, [])
        counts = collections.Counter((s.split, s.grade) for s in listing.samples)
        self.assertEqual([counts["train", g] for g in range(5)], [134, 20, 136, 74, 49])
        self.assertEqual([counts["test", g] for g in range(5)], [34, 5, 32, 19, 13])
        self.assertEqual(len(listing.samples), 413 + 103)
        self.assertEqual({s.dme for s in listing.samples}, {0, 1, 2})
        self.assertTrue(all(s.path.is_file() for s in listing.samples))


class FolderTest(TreeTest):
    def test_classes_without_splits(self):
        self.touch("No_DR/a.jpg", "No_DR/deeper/b.PNG", "DR/a.jpg", "DR/notes.txt", "DR/.hidden.jpg", ".git/x.jpg")
        listing = listed("folder", self.source, "--classes", "No_DR,DR", "--label", "any_dr", "--name", "clinic")
        self.assertEqual(
            [(s.image_id, s.any_dr, s.grade, s.split, s.source) for s in listing.samples],
            [
                ("DR/a.jpg", 1, -1, "", "clinic"),
                ("No_DR/a.jpg", 0, -1, "", "clinic"),
                ("No_DR/deeper/b.PNG", 0, -1, "", "clinic"),
            ],
        )

    def test_splits_above_the_classes_by_any_of_their_names(self):
        self.touch("Train/none/a.jpg", "valid/mild/b.jpg", "testing/severe/c.jpg")
        samples = listed("folder", self.source, "--classes", GRADES).samples
        self.assertEqual(
            {(s.split, s.grade, s.any_dr) for s in samples}, {("train", 0, 0), ("validation", 1, 1), ("test", 3, 1)}
        )

    def test_order_of_classes_is_the_flag_s_and_not_the_alphabet_s(self):
        self.touch("DR/a.jpg", "No_DR/b.jpg")
        listing = listed("folder", self.source, "--classes", "No_DR, DR", "--label", "any_dr")
        self.assertEqual({s.image_id: s.any_dr for s in listing.samples}, {"DR/a.jpg": 1, "No_DR/b.jpg": 0})

    def test_class_orders_that_are_refused(self):
        self.touch("DR/a.jpg", "No_DR/b.jpg")
        for arguments, expected in (
            ((), "found the classes DR, No_DR; state their order, least disease first, with --classes"),
            (("--classes", "No_DR,DR"), "grade has 5 classes, but --classes names 2; use --label any_dr?"),
            (
                ("--classes", GRADES, "--label", "any_dr"),
                "any_dr has 2 classes, but --classes names 5; use --label grade?",
            ),
            (("--classes", "a,b,c"), "grade has 5 classes, but --classes names 3"),
            (("--classes", "healthy,DR", "--label", "any_dr"), "the folder also contains No_DR"),
            (("--classes", "dr,No_DR", "--label", "any_dr"), "the folder also contains DR"),
            (("--classes", "DR,DR", "--label", "any_dr"), "names a class twice"),
        ):
            with self.subTest(arguments):
                self.assertIn(expected, self.refusal("folder", *arguments))

    def test_sources_that_are_no_class_folders(self):
        self.assertIn("no class folders were found\nexpected:", self.refusal("folder", "--classes", GRADES))
        self.touch("train/none/a.jpg", "extra/none/a.jpg")
        self.assertIn("contains split folders and also extra", self.refusal("folder", "--classes", GRADES))
        self.source = self.source / "absent"
        self.assertIn("folder not found", self.refusal("folder", "--classes", GRADES))

    def test_class_folder_without_photographs_is_named(self):
        self.touch("none/a.jpg", "mild/readme.txt")
        listing = listed("folder", self.source, "--classes", GRADES)
        self.assertEqual([r.image_id for r in listing.rejections], ["mild"])
        self.assertIn("contains no images", listing.rejections[0].reason)

    def test_what_cannot_be_searched_is_rejected_with_a_reason(self):
        self.touch("none/a.jpg", "none/folder.jpg/b.jpg", "none/secret/c.jpg", "stray.jpg", "notes.txt")
        (self.source / "none" / "link.jpg").symlink_to(self.source / "gone.jpg")
        (self.source / "none" / "round").symlink_to(self.source)
        (self.source / "mild").symlink_to(self.source / "nowhere")
        os.mkfifo(self.source / "none" / "pipe")
        read = os.scandir

        def refused(path):  # patched, because root can read every folder
            if str(path).endswith("secret"):
                raise PermissionError(13, "Permission denied", str(path))
            return read(path)

        with mock.patch("os.scandir", refused):
            listing = listed("folder", self.source, "--classes", GRADES)
        self.assertEqual({s.image_id for s in listing.samples}, {"none/a.jpg", "none/folder.jpg/b.jpg"})
        self.assertEqual(
            {r.image_id: r.reason for r in listing.rejections},
            {
                "mild": "a broken link (No such file or directory)",
                "none/link.jpg": "a broken link (No such file or directory)",
                "none/pipe": "not a file",
                "none/round": "a link to a folder",
                "none/secret": "the folder cannot be read: Permission denied",
                "stray.jpg": "the image is in no class folder",
            },
        )

    def test_names_that_are_not_utf8_can_be_written(self):
        self.touch("none/caf\udce9.jpg")
        (sample,) = listed("folder", self.source, "--classes", GRADES).samples
        self.assertEqual(sample.image_id, "none/caf\\udce9.jpg")
        self.assertTrue(sample.path.is_file())


class CsvTest(TreeTest):
    def table(self, header, *rows):
        return trees.write_table(self.source / "labels.csv", header.split(","), [row.split(",") for row in rows])

    def listed(self, *arguments):
        labels = self.source / "labels.csv"
        return listed("csv", self.source, "--labels", labels, "--name", "clinic", "--image_column", "file", *arguments)

    def one(self, header, row, *arguments):
        """The sample of a table with one row, or the reason for its rejection."""
        self.touch("a.jpg")
        self.table(f"file,{header}", f"a.jpg,{row}")
        listing = self.listed(*arguments)
        return listing.samples[0] if listing.samples else listing.rejections[0].reason

    def test_every_column(self):
        fields = ["grade", "dme", "any_dr", "age", "patient", "eye", "sex", "source", "camera", "split"]
        flags = [part for field in fields for part in (f"--{field}_column", f"the {field}")]
        header = ",".join(f"The {field}" for field in fields)
        sample = self.one(header, "3,2,1,61,p 7,OD,F,Nanded,Kowa,val", *flags)
        self.assertEqual((sample.grade, sample.dme, sample.any_dr, sample.age), (3, 2, 1, 61))
        self.assertEqual((sample.patient_id, sample.eye, sample.sex), ("p 7", "right", "female"))
        self.assertEqual((sample.source, sample.camera, sample.split), ("Nanded", "Kowa", "validation"))
        self.assertEqual(sample.image_id, "a.jpg")

    def test_empty_cells_are_not_known(self):
        flags = [part for field in ("grade", "age", "eye", "sex", "split") for part in (f"--{field}_column", field)]
        sample = self.one("grade,age,eye,sex,split", ",,,,", *flags)
        self.assertEqual((sample.grade, sample.any_dr, sample.age), (-1, -1, -1))
        self.assertEqual((sample.eye, sample.sex, sample.split, sample.patient_id), ("", "", "", ""))

    def test_words_for_eye_sex_and_split(self):
        for field, cells in {
            "eye": {"L": "left", "os": "left", "Left": "left", "r": "right", "OD": "right", "RIGHT": "right"},
            "sex": {"F": "female", "w": "female", "Female": "female", "m": "male", "MALE": "male"},
            "split": {"Training": "train", "dev": "validation", "calibration": "calibration", "TEST": "test"},
        }.items():
            for cell, value in cells.items():
                with self.subTest(cell):
                    sample = self.one(
                        f"grade,{field}", f"1,{cell}", "--grade_column", "grade", f"--{field}_column", field
                    )
                    self.assertEqual(getattr(sample, field), value)

    def test_cells_that_are_rejected(self):
        flags = [
            part for f in ("grade", "any_dr", "dme", "age", "eye", "sex", "split") for part in (f"--{f}_column", f)
        ]
        header = "grade,any_dr,dme,age,eye,sex,split"
        for row, expected in (
            ("5,,,,,,", "unknown grade 5: it must be 0 to 4"),
            ("-2,,,,,,", "unknown grade -2"),
            ("2.5,,,,,,", "unknown grade '2.5'"),
            ("abc,,,,,,", "unknown grade 'abc'"),
            ("nan,,,,,,", "unknown grade 'nan'"),
            ("2,0,,,,,", "grade 2 contradicts any_dr 0"),
            ("0,1,,,,,", "grade 0 contradicts any_dr 1"),
            (",2,,,,,", "unknown any_dr 2"),
            (",,3,,,,", "unknown DME risk 3: it must be 0 to 2"),
            ("1,,,old,,,", "unknown age 'old'"),
            ("1,,,99999999999,,,", "unknown age 99999999999: it must be 0 to 130"),
            ("1,,,-5,,,", "unknown age -5"),
            ("1,,,,both,,", "unknown eye 'both'; known: l, os, r, od, left, right"),
            ("1,,,,,x,", "unknown sex 'x'; known:"),
            ("1,,,,,,holdout", "unknown split 'holdout'; known: train, "),
        ):
            with self.subTest(row):
                reason = self.one(header, row, *flags)
                self.assertIsInstance(reason, str, "the row is rejected")
                self.assertIn(expected, reason)

    def test_named_grades(self):
        for cell, grade in (("No DR", 0), ("PDR", 4), ("pdr", 4), ("", -1)):
            sample = self.one("g", cell, "--grade_column", "g", "--classes", "no dr,mild,moderate,severe,pdr")
            self.assertEqual(sample.grade, grade)
        reason = self.one("g", "4", "--grade_column", "g", "--classes", "no dr,mild,moderate,severe,pdr")
        self.assertIn("unknown grade '4'; --classes names no dr, mild", reason)

    def test_two_names_are_no_grades(self):
        # They would be read as grade 0 and grade 1, which is mild disease only.
        self.touch("a.jpg")
        self.table("file,g", "a.jpg,DR")
        with self.assertRaisesRegex(UserError, "grade has 5 classes, but --classes names 2"):
            self.listed("--grade_column", "g", "--classes", "healthy,DR")

    def test_photographs_are_found_by_path_or_by_name(self):
        self.touch("one/a.jpg", "two/b.JPG", "two/b c.png")
        for cell, found in (
            ("one/a.jpg", "one/a.jpg"), ("one/a", "one/a.jpg"), ("a", "one/a.jpg"), ("A.JPG", "one/a.jpg"),
            ("./two/b.jpg", "two/b.JPG"), ("two\\b.jpg", "two/b.JPG"), ("b c", "two/b c.png"),
        ):  # fmt: skip
            with self.subTest(cell):
                self.table("file,g", f"{cell},1")
                self.assertEqual([s.image_id for s in self.listed("--grade_column", "g").samples], [found])

    def test_a_name_in_another_unicode_form_is_found(self):
        self.touch(unicodedata.normalize("NFD", "rétine.jpg"))
        self.table("file,g", unicodedata.normalize("NFC", "rétine.jpg") + ",1")
        self.assertEqual(len(self.listed("--grade_column", "g").samples), 1)

    def test_ambiguous_names_are_rejected_unless_one_is_the_very_path(self):
        self.touch("one/a.jpg", "two/a.jpg", "b.jpg", "two/b.jpg", "c.jpg", "C.jpg")
        self.table("file,g", "a.jpg,1", "b.jpg,1", "C.jpg,1")
        listing = self.listed("--grade_column", "g")
        self.assertEqual([s.image_id for s in listing.samples], ["b.jpg", "C.jpg"])
        self.assertEqual(listing.rejections[0].reason, "2 files have this name: one/a.jpg, two/a.jpg")

    def test_absent_photographs_are_rejected_with_their_row(self):
        self.touch("a.jpg", "note.txt")
        self.table("file,g", "a.jpg,1", "", "gone.jpg,2", "note.txt,0", ",3", "../labels.csv,1")
        listing = self.listed("--grade_column", "g")
        self.assertEqual(len(listing.samples), 1)
        self.assertEqual(
            [(r.image_id, r.path) for r in listing.rejections],
            [(name, f"labels.csv, row {row}") for name, row in
             (("gone.jpg", 4), ("note.txt", 5), ("row 6", 6), ("../labels.csv", 7))],
        )  # fmt: skip
        self.assertIn("no image of this name below the source", listing.rejections[0].reason)

    def test_equal_repeats_count_once(self):
        self.touch("a.jpg", "b.jpg")
        self.table("file,g", "a.jpg,1", "a,1", "b.jpg,0", "a.jpg,1")
        listing = self.listed("--grade_column", "g")
        self.assertEqual([s.image_id for s in listing.samples], ["a.jpg", "b.jpg"])
        self.assertEqual([r.reason for r in listing.rejections], ["listed twice"] * 2)

    def test_contradicting_repeats_are_all_rejected(self):
        self.touch("a.jpg", "b.jpg")
        self.table("file,g", "a.jpg,1", "a.jpg,2", "b.jpg,0")
        listing = self.listed("--grade_column", "g")
        self.assertEqual([s.image_id for s in listing.samples], ["b.jpg"])
        self.assertEqual([r.reason for r in listing.rejections], ["listed twice with different labels"] * 2)

    def test_flags_that_are_refused(self):
        self.touch("a.jpg")
        self.table("file,g", "a.jpg,1")
        for arguments, expected in (
            ((), "name at least one label: --grade_column, --any_dr_column or --dme_column"),
            (("--grade_column", "icdr"), "has no column 'icdr'; it has: file, g"),
            (("--grade_column", "g", "--patient_column", "p"), "has no column 'p'"),
        ):
            with self.subTest(arguments), self.assertRaises(UserError) as caught:
                self.listed(*arguments)
            self.assertIn(expected, str(caught.exception))
        (self.source / "labels.csv").unlink()
        with self.assertRaisesRegex(UserError, "there is no file"):
            self.listed("--grade_column", "g")


if __name__ == "__main__":
    unittest.main()
