"""Opening record sets, reading them by example number, and one-line errors for damaged ones."""

import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from dr_tf.console import UserError
from dr_tf.data.records import open_records
from tests.data.sets import SIZE, drawn_root, eye_fields, pair_fields, red_of, scratch, write_set
from tfrecords_builder.records import record_features


class RecordsTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.records = open_records(drawn_root(), "drawn/plain")

    def test_attributes_of_a_set(self):
        records = self.records
        self.assertEqual(
            (records.name, records.image_size, records.paired, len(records)), ("drawn/plain", SIZE, False, 30)
        )
        self.assertEqual(list(dict.fromkeys(records.columns["split"])), ["train", "validation", "test"])
        self.assertLen(records.rows("validation"), 5)
        self.assertNotIn("image", records.columns)
        self.assertEqual(records.columns["labels"].shape, (30, 8))

    def test_columns_and_images_belong_together(self):
        for row in range(30):
            number = int(self.records.columns["image_id"][row][1:])
            self.assertEqual(self.records.columns["grade"][row], number % 5)
            self.assertAlmostEqual(float(self.records.columns["gradability/score"][row]), number / 100, places=5)
            self.assertNear(_red(self.records.image(row)), red_of(number), 2)

    def test_it_reads_what_tensorflow_reads(self):
        stored = tfds.as_numpy(
            tfds.builder_from_directory(self.records.directory).as_dataset(
                "train", decoders={"image": tfds.decode.SkipDecoding()}
            )
        )
        rows = dict(zip(self.records.columns["image_id"], range(30), strict=True))
        for example in stored:
            row = rows[example["image_id"].decode()]
            self.assertEqual(self.records.encoded_image(row), example["image"])
            pixels = tf.io.decode_jpeg(example["image"], dct_method="INTEGER_ACCURATE")
            self.assertAllEqual(self.records.image(row), pixels)

    def test_splits_and_folds(self):
        both = np.concatenate([self.records.rows("train"), self.records.rows("validation")])
        self.assertEqual(self.records.rows("train+validation").tolist(), sorted(both.tolist()))
        with self.assertRaisesRegex(UserError, "no split 'trian'; it has train, validation, test"):
            self.records.rows("trian")
        columns = self.records.columns
        self.assertEqual(np.unique(columns["fold"], return_counts=True)[1].tolist(), [5, 13, 12])  # -1, 0, 1
        self.assertTrue(all(int(i[1:]) % 2 == 1 for i in columns["image_id"][columns["fold"] == 1]))
        self.assertEqual(set(columns["split"][columns["fold"] == -1]), {"test"})

    def test_a_name_is_enough_where_it_has_one_config(self):
        self.assertEqual(open_records(drawn_root(), "drawn").directory, self.records.directory)

    def test_pairs(self):
        pairs = open_records(drawn_root(), "paired/plain")
        self.assertTrue(pairs.paired)
        self.assertAllEqual(pairs.columns["age"], 50 + np.array([int(p[1:]) for p in pairs.columns["patient_id"]]))
        self.assertEqual(pairs.columns["left/gradability/score"].shape, (12,))
        row = pairs.columns["patient_id"].tolist().index("p003")
        self.assertFalse(pairs.present("left")[row])
        self.assertEqual(pairs.image(row, "left").max(), 0)
        self.assertNear(_red(pairs.image(row, "right")), red_of(7), 2)
        self.assertAllEqual(pairs.columns["fold"], [int(p[1:]) % 3 for p in pairs.columns["patient_id"]])

    def test_the_same_content_has_the_same_fingerprint(self):
        one, same, other = (self._one(eye_fields(0)), self._one(eye_fields(0)), self._one(eye_fields(0, grade=3)))
        self.assertEqual(one.fingerprint, same.fingerprint)
        self.assertNotEqual(one.fingerprint, other.fingerprint)

    def _one(self, example):
        root = scratch(self)
        write_set(root, {"train": [example]})
        return open_records(root, "drawn")


@functools.cache
def _kept():
    return tempfile.TemporaryDirectory()  # lives as long as the tests


@functools.cache
def several_root():
    """east/plain and west/plain: images of the same names, two folds; west has no fields camera and age."""
    root = pathlib.Path(_kept().name)
    for name, first, lacks in (("east", 0, ()), ("west", 50, ("camera", "age"))):
        schema = record_features(SIZE)
        schema = tfds.features.FeaturesDict({field: schema[field] for field in schema if field not in lacks})
        examples = {
            split: [_example(first, i, lacks, source=source) for i in numbers]
            for split, numbers, source in (("train", range(6), name), ("test", range(6, 8), ""))
        }
        folds = [(f"i{i}", f"i{i}", 0, i % 2) for i in range(6)]
        write_set(root, examples, name=name, folds=folds, features=schema)
    return root


def _example(first, i, lacks, **fields):
    example = eye_fields(first + i, image_id=f"i{i}", patient_id=f"i{i}", **fields)
    return {field: value for field, value in example.items() if field not in lacks}


class SeveralTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.parts = [open_records(several_root(), name) for name in ("east", "west")]
        cls.records = open_records(several_root(), ["east/plain", "west"])

    def test_joined_sets_are_one_set(self):
        records = self.records
        self.assertEqual((records.name, records.directory), ("east/plain+west/plain", self.parts[0].directory))
        self.assertEqual((len(records), records.image_size, records.paired), (16, SIZE, False))
        self.assertEqual([part.name for part in records.parts], ["east/plain", "west/plain"])
        self.assertEqual([first for _, first in records.parts_with_first_row()], [0, 8])
        self.assertEqual(self.parts[0].parts, (self.parts[0],))
        self.assertNotIn(records.fingerprint, [part.fingerprint for part in records.parts])
        again = open_records(several_root(), records.name)
        self.assertEqual((again.name, again.fingerprint), (records.name, records.fingerprint))
        self.assertEqual(open_records(several_root(), ("east",)).name, "east/plain")

    def test_columns_and_images_belong_together(self):
        columns = self.records.columns
        for row in range(16):
            part, own = self.parts[row // 8], row % 8
            name = part.columns["image_id"][own]
            self.assertEqual(columns["image_id"][row], f"{('east', 'west')[row // 8]}/{name}")
            self.assertEqual(columns["patient_id"][row], columns["image_id"][row])
            self.assertEqual(columns["grade"][row], part.columns["grade"][own])
            self.assertEqual(self.records.encoded_image(row), part.encoded_image(own))
            self.assertNear(_red(self.records.image(row)), red_of(50 * (row // 8) + int(name[1:])), 2)
        self.assertAllEqual(columns["dataset"], ["east"] * 8 + ["west"] * 8)
        self.assertAllEqual(self.parts[1].columns["dataset"], ["west"] * 8)
        self.assertTrue(columns["patient_known"].all())
        self.assertEqual(set(columns["test_copy"]), {""})

    def test_a_field_that_a_set_lacks_is_unknown(self):
        self.assertNotIn("camera", self.parts[1].columns)
        self.assertEqual(set(self.records.columns["camera"]), {""})
        self.assertAllEqual(self.records.columns["age"], [-1] * 16)
        other = open_records(several_root(), ["west", "east"])
        self.assertEqual(set(other.columns["camera"]), {""})

    def test_splits_and_folds(self):
        self.assertLen(self.records.rows("train"), 12)
        columns = self.records.columns
        self.assertAllEqual(sorted(columns["image_id"][columns["fold"] == 1]),
                            [f"{name}/i{i}" for name in ("east", "west") for i in (1, 3, 5)])  # fmt: skip
        self.assertEqual((columns["fold"] == 0).sum(), 6)

    def test_unknown_sources_are_the_name_of_the_set(self):
        self.assertAllEqual(self.records.sources, ["east"] * 8 + ["west"] * 8)
        self.assertEqual(set(self.records.columns["source"]), {"east", "west", ""})

    def test_pairs(self):
        root = pathlib.Path(scratch(self))
        for name, absent in (("east", {0: "left"}), ("west", {})):
            write_set(root, {"train": [pair_fields(i, absent=absent.get(i)) for i in range(3)]}, name=name, paired=True)
        pairs = open_records(root, ["east", "west"])
        self.assertEqual(set(pairs.columns["patient_id"]), {f"{n}/p00{i}" for n in ("east", "west") for i in range(3)})
        lefts = pairs.columns["left/image_id"]
        self.assertEqual(sum(lefts == ""), 1)  # an eye that is not there has no name
        self.assertIn("west/p000left", lefts)
        self.assertAllEqual(pairs.sources, ["drawn"] * 6)
        self.assertNear(_red(pairs.image(5, "right")), _red(pairs.parts[1].image(2, "right")), 1e-6)

    def test_an_undecodable_image_is_reported_with_its_set(self):
        broken = self.records.places[None].copy()
        broken[9, 2] = 3
        records = dataclasses.replace(self.records, places={None: broken})
        with self.assertRaisesRegex(UserError, "west/plain/1.0.0: the image of example 1 cannot be decoded"):
            records.image(9)

    def test_incompatible_sets_are_refused(self):
        root = pathlib.Path(scratch(self))
        examples = {"train": [eye_fields(i) for i in range(4)]}
        folds = [(f"p{i:03}", f"p{i:03}", 0, i) for i in range(4)]
        write_set(root, examples, name="four", folds=folds)
        write_set(root, examples, name="two", folds=[(*line[:3], line[3] % 2) for line in folds])
        write_set(root, examples, name="other", config="clahe")
        write_set(root, {"train": [pair_fields(0)]}, name="both", paired=True)
        schema = record_features(SIZE)
        schema = tfds.features.FeaturesDict({name: schema[name] for name in schema} | {"age": tfds.features.Text()})
        odd = [eye_fields(i, age="old") for i in range(4)]
        write_set(root, {"train": odd}, name="odd", features=schema, folds=folds)
        for expected, names in {
            "four/plain has 4 folds and two/plain 2: build both with the same --folds": ["four", "two"],
            "four/plain and other/clahe were built with different options": ["four", "other"],
            "four/plain holds single images and both/plain both eyes": ["both", "four"],
            "a record set is named twice: four/plain, four/plain": ["four", "four/plain"],
            "odd/plain cannot be joined with four/plain: their fields 'age' differ in type": ["four", "odd"],
            "no records 'five'": ["four", "five"],
            "several as a list of such names, not []": [],
            "several as a list of such names, not [3]": [3],
            "several as a list of such names, not None": None,
        }.items():
            with self.subTest(expected), self.assertRaises(UserError) as raised:
                open_records(root, names)
            self.assertIn(expected, str(raised.exception))
            self.assertNotIn("\n", str(raised.exception))

    def test_a_set_with_only_a_test_split_needs_no_folds(self):
        root = pathlib.Path(scratch(self))
        folds = [("p000", "p000", 0, 0), ("p001", "p001", 0, 1)]
        write_set(root, {"train": [eye_fields(0), eye_fields(1)]}, name="a", folds=folds)
        write_set(root, {"test": [eye_fields(0)]}, name="b")
        self.assertAllEqual(open_records(root, ["a", "b"]).columns["fold"], [0, 1, -1])


class BadRecordsTest(tf.test.TestCase):
    def test_folds_that_end_too_early(self):
        root = pathlib.Path(scratch(self))
        write_set(root, {"train": [eye_fields(0), eye_fields(1)]}, folds=[("p000", "p000", 0, 0)])
        with self.assertRaisesRegex(UserError, "folds.csv is cut short: it has no line for 'p001' and 0 others"):
            open_records(root, "drawn")

    def test_unknown_records_list_the_known_ones(self):
        with self.assertRaisesRegex(UserError, "no folder of records /nowhere"):
            open_records("/nowhere", "idrid/512")
        with self.assertRaisesRegex(UserError, "no records 'idrid/512' in .*; there are: drawn/plain, paired/plain"):
            open_records(drawn_root(), "idrid/512")

    def test_several_configs_are_listed(self):
        root = scratch(self)
        for config in ("one", "two"):
            write_set(root, {"train": [eye_fields(0)]}, config=config)
        with self.assertRaisesRegex(UserError, "name one of: drawn/one, drawn/two"):
            open_records(root, "drawn")

    def test_the_newest_version_is_opened(self):
        root = pathlib.Path(scratch(self))
        folder = write_set(root, {"train": [eye_fields(0)]})
        for version in ("1.2.0", "1.10.0"):
            shutil.copytree(folder, folder.with_name(version))
            info = folder.with_name(version) / "dataset_info.json"
            info.write_text(info.read_text().replace('"1.0.0"', f'"{version}"'))
        self.assertEndsWith(open_records(root, "drawn/plain").directory, "1.10.0")

    def test_a_damaged_file_is_named(self):
        for name, damage in {
            "flipped": _flip,
            "cut": _cut,
            "absent": os.unlink,
            "fewer": _fewer,
            "empty": _empty,
        }.items():
            with self.subTest(name):
                root = scratch(self)
                folder = write_set(root, {"train": [eye_fields(i) for i in range(3)]})
                (path,) = folder.glob("*.tfrecord*")
                damage(path)
                with self.assertRaisesRegex(
                    UserError, f"{path.name}.*(cannot be read: [^{{]+$|holds 2 records, not 3|is empty)"
                ) as raised:
                    open_records(root, "drawn")
                self.assertNotIn("\n", str(raised.exception))

    def test_records_of_another_schema_are_refused_with_the_missing_fields(self):
        root = scratch(self)
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 3)), "label": np.int32})
        write_set(root, {"train": [{"image": np.zeros((8, 8, 3), np.uint8), "label": 1}]}, features=features)
        with self.assertRaisesRegex(UserError, "no image_id, patient_id, grade"):
            open_records(root, "drawn")

    def test_an_unreadable_features_json(self):
        root = scratch(self)
        folder = write_set(root, {"train": [eye_fields(0)]})
        (folder / "features.json").write_text("{")
        with self.assertRaisesRegex(UserError, "cannot be read as a record set"):
            open_records(root, "drawn")


def _red(image):
    return image[SIZE * 5 // 8 : SIZE * 7 // 8, SIZE * 3 // 8 : SIZE * 5 // 8, 0].mean()


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def _empty(path):
    path.write_bytes(b"")


def _fewer(path):
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records[:-1]:
            writer.write(record)


if __name__ == "__main__":
    tf.test.main()
