"""What works in a base install, without TensorFlow, Keras and the other packages of the extras.

The suite runs this with those packages hidden. `make base` runs it where they are not installed.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import cv2
import numpy as np

from dr_tf.cli.main import COMMANDS
from dr_tf.console import EXIT_USER_ERROR
from dr_tf.fundus.synthesis import render_patient
from dr_tf.inference.ready import READY

# Modules that a base install can import; of a package every module in it.
IMPORTABLE = (
    "dr_tf", "dr_tf.api", "dr_tf.cli", "dr_tf.config_files", "dr_tf.console", "dr_tf.files", "dr_tf.fundus", "dr_tf.grades",
    "dr_tf.inference", "dr_tf.runtime",
)  # fmt: skip

HIDDEN = """
import importlib, pkgutil, runpy, sys
from dr_tf.console import EXTRA_OF
class Hidden:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in EXTRA_OF:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden)
"""
IMPORT = """
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    if name != "dr_tf":
        for submodule in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
            importlib.import_module(submodule.name)
"""
RUN_MODULE = """
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def _run(code, *arguments):
    command = [sys.executable, "-c", HIDDEN + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


class BaseInstallTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.image = self.folder / "none" / "eye.png"
        self.image.parent.mkdir()
        cv2.imwrite(str(self.image), np.zeros((64, 64, 3), np.uint8))

    def _assert_names_the_extra(self, packages, *command):
        """A command prints one line that names a missing package and its extra, and nothing else."""
        process = _run(RUN_MODULE, *command)
        line = rf"^error: this needs ({packages})[\w.]*, which is not installed: pip install 'dr_tf\[train\]'\n$"
        self.assertRegex(process.stderr, line)
        self.assertEqual((process.returncode, process.stdout), (EXIT_USER_ERROR, ""))

    def test_modules_of_a_base_install_can_be_imported(self):
        for name in IMPORTABLE:
            with self.subTest(name):
                process = _run(IMPORT, name)
                self.assertEqual((process.returncode, process.stderr), (0, ""))

    def _photograph(self):
        path = self.folder / "retina.jpg"
        path.write_bytes(render_patient(1, side=400).eyes[0].encode())
        return path

    def test_predict_by_the_model_that_comes_with_dr_tf(self):
        process = _run(RUN_MODULE, "dr_tf.predict", self._photograph())
        self.assertIn(process.returncode, (0, 1), process.stderr)
        self.assertRegex(process.stdout, r"p\(referable\).*\n(refer|clear|retake)")
        self.assertIn("runtime: ONNX Runtime\n", process.stderr)

    def test_explain_by_the_model_that_comes_with_dr_tf(self):
        output = self.folder / "maps"
        process = _run(RUN_MODULE, "dr_tf.explain", "--output", output, self._photograph())
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual({path.name for path in output.iterdir()}, {"explanations.json", "retina.explained.jpg"})
        self.assertIn("maps: cam, stride_32\n", process.stderr)
        self.assertRegex(process.stderr, "explanations.html needs jinja2")

    def test_a_run_without_an_export_names_the_extra(self):
        run = self.folder / "run"
        run.mkdir()
        for name in ("decision.json", "gate.npz", "model.keras"):
            shutil.copyfile(READY / name, run / name)
        self._assert_names_the_extra("keras|tensorflow", "dr_tf.predict", "--run_dir", run, self.image)
        output = self.folder / "maps"
        self._assert_names_the_extra(
            "keras|tensorflow", "dr_tf.explain", "--run_dir", run, "--output", output, self.image
        )
        self.assertFalse(output.exists())

    def test_the_fast_path_never_imports_tensorflow(self):
        code = "from dr_tf.inference.predictor import Predictor\nfrom dr_tf.inference.ready import READY\n"
        code += "print(Predictor.from_run(READY).run.network.description)"
        process = _run(code)
        self.assertIn("in ONNX Runtime", process.stdout, process.stderr)

    def test_records_that_could_not_be_written_are_not_begun(self):
        folders = ("--source", self.folder, "--records", self.folder / "records")
        self._assert_names_the_extra(
            "tensorflow", "tfrecords_builder", "folder", *folders, "--name", "x", "--classes", "none"
        )
        self.assertFalse((self.folder / "records").exists())

    def test_help_of_the_commands(self):
        modules = [
            ("dr_tf.predict",),
            ("dr_tf.explain",),
            ("dr_tf.ensemble",),
            ("dr_tf.export",),
            ("tfrecords_builder",),
        ]
        for command in (*modules, *(("dr_tf", name) for name in COMMANDS)):
            with self.subTest(command):
                process = _run(RUN_MODULE, *command, "--help")
                self.assertEqual((process.returncode, process.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
