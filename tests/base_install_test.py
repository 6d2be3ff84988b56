"""What works in a base install, without TensorFlow, Keras and the other packages of the extras.

The suite runs this with those packages hidden. `make base` runs it where they are not installed.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import cv2
import numpy as np

from dr_tf.cli.main import COMMANDS
from dr_tf.console import EXIT_USER_ERROR

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

    def test_predict_names_the_extra(self):
        self._assert_names_the_extra("keras|tensorflow", "dr_tf.predict", self.image)

    def test_explain_names_the_extra(self):
        output = self.folder / "maps"
        self._assert_names_the_extra("keras|tensorflow", "dr_tf.explain", "--output", output, self.image)
        self.assertFalse(output.exists())

    def test_records_that_could_not_be_written_are_not_begun(self):
        folders = ("--source", self.folder, "--records", self.folder / "records")
        self._assert_names_the_extra(
            "tensorflow", "tfrecords_builder", "folder", *folders, "--name", "x", "--classes", "none"
        )
        self.assertFalse((self.folder / "records").exists())

    def test_help_of_the_commands(self):
        modules = [("dr_tf.predict",), ("dr_tf.explain",), ("dr_tf.ensemble",), ("tfrecords_builder",)]
        for command in (*modules, *(("dr_tf", name) for name in COMMANDS)):
            with self.subTest(command):
                process = _run(RUN_MODULE, *command, "--help")
                self.assertEqual((process.returncode, process.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
