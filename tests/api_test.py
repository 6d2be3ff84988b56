"""The Python API: the examples in its docstrings run, and every kind of image gives the same decision."""

import contextlib
import doctest
import inspect
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import cv2
import numpy as np
import pytest

import dr_tf
from dr_tf import api
from dr_tf.inference.predictor import Predictor
from dr_tf.inference.ready import READY
from tests import tiny, tiny_pairs
from tests.fundus.synthetic_images import draw_fundus, jpeg

ROOT = pathlib.Path(__file__).resolve().parent.parent
FUNCTIONS = ("load", "prepare", "read_records", "train", "evaluate")


class ApiTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.pixels = draw_fundus(size=(400, 300), radius=140)
        (cls.folder / "eye.jpg").write_bytes(jpeg(cls.pixels))
        (cls.folder / "records").symlink_to(tiny.records_root())
        shutil.copytree(tiny.run_dir(), cls.folder / "runs" / "first")
        cls.enterClassContext(contextlib.chdir(cls.folder))
        cls.model = dr_tf.load("runs/first")

    def test_examples(self):
        tests = {
            test.name.removeprefix("dr_tf.api."): test
            for module in (dr_tf, api)
            for test in doctest.DocTestFinder().find(module, globs={})
            if test.examples
        }
        documented = {"dr_tf", "Model", "Model.predict", "Model.explain", "ClassActivationMap", *FUNCTIONS}
        self.assertLessEqual(documented, set(tests))
        for name, test in tests.items():
            with self.subTest(name):
                output = []
                results = doctest.DocTestRunner().run(test, out=output.append)
                self.assertEqual(results.failed, 0, "".join(output))

    def test_every_function_documents_arguments_result_errors_and_an_example(self):
        for name in FUNCTIONS:
            for part in ("Args:", "Returns:", "Raises:", "Examples:"):
                self.assertIn(part, inspect.getdoc(getattr(dr_tf, name)), name)

    def test_kinds_of_images(self):
        path = self.folder / "eye.jpg"
        expected = Predictor.from_run("runs/first").decide(path).p_positive
        for images in (str(path), path, path.read_bytes(), dr_tf.Case.from_image(path), [path]):
            [decision] = self.model.predict(images)
            self.assertAlmostEqual(decision.p_positive, expected, places=5)
        rgb = cv2.imread(str(path))[..., ::-1].copy()
        for images in (rgb, rgb[None], [rgb]):
            [decision] = self.model.predict(images)  # a JPEG file is decoded at a smaller scale
            self.assertAlmostEqual(decision.p_positive, expected, delta=0.05)

    def test_a_folder_stands_for_its_images(self):
        names = [pathlib.Path(decision.case).name for decision in self.model.predict(["eye.jpg", ROOT / "docs"])]
        self.assertEqual(names[0], "eye.jpg")
        self.assertIn("sheet.jpg", names)

    def test_images_that_cannot_be_used(self):
        [decision] = self.model.predict(b"no image")
        self.assertEqual(decision.action, "retake")
        [(_, cam)] = self.model.explain(b"no image")
        self.assertIsNone(cam)
        with self.assertRaisesRegex(dr_tf.UserError, "there is no file gone.jpg"):
            self.model.predict("gone.jpg")

    def test_maps_are_drawn_on_pixels_as_on_files(self):
        (_, of_file), (_, of_pixels) = self.model.explain(["eye.jpg", self.pixels])
        self.assertEqual(of_file.draw().shape, (300, 400, 3))
        difference = np.abs(of_file.draw("jet").astype(int) - of_pixels.draw("jet"))
        self.assertLess(difference.mean(), 8)
        with self.assertRaisesRegex(dr_tf.UserError, "no image of the eye 'left'"):
            of_file.draw(eye="left")

    @pytest.mark.slow
    def test_pairs(self):
        model = dr_tf.load(tiny_pairs.run_dir())
        self.assertTrue(model.paired)
        for eye in ("left", "right"):
            (self.folder / f"7_{eye}.jpg").write_bytes(jpeg(self.pixels))
        [decision] = model.predict(["7_left.jpg", "7_right.jpg"])
        self.assertEqual((decision.case, list(decision.images)), ("7", ["left", "right"]))
        [(_, cam)] = model.explain(dr_tf.Case("7", {"right": ("7_right.jpg",)}))
        self.assertEqual(cam.draw(eye="right").shape, (300, 400, 3))

    def test_the_ready_model(self):
        model = dr_tf.load()
        self.assertEqual(model.run_dir, READY)
        self.assertIn("385 pixels", repr(model))
        self.assertGreater(model.operating_point.threshold, 0)

    def test_folds_are_evaluated_from_stored_predictions(self):
        with self.assertRaisesRegex(dr_tf.UserError, "split='folds' evaluates stored predictions"):
            dr_tf.evaluate("runs/first", "records", split="folds", label_shift="em")


class PackageTest(unittest.TestCase):
    def test_names(self):
        self.assertLessEqual(set(dr_tf.__all__), set(dir(dr_tf)))
        for name in dr_tf.__all__:
            self.assertIsNotNone(getattr(dr_tf, name))
        with self.assertRaises(AttributeError):
            _ = dr_tf.no_such_name

    def test_import_loads_nothing_heavy(self):
        code = "import sys, dr_tf; print(sorted(set(sys.modules) & {'numpy', 'cv2', 'tensorflow', 'keras', 'absl'}))"
        process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(process.stdout, "[]\n")


if __name__ == "__main__":
    unittest.main()
