import contextlib
import functools
import os
import pathlib
import tempfile
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
    """JPEG bytes of a synthetic fundus, blurred by a Gaussian of this width in pixels."""
    image = draw_fundus(size=(640, 480), radius=200.0, seed=seed)
    image = cv2.GaussianBlur(image, (0, 0), blur) if blur else image
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


class Deadly:
    """Kills the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (9,)


class PrepareCaseTest(unittest.TestCase):
    def test_the_most_gradable_of_several_images_of_an_eye_is_taken(self):
        sharp, soft, worse = (photograph(blur=blur) for blur in (0, 4, 12))
        each = [prepare_image(PREPARATION, one).info.gradability for one in (sharp, soft, worse)]
        self.assertEqual(each, sorted(each, reverse=True))
        self.assertGreater(each[0], each[1])
        best = prepare_image(PREPARATION, sharp, "12")
        for order in ((soft, sharp, worse), (sharp, soft), (worse, b"", sharp), (sharp,)):
            result = prepare_case(PREPARATION, Case("12", {"left": order, "right": (soft,)}))
            self.assertEqual(list(result), ["left", "right"])
            self.assertEqual(result["left"].info, best.info)
            np.testing.assert_array_equal(result["left"].pixels, best.pixels)
            self.assertEqual(result["right"].info.gradability, each[1])

    def test_pixels_have_the_size_of_the_networks_input(self):
        result = prepare_image(PREPARATION, photograph(), "a")
        self.assertEqual((result.pixels.shape, result.pixels.dtype), ((32, 32, 3), np.uint8))
        self.assertEqual((result.info.photograph, result.info.geometry.width), ("a", 640))

    def test_if_none_can_be_read_the_reason_is_that_of_the_first(self):
        result = prepare_case(PREPARATION, Case("12", {"left": (b"nothing", "nowhere.jpg")}))["left"]
        self.assertIsNone(result.pixels)
        self.assertNotEqual(result.info.reason, "out of focus")
        self.assertIsNone(result.info.gradability)
        other = prepare_case(PREPARATION, Case("12", {"left": ("nowhere.jpg", b"nothing")}))["left"]
        self.assertEqual((other.info.photograph, other.info.reason), ("nowhere.jpg", "it cannot be read: No such file or directory"))  # fmt: skip

    def test_if_no_worker_can_be_started_the_image_is_reported_as_unreadable(self):
        def no_process_left(*_, **__):
            raise OSError(24, "Too many open files")

        processes = subprocesses.WorkerPool(1)
        with mock.patch("dr_tf.fundus.subprocesses._Worker", no_process_left):
            for _ in range(3):  # the place in the pool is freed each time
                result = prepare_image(PREPARATION, photograph(), "a.jpg", processes)
                self.assertEqual(result.info.reason, "it cannot be read: Too many open files")
        self.assertEqual(prepare_image(PREPARATION, photograph(), "a.jpg", processes).info.reason, "out of focus")

    def test_a_relative_path_is_that_of_the_caller(self):
        prepare_image(PREPARATION, photograph())  # the shared worker starts here
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            pathlib.Path("eye.jpg").write_bytes(photograph())
            prepared = prepare_image(PREPARATION, "eye.jpg")
        self.assertEqual(prepared.info.photograph, "eye.jpg")
        self.assertIsNotNone(prepared.pixels)

    def test_a_killed_worker_is_replaced(self):
        processes = subprocesses.WorkerPool(1)
        self.assertEqual(prepare_image(PREPARATION, photograph(), "a.jpg", processes).info.reason, "out of focus")
        idle = processes._idle.queue[0]
        idle._process.kill()
        idle._process.wait()
        self.assertEqual(prepare_image(PREPARATION, photograph(), "a.jpg", processes).info.reason, "out of focus")


class ImageReadersTest(unittest.TestCase):
    def test_workers_give_the_same_images_in_order(self):
        cases = [Case(str(i), {"left": (photograph(), photograph(blur=6))}) for i in range(3)]
        cases.insert(1, Case("deadly", {"left": (Deadly(),), "right": (photograph(),)}))
        result = list(ImageReaders(PREPARATION, 2).prepare_ahead(cases, 2))
        here = prepare_case(PREPARATION, cases[0])["left"]
        for i in (0, 2, 3):
            np.testing.assert_array_equal(result[i]["left"].pixels, here.pixels)
            self.assertEqual(result[i]["left"].info.gradability, here.info.gradability)
        reasons = {eye: of.info.reason for eye, of in result[1].items()}
        self.assertEqual(
            reasons, {"left": "the process that read it died: the file may be malicious", "right": "out of focus"}
        )


if __name__ == "__main__":
    unittest.main()
