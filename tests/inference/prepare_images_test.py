import functools
import os
import unittest
from unittest import mock

import cv2
import numpy as np

from dr_tf.fundus import subprocesses
from dr_tf.inference.case import Case
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.prepare_images import ImageReaders, prepare_case, prepare_image
from tests.fundus.synthetic_images import draw_fundus

PREPARATION = Preparation("tiny/64-plain-q95", size=64, enhancement="plain", quality=95, image_size=32)


@functools.cache
def photograph(seed=0, blur=0):
    """Bytes of a drawn fundus, out of focus by so many pixels."""
    image = draw_fundus(size=(640, 480), radius=200.0, seed=seed)
    image = cv2.GaussianBlur(image, (0, 0), blur) if blur else image
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


class Deadly:
    """Ends the process that it is handed to."""

    def __reduce__(self):
        return os._exit, (9,)


class CaseTest(unittest.TestCase):
    def test_of_several_photographs_of_an_eye_the_most_gradable_is_taken(self):
        sharp, soft, worse = (photograph(blur=blur) for blur in (0, 4, 12))
        each = [prepare_image(PREPARATION, one).info.gradability for one in (sharp, soft, worse)]
        self.assertEqual(each, sorted(each, reverse=True))
        self.assertGreater(each[0], each[1])
        best = prepare_image(PREPARATION, sharp, "12")
        for order in ((soft, sharp, worse), (sharp, soft), (worse, b"", sharp), (sharp,)):
            found = prepare_case(PREPARATION, Case("12", {"left": order, "right": (soft,)}))
            self.assertEqual(list(found), ["left", "right"])
            self.assertEqual(found["left"].info, best.info)
            np.testing.assert_array_equal(found["left"].pixels, best.pixels)
            self.assertEqual(found["right"].info.gradability, each[1])

    def test_what_is_read_is_what_the_network_takes(self):
        found = prepare_image(PREPARATION, photograph(), "a")
        self.assertEqual((found.pixels.shape, found.pixels.dtype), ((32, 32, 3), np.uint8))
        self.assertEqual((found.info.photograph, found.info.geometry.width), ("a", 640))

    def test_where_none_can_be_read_the_first_says_why(self):
        found = prepare_case(PREPARATION, Case("12", {"left": (b"nothing", "nowhere.jpg")}))["left"]
        self.assertIsNone(found.pixels)
        self.assertNotEqual(found.info.reason, "out of focus")
        self.assertIsNone(found.info.gradability)
        other = prepare_case(PREPARATION, Case("12", {"left": ("nowhere.jpg", b"nothing")}))["left"]
        self.assertEqual((other.info.photograph, other.info.reason), ("nowhere.jpg", "it cannot be read: No such file or directory"))  # fmt: skip

    def test_where_no_process_can_be_started_the_photograph_is_named(self):
        def none_left(*_, **__):
            raise OSError(24, "Too many open files")

        processes = subprocesses.WorkerPool(1)
        with mock.patch("dr_tf.fundus.subprocesses._Worker", none_left):
            for _ in range(3):  # the one place is free again each time
                found = prepare_image(PREPARATION, photograph(), "a.jpg", processes)
                self.assertEqual(found.info.reason, "it cannot be read: Too many open files")
        self.assertEqual(prepare_image(PREPARATION, photograph(), "a.jpg", processes).info.reason, "out of focus")

    def test_a_process_that_was_killed_since_is_not_asked(self):
        processes = subprocesses.WorkerPool(1)
        self.assertEqual(prepare_image(PREPARATION, photograph(), "a.jpg", processes).info.reason, "out of focus")
        idle = processes._idle.queue[0]
        idle._process.kill()
        idle._process.wait()
        self.assertEqual(prepare_image(PREPARATION, photograph(), "a.jpg", processes).info.reason, "out of focus")


class ReadersTest(unittest.TestCase):
    def test_other_processes_read_the_same_in_order(self):
        cases = [Case(str(i), {"left": (photograph(), photograph(blur=6))}) for i in range(3)]
        cases.insert(1, Case("deadly", {"left": (Deadly(),), "right": (photograph(),)}))
        found = list(ImageReaders(PREPARATION, 2).prepare_ahead(cases, 2))
        here = prepare_case(PREPARATION, cases[0])["left"]
        for i in (0, 2, 3):
            np.testing.assert_array_equal(found[i]["left"].pixels, here.pixels)
            self.assertEqual(found[i]["left"].info.gradability, here.info.gradability)
        reasons = {eye: of.info.reason for eye, of in found[1].items()}
        self.assertEqual(
            reasons, {"left": "the process that read it died: the file may be malicious", "right": "out of focus"}
        )


if __name__ == "__main__":
    unittest.main()
