"""Preparation of originals by the configuration in the records' name."""

import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.fundus.enhance import ENHANCEMENTS
from dr_tf.inference.preparation import Preparation
from tests.tfrecords_builder.trees import run_builder, write_folder

CLASSES = "none,mild,moderate,severe,proliferative"


class NameTest(unittest.TestCase):
    def test_one_set_and_several_of_equal_configuration(self):
        for name in ("idrid/512-clahe-q95", "idrid/512-clahe-q95+odir/512-clahe-q95"):
            expected = Preparation(name, size=512, enhancement="clahe", quality=95, image_size=224)
            self.assertEqual(Preparation.from_records_name(name, 224), expected)

    def test_a_name_without_configuration_is_refused(self):
        for name in ("drawn/plain", "idrid/512-sharp-q95", "idrid/512-clahe-q95+odir/512-plain-q95"):
            with self.subTest(name), self.assertRaisesRegex(UserError, "does not contain one configuration"):
                Preparation.from_records_name(name, 224)


class EnhancedTest(unittest.TestCase):
    def test_an_original_gives_the_pixels_of_its_record(self):
        with tempfile.TemporaryDirectory() as folder:
            source = write_folder(pathlib.Path(folder) / "photographs", splits=("train",), each=1)
            for enhancement in ENHANCEMENTS:
                with self.subTest(enhancement):
                    self._check(source, pathlib.Path(folder) / "records", enhancement)

    def _check(self, source, root, enhancement):
        flags = ["--name", "eyes", "--classes", CLASSES, "--image_size", "64", "--workers", "1", "--audit", "off"]
        run_builder("folder", "--source", source, "--records", root, "--enhancement", enhancement, *flags)
        records = open_records(root, f"eyes/64-{enhancement}-q95")
        preparation = Preparation.from_records_name(records.name, 64)
        self.assertEqual(preparation.enhancement, enhancement)
        for row in records.rows("train"):
            original = (source / records.columns["image_id"][row]).read_bytes()
            np.testing.assert_array_equal(preparation(original)[0], records.image(row))


if __name__ == "__main__":
    unittest.main()
