"""What a base install promises, without TensorFlow, Keras and the rest of what the extras bring.

The suite runs this with those packages hidden; `make base` runs it where they are not installed.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import cv2
import numpy as np

from dr_tf.console import MISTAKE

# Modules, and of packages all modules in them.
PROMISED = ("dr_tf", "dr_tf.grades", "dr_tf.console", "dr_tf.files", "dr_tf.runtime", "dr_tf.fundus", "dr_tf.inference")

HIDDEN = """
import importlib, pkgutil, runpy, sys
from dr_tf.console import EXTRA_OF
class Hidden:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in EXTRA_OF:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden)
"""
IMPORTED = """
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    if name != "dr_tf":
        for found in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
            importlib.import_module(found.name)
"""
COMMAND = """
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def _run(code, *arguments):
    command = [sys.executable, "-c", HIDDEN + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


class BaseInstallTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.photograph = self.folder / "none" / "eye.png"
        self.photograph.parent.mkdir()
        cv2.imwrite(str(self.photograph), np.zeros((64, 64, 3), np.uint8))

    def _assert_lacks(self, packages, *command):
        """One line says so and how to get it, with the exit status of a mistake; nothing was scored."""
        done = _run(COMMAND, *command)
        line = rf"^error: this needs ({packages})[\w.]*, which is not installed: pip install 'dr_tf\[train\]'\n$"
        self.assertRegex(done.stderr, line)
        self.assertEqual((done.returncode, done.stdout), (MISTAKE, ""))

    def test_what_is_promised_is_imported(self):
        for name in PROMISED:
            with self.subTest(name):
                done = _run(IMPORTED, name)
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_predict_says_what_it_lacks(self):
        self._assert_lacks("keras|tensorflow", "dr_tf.predict", self.photograph)

    def test_explain_says_what_it_lacks(self):
        why = self.folder / "why"
        self._assert_lacks("keras|tensorflow", "dr_tf.explain", "--output", why, self.photograph)
        self.assertFalse(why.exists())

    def test_records_are_not_begun_that_could_not_be_written(self):
        where = ("--source", self.folder, "--records", self.folder / "records")
        self._assert_lacks("tensorflow", "tfrecords_builder", "folder", *where, "--name", "x", "--classes", "none")
        self.assertFalse((self.folder / "records").exists())

    def test_the_builder_and_the_commands_tell_what_they_do(self):
        for command in ("dr_tf.predict", "dr_tf.explain", "dr_tf.ensemble", "tfrecords_builder"):
            with self.subTest(command):
                done = _run(COMMAND, command, "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
