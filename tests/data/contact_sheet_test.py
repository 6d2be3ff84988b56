"""The contact sheet shows the training batches in their order, with the names of the targets."""

import pathlib

import cv2
import numpy as np
import tensorflow as tf

from dr_tf.console import UserError
from dr_tf.data.augmentation import Augmentation, Warp
from dr_tf.data.batches import training_batches
from dr_tf.data.contact_sheet import draw_contact_sheet
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import open_records
from dr_tf.data.sampling import ExactlyEach, Shuffled
from tests.data.sets import drawn_root, scratch


class ContactSheetTest(tf.test.TestCase):
    def _sheet(self, dataset, column, sampling, path, count=8):
        records = open_records(drawn_root(), dataset)
        rows, targets = records.rows("train"), records.columns[column]
        order = sampling.plan(targets[rows], batch_size=4, seed=0)
        augmented, originals = (
            training_batches(ImageLoader(records), targets, rows=rows, order=order, augmentation=augmentation)
            for augmentation in (Augmentation(warp=Warp(rotation=(180, 180))), None)
        )
        return draw_contact_sheet(
            path, augmented, originals, name_of=lambda target: f"grade {target}", count=count
        ), originals

    def test_originals_stand_beside_augmented_images(self):
        path = pathlib.Path(scratch(self)) / "new" / "sheet.png"
        drawn, originals = self._sheet("drawn/plain", "grade", ExactlyEach(per_class=1), path)
        self.assertEqual(drawn, 10)  # two batches of five
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        first = next(iter(originals))[0][0].numpy()
        recorded, augmented = picture[44:204, :160], picture[44:204, 160:320]
        self.assertAllEqual(recorded, cv2.resize(first, (160, 160), interpolation=cv2.INTER_AREA))
        self.assertLess(np.abs(augmented.astype(int) - recorded[::-1, ::-1]).mean(), 3)  # turned upside down

    def test_pairs(self):
        path = pathlib.Path(scratch(self)) / "sheet.png"
        self.assertEqual(self._sheet("paired/plain", "age", Shuffled(), path, count=3)[0], 4)
        self.assertEqual(cv2.imread(str(path)).shape[1], 8 * 160 + 4 * 6)

    def test_a_folder_that_cannot_be_written_to(self):
        with self.assertRaisesRegex(UserError, "cannot be written"):
            self._sheet("drawn/plain", "grade", Shuffled(), "/proc/sheet.png")


if __name__ == "__main__":
    tf.test.main()
