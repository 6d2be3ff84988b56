"""What an original goes through gives what is in its record, however the records were enhanced."""

import pathlib
import tempfile
import unittest

import numpy as np

from dr_tf.data.records import open_records
from dr_tf.fundus.enhance import ENHANCEMENTS
from dr_tf.inference.preparation import Preparation
from tests.tfrecords_builder.trees import run_builder, write_folder


class EnhancedTest(unittest.TestCase):
    def test_an_original_is_enhanced_as_its_record_was(self):
        with tempfile.TemporaryDirectory() as folder:
            source = write_folder(pathlib.Path(folder) / "photographs", splits=("train",), each=1)
            for enhancement in ENHANCEMENTS:
                with self.subTest(enhancement):
                    self._check(source, pathlib.Path(folder) / "records", enhancement)

    def _check(self, source, root, enhancement):
        flags = (
            "--name",
            "eyes",
            "--classes",
            "none,mild,moderate,severe,proliferative",
            "--image_size",
            "64",
            "--workers",
            1,
        )
        run_builder(
            "folder", "--source", source, "--records", root, "--enhancement", enhancement, "--audit", "off", *flags
        )
        records = open_records(root, f"eyes/64-{enhancement}-q95")
        preparation = Preparation.of_records(records.name, 64)
        self.assertEqual(preparation.enhancement, enhancement)
        for row in records.rows("train"):
            original = (source / records.columns["image_id"][row]).read_bytes()
            np.testing.assert_array_equal(preparation(original)[0], records.photograph(row))


if __name__ == "__main__":
    unittest.main()
