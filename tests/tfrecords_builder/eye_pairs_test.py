"""Paired records: which image of an eye is used, and how an absent eye is written."""

import unittest

import numpy as np

from dr_tf.fundus.geometry import Geometry
from dr_tf.fundus.gradability import Gradability
from dr_tf.fundus.prepare import encode_jpeg
from tfrecords_builder.crops import Crop
from tfrecords_builder.eye_pairs import choose_image_per_eye
from tfrecords_builder.samples import make_sample


def _crop(image_id, patient="p", eye="left", score=0.9, **fields):
    return Crop(
        sample=make_sample(image_id=image_id, path=f"{image_id}.jpg", patient_id=patient, eye=eye, **fields),
        jpeg=encode_jpeg(np.full((32, 32, 3), 90, np.uint8)),
        geometry=Geometry(100, 80, (50.0, 40.0, 39.0), (11, 1, 89, 79), (0, 0, 0, 0), 32),
        gradability=Gradability(score, 1.0, 1.0, 1.0, 1.0, ""),
        roundness=1.0,
        sha256="0" * 64,
        bytes_in=1000,
    )


class ChooseImagePerEyeTest(unittest.TestCase):
    def test_the_most_gradable_image_of_an_eye_stays(self):
        crops = [_crop("a", score=0.5), _crop("b", score=0.8), _crop("c", eye="right", score=0.1)]
        samples, rejections = choose_image_per_eye(crops)
        self.assertEqual([s.image_id for s in samples], ["b", "c"])
        self.assertEqual(
            [(r.image_id, r.reason) for r in rejections], [("a", "b shows the same eye and is more gradable")]
        )

    def test_without_patient_or_eye_there_is_no_pair(self):
        samples, rejections = choose_image_per_eye([_crop("a", patient=""), _crop("b", eye="")])
        self.assertEqual(samples, [])
        self.assertEqual({r.reason for r in rejections}, {"the patient or the eye is unknown"})


class AbsentEyeTest(unittest.TestCase):
    def test_an_absent_eye_is_black_and_unknown(self):
        from tfrecords_builder.records import pair_features, to_pair_example

        pair = to_pair_example({"right": _crop("a", eye="right", grade=3, age=61, sex="female")}, 32)
        pair_features(32).encode_example(pair)  # fits the schema
        self.assertTrue(pair["right_present"])
        self.assertFalse(pair["left_present"])
        self.assertEqual((pair["age"], pair["sex"], pair["right"]["grade"]), (61, "female", 3))
        self.assertEqual((pair["left"]["grade"], pair["left"]["image_id"], pair["left"]["eye"]), (-1, "", "left"))


if __name__ == "__main__":
    unittest.main()
