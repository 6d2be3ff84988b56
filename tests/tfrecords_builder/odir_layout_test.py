"""ODIR-5K: grades read from keywords, two forms of the table, pairs and single eyes, and the real part."""

import collections
import pathlib
import shutil
import tempfile
import unittest

import tensorflow_datasets as tfds

from dr_tf.grades import ABSENT
from tests.tfrecords_builder import layouts_test, published_trees, trees
from tfrecords_builder.__main__ import parse
from tfrecords_builder.layouts.odir import grade_of_keywords, keyword_list
from tfrecords_builder.samples import make_sample

REAL = layouts_test.SHARED / "data" / "odir"
listed = layouts_test.listed


class KeywordsTest(unittest.TestCase):
    def test_grades(self):
        for text, grade, any_dr in (
            ("normal fundus", 0, 0),
            ("mild nonproliferative retinopathy", 1, 1),
            ("moderate non proliferative retinopathy", 2, 1),
            ("moderate non-proliferative  Retinopathy", 2, 1),
            ("severe nonproliferative retinopathy", 3, 1),
            ("proliferative diabetic retinopathy", 4, 1),
            ("severe proliferative diabetic retinopathy", 4, 1),
            ("diabetic retinopathy", ABSENT, 1),
            ("hypertensive retinopathy", 0, 0),
            ("myopia retinopathy", 0, 0),
            ("pigment epithelium proliferation", 0, 0),
            ("laser spot，moderate non proliferative retinopathy", 2, 1),
            ("epiretinal membrane,severe nonproliferative retinopathy,drusen", 3, 1),
            ("diabetic retinopathy，mild nonproliferative retinopathy", 1, 1),
            ("mild nonproliferative retinopathy,severe nonproliferative retinopathy", 3, 1),
            ("hypertensive retinopathy,diabetic retinopathy", ABSENT, 1),
            ("suspected diabetic retinopathy", ABSENT, ABSENT),
            ("suspicious diabetic retinopathy", ABSENT, ABSENT),
            ("suspected moderate non proliferative retinopathy", ABSENT, ABSENT),
            ("mild nonproliferative retinopathy,suspected moderate non proliferative retinopathy", ABSENT, 1),
            ("suspected glaucoma", 0, 0),
            ("lens dust，normal fundus", 0, 0),
            ("low image quality,maculopathy", 0, 0),
            ("low image quality", ABSENT, ABSENT),
            ("optic disk photographically invisible", ABSENT, ABSENT),
            ("", ABSENT, ABSENT),
            (" ，, ", ABSENT, ABSENT),
        ):
            with self.subTest(text):
                self.assertEqual(grade_of_keywords(text), (grade, any_dr))
                make_sample(image_id="a", path="a", grade=grade, any_dr=any_dr)  # the two agree

    def test_both_commas_separate(self):
        self.assertEqual(keyword_list("Drusen， lens dust ,normal fundus，"), ["drusen", "lens dust", "normal fundus"])


class TableTest(layouts_test.TreeTest):
    def test_both_tables_give_the_same_labels(self):
        """Except for the eye without a row in the copy on Kaggle, which is named only in the row of the fellow eye."""
        copy, original = self.source / "copy", self.source / "original"
        published_trees.write_odir(copy, draw=False)
        published_trees.write_odir_original(original, draw=False)
        labels = [
            {s.image_id: (s.patient_id, s.eye, s.age, s.sex, s.grade, s.any_dr, s.labels, s.keywords) for s in samples}
            for samples in (listed("odir", copy).samples, listed("odir", original).samples)
        ]
        self.assertEqual(*labels)
        self.assertEqual(
            labels[0]["5_left"],
            (
                "5", "left", 57, "female", 2, 1, (0, 1, 0, 0, 0, 0, 0, 0),
                "moderate non proliferative retinopathy",
            ),
        )  # fmt: skip
        self.assertEqual(len(labels[0]), 11)
        self.assertIn("91_left", labels[0])

    def test_an_image_without_fundus_is_rejected(self):
        published_trees.write_odir(self.source, draw=False)
        for flags in ((), ("--single_eye",)):
            reasons = {r.image_id: r.reason for r in listed("odir", self.source, *flags).rejections}
            self.assertEqual(
                reasons["1706_left"], "not a fundus image, according to the keyword: anterior segment image"
            )

    def test_single_eyes_are_graded(self):
        published_trees.write_odir(self.source, draw=False)
        listing = listed("odir", self.source, "--single_eye")
        self.assertNotIn(ABSENT, {s.grade for s in listing.samples})
        self.assertEqual(
            {r.image_id: r.reason for r in listing.rejections if r.image_id != "1706_left"},
            {
                "30_right": "ungraded: diabetic retinopathy without a grade",
                "64_left": "ungraded: the keywords determine no grade",
                "64_right": "ungraded: the keywords determine no grade",
            },
        )
        self.assertEqual({sum(s.labels) for s in listing.samples}, {1, 2}, "the labels are the patient's")

    def test_odd_rows(self):
        published_trees.write_odir(self.source, draw=False)
        table = self.source / "full_df.csv"
        header, *rows = table.read_text().splitlines()
        by_name = {row.rpartition(",")[2]: row for row in rows}
        by_name["0_left.jpg"] = by_name["0_left.jpg"].replace("0_left.jpg,0_right.jpg", "0_right.jpg,0_left.jpg")
        by_name["0_right.jpg"] = by_name["0_right.jpg"].replace("0_left.jpg,0_right.jpg", "0_right.jpg,0_left.jpg")
        by_name["5_left.jpg"] = by_name["5_left.jpg"].rpartition(",")[0] + ",77_left.jpg"
        by_name["91_right.jpg"] += "\n" + by_name["91_right.jpg"]
        by_name["30_left.jpg"] = by_name["30_left.jpg"].replace("30,60,Male", "30,61,Male")
        by_name["64_left.jpg"] = by_name["64_left.jpg"].replace("Male", "Unknown")
        by_name["64_right.jpg"] = by_name["64_right.jpg"].replace("Male", "Unknown")
        table.write_text("\n".join([header, *by_name.values()]))
        listing = listed("odir", self.source)
        reasons = {r.image_id: r.reason for r in listing.rejections}
        self.assertEqual(reasons["0_left"], "its row lists it as the right eye, but the file name names the other eye")
        self.assertEqual(reasons["0_right"], "its row lists it as the left eye, but the file name names the other eye")
        self.assertEqual(reasons["77_left"], "its row (patient 5) names it neither as the left nor as the right image")
        self.assertEqual(reasons["91_right"], "listed twice")
        self.assertEqual(reasons["30_left"], "the rows of patient 30 contradict each other")
        self.assertEqual(reasons["30_right"], reasons["30_left"])
        self.assertEqual(reasons["64_left"], "unknown sex 'Unknown'")
        self.assertEqual(
            {s.image_id for s in listing.samples}, {"5_left", "5_right", "91_left", "91_right", "1706_right"}
        )

    def test_unknown_label_values_are_rejected(self):
        published_trees.write_odir(self.source, draw=False)
        table = self.source / "full_df.csv"
        table.write_text(table.read_text().replace("normal fundus,0,0,0,1", "normal fundus,0,0,0,3"))
        reasons = {r.image_id: r.reason for r in listed("odir", self.source).rejections}
        self.assertEqual(reasons["0_left"], "unknown C 3: it must be 0 or 1")

    def test_folders_of_the_archive_are_found(self):
        published_trees.write_odir_original(self.source / "ODIR-5K" / "ODIR-5K", draw=False)
        self.assertEqual(len(listed("odir", self.source).samples), 11)
        published_trees.write_odir(self.source, draw=False)
        path = listed("odir", self.source).samples[0].path
        self.assertEqual(path.parent.name, "preprocessed_images", "the nearer of the two")

    def test_damaged_excel_file(self):
        published_trees.write_odir_original(self.source, draw=False)
        whole = (self.source / "data.xlsx").read_bytes()
        for data in (b"ID,Patient Age", whole[: len(whole) // 2], b""):
            (self.source / "data.xlsx").write_bytes(data)
            self.assertIn("data.xlsx cannot be read as an Excel file", self.refusal("odir"))
        shutil.rmtree(self.source / "Training Images")
        self.assertIn("folder not found", self.refusal("odir"))

    def test_flags(self):
        flags = ["odir", "--source", "s", "--records", "r"]
        for more, paired in (((), True), (("--paired",), True), (("--single_eye",), False)):
            self.assertEqual(parse([*flags, *more]).paired, paired)


class BuildTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        published_trees.write_odir(cls.folder / "source")

    def build(self, *arguments):
        """(records, {image_id: reason}, summary)"""
        flags = ("--source", self.folder / "source", "--records", self.folder / "records", "--image_size", 64)
        status, summary, errors = trees.run_builder("odir", *flags, "--workers", 2, *arguments)
        self.assertEqual(status, 0, errors)
        target = pathlib.Path(summary.splitlines()[-1])
        splits = tfds.builder_from_directory(str(target)).as_dataset().values()
        records = [record for split in splits for record in tfds.as_numpy(split)]
        return records, {row["image_id"]: row["reason"] for row in trees.read_csv(target / "rejected.csv")}, summary

    def test_pairs(self):
        records, reasons, summary = self.build()
        pairs = {record["patient_id"].decode(): record for record in records}
        self.assertEqual(set(pairs), {"0", "5", "30", "64", "91", "1706"})
        present = {name: (bool(p["left_present"]), bool(p["right_present"])) for name, p in pairs.items()}
        one_eye = {name for name, eyes in present.items() if not all(eyes)}
        self.assertEqual(one_eye, {"5", "91", "1706"})
        self.assertEqual(present["91"], (False, True))
        self.assertEqual({name: reasons[name] for name in ("5_right", "91_left")}, dict.fromkeys(
            ("5_right", "91_left"), "the file does not exist"
        ))  # fmt: skip
        self.assertEqual((pairs["30"]["age"], pairs["30"]["sex"].decode()), (60, "male"))
        self.assertEqual(pairs["30"]["labels"].tolist(), [0, 1, 0, 0, 0, 0, 0, 1])
        self.assertEqual([pairs["30"][eye]["grade"] for eye in ("left", "right")], [3, -1])
        self.assertEqual([pairs["30"][eye]["any_dr"] for eye in ("left", "right")], [1, 1])
        self.assertEqual(
            pairs["30"]["left"]["keywords"].decode(), "laser spot，severe nonproliferative retinopathy", "as written"
        )
        self.assertEqual(pairs["91"]["left"]["keywords"], b"")
        self.assertIn("6 patients, 3 of them with one eye only", summary)

    def test_single_eyes(self):
        records, reasons, _ = self.build("--single_eye")
        eyes = {record["image_id"].decode(): record for record in records}
        self.assertEqual(set(eyes), {"0_left", "0_right", "5_left", "30_left", "91_right", "1706_right"})
        self.assertEqual([eyes[name]["grade"] for name in ("0_left", "5_left", "30_left", "91_right")], [0, 2, 3, 4])
        self.assertEqual(eyes["91_right"]["keywords"], b"severe proliferative diabetic retinopathy")
        self.assertEqual((eyes["0_left"]["patient_id"], eyes["0_left"]["eye"]), (b"0", b"left"))
        self.assertIn("ungraded", reasons["64_left"])


@unittest.skipUnless(REAL.is_dir(), f"{REAL} is absent; DR_TF_SHARED names the folder that holds data/odir")
class RealPartTest(unittest.TestCase):
    def test_counts(self):
        listing = listed("odir", REAL)
        grades = collections.Counter(s.grade for s in listing.samples)
        self.assertEqual(len({s.patient_id for s in listing.samples}), 1500)
        self.assertEqual(len(listing.samples), 2999)
        self.assertEqual([r.image_id for r in listing.rejections], ["1710_right"])
        self.assertEqual(grades, {0: 2148, 1: 261, 2: 454, 3: 93, 4: 22, ABSENT: 21})
        self.assertEqual(sum(not s.path.is_file() for s in listing.samples), 59)

    def test_keywords_agree_with_the_patients_labels(self):
        """The label D is 1 exactly where a keyword of either eye names diabetic retinopathy, also if suspected."""
        of_dr = collections.defaultdict(bool)
        label = {}
        for sample in listed("odir", REAL).samples:
            of_dr[sample.patient_id] |= sample.any_dr == 1 or "diabetic" in sample.keywords
            label[sample.patient_id] = bool(sample.labels[1])
        self.assertEqual(dict(of_dr), label)


if __name__ == "__main__":
    unittest.main()
