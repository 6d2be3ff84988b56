"""Layouts of published data sets, on small trees with the published names, columns and oddities."""

import collections
import functools
import pathlib
import shutil
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from dr_tf.fundus.synthesis import LESIONS
from tests.tfrecords_builder import layouts_test, published_trees, trees
from tfrecords_builder.__main__ import parse
from tfrecords_builder.layouts import idrid_lesions, known_layouts
from tfrecords_builder.splits import assign_splits, parse_shares

listed = layouts_test.listed

WRITERS = {
    "aptos": published_trees.write_aptos,
    "ddr": published_trees.write_ddr,
    "deepdrid": published_trees.write_deepdrid,
    "eyepacs": published_trees.write_eyepacs,
    "gdrbench": published_trees.write_gdrbench,
    "idrid_lesions": published_trees.write_idrid_lesions,
    "messidor2": published_trees.write_messidor2,
    "odir": published_trees.write_odir,
}


class TreeTest(layouts_test.TreeTest):
    """Layouts read file names only, so the images are empty files."""

    def written(self, layout, *arguments, **options):
        """Write the layout's tree. Return its listing, and the samples by name."""
        WRITERS[layout](self.source, draw=False, **options)
        return self.listing(layout, *arguments)

    def listing(self, layout, *arguments):
        found = listed(layout, self.source, *arguments)
        return found, {s.image_id: s for s in found.samples}


class EveryLayoutTest(TreeTest):
    def test_a_wrong_folder_is_an_error_that_lists_its_contents_and_the_expected_tree(self):
        self.touch("holiday/beach.jpg", "notes.txt")
        for layout in WRITERS:
            with self.subTest(layout):
                message = self.refusal(layout)
                self.assertRegex(message, f"(file|folder) not found: {self.source}/")
                self.assertIn(f"{self.source} contains holiday/, notes.txt", message)
                self.assertIn("expected:\n  SOURCE/", message)

    def test_help_says_licence_origin_and_counts_in_lines_that_fit(self):
        for layout in WRITERS:
            with self.subTest(layout):
                text = known_layouts()[layout].about
                self.assertRegex(text, r"(?m)^Licence: |its own licence")
                self.assertRegex(text, r"(?m)^From: ")
                self.assertRegex(text, r"(?m)^Counts ")
                self.assertRegex(text, r"\d{3,}")
                self.assertLessEqual(max(map(len, text.splitlines())), 120)

    def test_a_missing_file_or_folder_is_named(self):
        for layout, part in {
            "aptos": "train_images", "ddr": "DDR-dataset/DR_grading/valid", "eyepacs": "train",
            "messidor2": "IMAGES", "odir": "preprocessed_images",
            "deepdrid": "regular_fundus_images/regular-fundus-validation/Images",
            "idrid_lesions": "A. Segmentation/2. All Segmentation Groundtruths/b. Testing Set/4. Soft Exudates",
            "gdrbench": "images",
        }.items():  # fmt: skip
            with self.subTest(layout), tempfile.TemporaryDirectory() as folder:
                self.source = pathlib.Path(folder)
                WRITERS[layout](self.source, draw=False)
                shutil.rmtree(self.source / part)
                self.assertIn(f"folder not found: {self.source / part}", self.refusal(layout))

    def test_every_sample_has_a_source(self):
        sources = {layout: set() for layout in WRITERS}
        for layout in WRITERS:
            with tempfile.TemporaryDirectory() as folder:
                self.source = pathlib.Path(folder)
                sources[layout] = {s.source for s in self.written(layout)[0].samples}
        gdrbench, lesions = sources.pop("gdrbench"), sources.pop("idrid_lesions")
        self.assertEqual(sources, {layout: {layout} for layout in sources})
        self.assertEqual(lesions, {"idrid"}, "the grading part's name: one camera, one clinic")
        self.assertEqual(gdrbench, {"aptos", "deepdr", "eyepacs", "rldr"})


class AptosTest(TreeTest):
    def test_grades_and_a_missing_image(self):
        listing, samples = self.written("aptos")
        self.assertEqual([s.grade for s in listing.samples], [0, 1, 2, 3, 4, 2])
        self.assertEqual(samples["0024cdab0c15"].path, self.source / "train_images" / "0024cdab0c15.png")
        self.assertEqual({(s.patient_id, s.eye, s.split) for s in listing.samples}, {("", "", "")})
        self.assertEqual(listing.rejections, [], "that its file is absent is found when it is cropped")

    def test_unlabelled_test_images_are_left_out(self):
        self.assertNotIn("0005cfc8afb6", self.written("aptos")[1])


class EyepacsTest(TreeTest):
    def test_patient_eye_and_split(self):
        _, samples = self.written("eyepacs")
        self.assertEqual(len(samples), 8)
        found = {n: (s.patient_id, s.eye, s.split, s.grade) for n, s in samples.items()}
        self.assertEqual(found["13_right"], ("13", "right", "train", 3))
        self.assertEqual(found["1_left"], ("1", "left", "test", 0))
        self.assertEqual(samples["1_right"].split, "test", "public or private, it is the published test split")
        self.assertEqual(samples["1_left"].path, self.source / "test" / "1_left.jpeg")

    def test_without_the_solution_the_test_split_is_rejected(self):
        published_trees.write_eyepacs(self.source, draw=False)
        (self.source / "retinopathy_solution.csv").unlink()
        listing, samples = self.listing("eyepacs")
        self.assertEqual({s.split for s in samples.values()}, {"train"})
        self.assertEqual(
            [(r.image_id, r.reason) for r in listing.rejections],
            [("test", "unlabelled: retinopathy_solution.csv is missing")],
        )
        shutil.rmtree(self.source / "test")
        self.assertEqual(self.listing("eyepacs")[0].rejections, [])

    def test_a_name_without_patient_and_eye_is_rejected(self):
        published_trees.write_eyepacs(self.source, draw=False)
        with open(self.source / "trainLabels.csv", "a") as table:
            table.write("portrait,0\n20_left,7\n")
        reasons = {r.image_id: r.reason for r in self.listing("eyepacs")[0].rejections}
        self.assertIn("the file name does not have the form PATIENT_left", reasons["portrait"])
        self.assertIn("unknown grade 7", reasons["20_left"])


class Messidor2Test(TreeTest):
    def test_images_are_found_whatever_their_extension(self):
        _, samples = self.written("messidor2")
        for table_name, file_name, *_, gradable in published_trees.MESSIDOR2:
            if gradable:
                expected = self.source / "IMAGES" / (file_name or table_name)
                self.assertEqual(samples[table_name].path, expected)

    def test_the_exact_name_wins_over_another_extension(self):
        published_trees.write_messidor2(self.source, draw=False)
        self.touch("IMAGES/20051020_43808_0100_PP.tif")
        self.assertEqual(self.listing("messidor2")[1]["20051020_43808_0100_PP.png"].path.suffix, ".png")

    def test_referable_edema_and_ungradable_rows(self):
        listing, samples = self.written("messidor2")
        self.assertEqual([s.dme for s in samples.values()], [0, 0, 2, 2, 0, 0])
        self.assertEqual([s.grade for s in samples.values()], [0, 1, 3, 4, 2, 2])
        self.assertEqual(
            [(r.image_id, r.reason) for r in listing.rejections],
            [("IM000020.jpg", "ungradable: adjudicated_gradable is 0")],
        )
        table = self.source / "messidor_data.csv"
        table.write_text(table.read_text().replace("PP.png,0,0,1", "PP.png,0,2,1"))
        self.assertIn("unknown adjudicated_dme 2", [r.reason for r in self.listing("messidor2")[0].rejections])

    def test_patient_and_eye_are_read_from_the_table_of_pairs(self):
        _, samples = self.written("messidor2")
        first, second, third, *_ = samples.values()
        self.assertEqual((first.patient_id, first.eye), ("20051020_43808_0100_PP", "left"))
        self.assertEqual((second.patient_id, second.eye), ("20051020_43808_0100_PP", "right"))
        self.assertEqual((third.patient_id, third.eye), ("IM000013", "left"), "the pairs write .JPG, the table .jpg")
        self.assertEqual(samples["IM000030.jpg"].patient_id, "", "it is in no pair")
        (self.source / "messidor-2.csv").unlink()
        self.assertEqual({s.patient_id + s.eye for s in self.listing("messidor2")[0].samples}, {""})


class DdrTest(TreeTest):
    def test_splits_stay_and_ungradable_ones_are_rejected(self):
        listing, samples = self.written("ddr")
        self.assertEqual(
            {(n, s.grade, s.split) for n, s in samples.items()},
            {
                ("train/007-0004-000", 0, "train"), ("train/007-1774-100", 1, "train"),
                ("train/20170413102628830", 2, "train"), ("valid/007-5573-300", 3, "validation"),
                ("valid/007-0004-000", 0, "validation"), ("test/007-2551-100", 4, "test"),
                ("test/007-9999-000", 1, "test"),
            },
        )  # fmt: skip
        self.assertEqual(
            [(r.image_id, r.reason) for r in listing.rejections], [("train/007-0025-000", "ungradable: grade 5")]
        )

    def test_source_may_be_any_of_the_folders(self):
        published_trees.write_ddr(self.source, draw=False)
        whole = listed("ddr", self.source)
        for below in ("DDR-dataset", "DDR-dataset/DR_grading"):
            self.assertEqual(listed("ddr", self.source / below), whole)

    def test_lines_as_people_edit_them(self):
        published_trees.write_ddr(self.source, draw=False)
        text = self.source / "DDR-dataset/DR_grading/test.txt"
        text.write_bytes(b"\xef\xbb\xbfa file.jpg 1\r\n\r\nb.jpg\t2\r\nc.jpg\r\nd.jpg x\r\n")
        listing, samples = self.listing("ddr")
        found = {n: (s.grade, s.path.name) for n, s in samples.items() if s.split == "test"}
        self.assertEqual(found, {"test/a file": (1, "a file.jpg"), "test/b": (2, "b.jpg"), "test/c": (-1, "c.jpg")})
        self.assertIn("unknown grade 'x'", [r.reason for r in listing.rejections])
        text.write_bytes(b"\n\n")
        self.assertIn("test.txt is empty", self.refusal("ddr"))


class DeepdridTest(TreeTest):
    def test_patient_eye_grade_split_and_place(self):
        _, samples = self.written("deepdrid")
        found = {n: (s.patient_id, s.eye, s.grade, s.split) for n, s in samples.items()}
        self.assertEqual(
            found,
            {
                "1_l1": ("1", "left", 0, "train"), "1_l2": ("1", "left", 0, "train"), "1_r1": ("1", "right", 1, "train"),
                "265_l1": ("265", "left", 3, "validation"), "265_r1": ("265", "right", 4, "validation"),
                "347_l1": ("347", "left", 2, "test"), "347_r1": ("347", "right", 0, "test"),
                "348_l1": ("348", "left", 0, "test"),
            },
        )  # fmt: skip
        self.assertEqual({n for n, s in samples.items() if not s.path.is_file()}, {"348_l1"})

    def test_a_grade_in_the_column_of_the_other_eye_is_rejected(self):
        listing, _ = self.written("deepdrid")
        self.assertEqual(
            {r.image_id: r.reason for r in listing.rejections},
            {
                "56_r3": "the file name names the right eye, but the grade is in the column left_eye_DR_Level",
                "56_l3": "the file name names the left eye, but the grade is in the column right_eye_DR_Level",
            },
        )

    def test_test_labels_as_csv_or_missing(self):
        excel = self.written("deepdrid")[0]
        labels = self.source / "regular_fundus_images/Online-Challenge1&2-Evaluation/Challenge1_labels.xlsx"
        labels.unlink()
        listing, samples = self.listing("deepdrid")
        self.assertNotIn("test", {s.split for s in samples.values()})
        self.assertIn("unlabelled: Challenge1_labels.xlsx is missing", [r.reason for r in listing.rejections])
        published_trees.write_deepdrid(self.source, draw=False, labels="csv")
        self.assertEqual(self.listing("deepdrid")[0], excel)

    def test_without_openpyxl_one_line_says_what_to_install(self):
        published_trees.write_deepdrid(self.source, draw=False)
        with mock.patch.dict(sys.modules, {"openpyxl": None}):
            self.assertIn("is an Excel file; to read it: pip install 'dr_tf[excel]'", self.refusal("deepdrid"))


class IdridLesionsTest(TreeTest):
    def test_masks_have_the_lesion_names_of_the_synthetic_set(self):
        _, samples = self.written("idrid_lesions")
        self.assertEqual(set(samples), {"train/IDRiD_01", "train/IDRiD_02", "test/IDRiD_55", "test/IDRiD_99"})
        masks = {n: [lesion for lesion, _ in s.masks] for n, s in samples.items()}
        self.assertEqual(
            masks["train/IDRiD_01"],
            ["microaneurysms", "haemorrhages", "hard_exudates", "cotton_wool_spots", "optic_disc"],
        )
        self.assertEqual(set(masks["train/IDRiD_01"]) - set(masks["train/IDRiD_02"]), {"cotton_wool_spots"})
        self.assertEqual({lesion for *_, lesion in idrid_lesions.LESIONS} - set(LESIONS), {"optic_disc"})
        self.assertTrue(all(path.is_file() for s in samples.values() for _, path in s.masks))

    def test_splits_and_labels(self):
        _, samples = self.written("idrid_lesions")
        self.assertEqual({s.split for n, s in samples.items() if n.startswith("train/")}, {"train"})
        self.assertEqual({(s.grade, s.any_dr) for s in samples.values()}, {(-1, 1)})
        self.assertFalse(samples["test/IDRiD_99"].path.exists(), "a mask without a photograph is not forgotten")


class GdrbenchTest(TreeTest):
    def test_splits_sources_and_grades_of_the_lists(self):
        _, samples = self.written("gdrbench")
        found = {n: (s.source, s.split, s.grade) for n, s in samples.items()}
        self.assertEqual(found["APTOS/pdr/001639a390f0.png"], ("aptos", "train", 4))
        self.assertEqual(found["APTOS/mild_npdr/0024cdab0c1e.png"], ("aptos", "validation", 1))
        self.assertEqual(found["APTOS/severe_npdr/unlisted.png"], ("aptos", "", 3))
        self.assertEqual(found["EYEPACS/Images/3166_right.jpeg"], ("eyepacs", "validation", 3))
        self.assertEqual(found["DeepDR/severe_npdr/1_r1.jpg"], ("deepdr", "train", 3), "the text writes DEEPDR")
        self.assertFalse([n for n in found if n.startswith("FGADR")], "a source that is not there is not asked for")
        self.assertTrue(all(s.path.is_file() for s in samples.values()))

    def test_patients_are_read_from_file_names(self):
        _, samples = self.written("gdrbench")
        found = {n: (s.patient_id, s.eye) for n, s in samples.items()}
        self.assertEqual(found["EYEPACS/Images/3166_right.jpeg"], ("eyepacs/3166", "right"))
        self.assertEqual(found["RLDR/moderate_npdr/3166_right.jpg"], ("eyepacs/3166", "right"), "the same person")
        self.assertEqual(found["DeepDR/nodr/1_l1.jpg"], ("deepdr/1", "left"))
        self.assertEqual(found["APTOS/pdr/001639a390f0.png"], ("", ""))

    def test_an_image_in_the_folder_of_another_grade_is_rejected(self):
        published_trees.write_gdrbench(self.source, draw=False)
        text = self.source / "splits" / "APTOS_train.txt"
        text.write_text(text.read_text().replace("001639a390f0.png 4", "001639a390f0.png 3"))
        reasons = {r.image_id: r.reason for r in self.listing("gdrbench")[0].rejections}
        self.assertEqual(reasons["APTOS/pdr/001639a390f0.png"], "in the folder pdr, but listed with grade 3")

    def test_an_image_in_two_lists_is_rejected(self):
        published_trees.write_gdrbench(self.source, draw=False)
        with open(self.source / "splits" / "APTOS_train.txt", "a") as text:
            text.write("APTOS/mild_npdr/0024cdab0c1e.png 1\n")
        listing, samples = self.listing("gdrbench")
        self.assertNotIn("APTOS/mild_npdr/0024cdab0c1e.png", samples)
        self.assertEqual([r.reason for r in listing.rejections], ["listed twice with different labels"] * 2)

    def test_without_lists_the_grade_is_that_of_the_folder(self):
        listing, samples = self.written("gdrbench", splits=False)
        self.assertEqual({s.split for s in samples.values()}, {""})
        self.assertEqual(samples["RLDR/mild_npdr/29730_right.jpg"].grade, 1)
        self.assertEqual([r.image_id for r in listing.rejections], ["EYEPACS/Images"])
        self.assertIn("not a grade folder (nodr, ", listing.rejections[0].reason)

    def test_chosen_sources(self):
        _, samples = self.written("gdrbench", "--sources", "RLDR, deepdr")
        self.assertEqual({s.source for s in samples.values()}, {"rldr", "deepdr"})
        self.assertIn("--sources names fgadr; ", self.refusal("gdrbench", "--sources", "fgadr"))
        shutil.rmtree(self.source / "images")
        (self.source / "images").mkdir()
        self.assertIn("contains no source folder", self.refusal("gdrbench"))

    def test_splits_are_made_within_each_source(self):
        for source, grades in {"A": (80, 20, 40, 10, 10), "B": (10, 30, 10, 5, 0), "C": (0, 0, 3, 30, 20)}.items():
            for grade, count in zip(("nodr", "mild_npdr", "moderate_npdr", "severe_npdr", "pdr"), grades, strict=True):
                self.touch(*(f"images/{source}/{grade}/{source}{grade}{i}.png" for i in range(count)))
        samples, _ = assign_splits(
            self.listing("gdrbench")[0].samples, parse_shares("train=70,validation=10,test=20"), 0
        )
        for source, shared in (("a", 160), ("b", 55), ("c", 53)):
            counts = collections.Counter(s.split for s in samples if s.source == source)
            for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
                self.assertAlmostEqual(counts[split], share * shared, delta=2, msg=f"{source} {split}")
        for grade in range(5):
            of_grade = [s for s in samples if s.grade == grade]
            share = sum(s.split == "test" for s in of_grade) / len(of_grade)
            self.assertAlmostEqual(share, 0.2, delta=0.06, msg="every grade is still dealt by the shares")


# Layout -> (photographs in the records, {image_id in rejected.csv: fragment of the reason}).
EXPECTED = {
    "aptos": (5, {"0024cdab0c15": "the file does not exist"}),
    "ddr": (6, {"train/007-0025-000": "ungradable", "test/007-9999-000": "the file does not exist"}),
    "deepdrid": (7, {"56_r3": "the file name", "56_l3": "the file name", "348_l1": "the file does not exist"}),
    "eyepacs": (7, {"17_right": "the file does not exist"}),
    "gdrbench": (12, {"RLDR/moderate_npdr/3166_right.jpg": "also in validation"}),
    "idrid_lesions": (3, {"test/IDRiD_99": "the file does not exist"}),
    "messidor2": (5, {"IM000020.jpg": "ungradable", "IM000030.jpg": "the file does not exist"}),
}


class BuildTest(unittest.TestCase):
    """Builds of each layout's tree. Missing images are in rejected.csv."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    @classmethod
    @functools.cache
    def built(cls, layout):
        """({split: records}, {image_id: reason}) of the layout's tree."""
        source = cls.folder / layout
        WRITERS[layout](source)
        flags = ("--source", source, "--records", cls.folder / "records", "--image_size", 64, "--workers", 2)
        status, _, errors = trees.run_builder(layout, *flags)
        assert status == 0, errors
        target = cls.folder / "records" / layout / "64-plain-q95" / "1.0.0"
        splits = tfds.builder_from_directory(str(target)).as_dataset()
        records = {split: list(tfds.as_numpy(dataset)) for split, dataset in splits.items()}
        return records, {row["image_id"]: row["reason"] for row in trees.read_csv(target / "rejected.csv")}

    def test_records_and_rejections(self):
        for layout, (count, rejected) in EXPECTED.items():
            with self.subTest(layout):
                records, reasons = self.built(layout)
                self.assertEqual(sum(map(len, records.values())), count)
                self.assertEqual(set(reasons), set(rejected))
                for name, fragment in rejected.items():
                    self.assertIn(fragment, reasons[name])

    def test_published_test_splits_are_the_records_test_splits(self):
        names = {"eyepacs": {"1_left", "1_right"}, "ddr": {"test/007-2551-100"}, "deepdrid": {"347_l1", "347_r1"}}
        for layout, expected in names.items():
            records, _ = self.built(layout)
            self.assertEqual({r["image_id"].decode() for r in records["test"]}, expected)

    def test_masks_with_a_palette_are_aligned_with_the_crop(self):
        records, _ = self.built("idrid_lesions")
        for record in (r for rows in records.values() for r in rows):
            masks = dict(zip(map(bytes.decode, record["masks"]["lesion"]), record["masks"]["mask"], strict=True))
            self.assertLessEqual({"microaneurysms", "optic_disc"}, set(masks))
            left, top, right, _ = record["crop"]
            before_x, before_y, *_ = record["padding"]
            scale = 64 / (right - left + record["padding"][0] + record["padding"][2])
            middle = (np.array([207.5, 147.5]) - (left, top) + (before_x, before_y)) * scale
            y, x, _ = np.nonzero(masks["microaneurysms"])
            np.testing.assert_allclose((x.mean() + 0.5, y.mean() + 0.5), middle, atol=1)
            self.assertAlmostEqual(len(x), 256 * scale**2, delta=8)

    def test_patient_of_both_sources_is_in_one_split(self):
        records, _ = self.built("gdrbench")
        roles = collections.defaultdict(set)
        for split, rows in records.items():
            for record in rows:
                roles[record["patient_id"]].add(split)
        self.assertEqual({len(splits) for splits in roles.values()}, {1})
        self.assertEqual(roles[b"eyepacs/3166"], {"validation"})

    def test_paired_is_off_by_default_in_other_layouts(self):
        flags = ["--source", "s", "--records", "r"]
        self.assertFalse(parse(["aptos", *flags]).paired)
        self.assertTrue(parse(["aptos", *flags, "--paired"]).paired)


if __name__ == "__main__":
    tf.test.main()
