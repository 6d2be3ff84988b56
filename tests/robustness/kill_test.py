"""Commands that are killed at random moments and started again leave what an undisturbed one leaves, bit for bit.

Each command is killed with all its processes by SIGKILL, up to KILLS times, and each time started again as it was. The
result is compared with that of a command that nobody killed.
"""

import hashlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

import pytest

from tests import tiny
from tests.robustness.processes import ENVIRONMENT, ROOT, session_members

KILLS = 25
CONFIG = tiny.CONFIG.replace("train.epochs = 1", "train.epochs = 4\ntrain.checkpoint_every = 1\ntrain.keep = 'last'")
GRID = "grid.parameters = {'optimization.learning_rate': [1e-3, 1e-4]}\n"
# What differs between two undisturbed commands, too.
NOT_COMPARED = re.compile(r"/tensorboard/|/checkpoints/|lock$")


def digests(folder):
    """{path: digest of the content} of the files below a folder, without the times at which they were written."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: _digest(path) for name, path in paths.items() if not NOT_COMPARED.search(f"/{name}")}


def _digest(path):
    if path.suffix in (".npz", ".keras"):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if name != "metadata.json"}
        content = b"".join(name.encode() + data for name, data in sorted(members.items()))
    else:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()


@pytest.mark.slow
@unittest.skipUnless(pathlib.Path("/proc/self/stat").exists(), "looks for processes in /proc")
class KillTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "config.gin").write_text(CONFIG)
        (cls.folder / "grid.gin").write_text(GRID)

    def check(self, name, *command, copy=None):
        """Compare the folders of two commands, one that was killed and one that was not.

        Args:
            name: of the folders.
            command: the argument OUTPUT stands for the folder.
            copy: what the folder holds at first; by default there is none.
        """
        output, whole = self.folder / name, self.folder / f"{name}-whole"

        def begin():
            shutil.rmtree(output, ignore_errors=True)
            if copy:
                shutil.copytree(copy, output)

        begin()
        started = time.monotonic()
        self._run(command, output)
        seconds = time.monotonic() - started
        output.rename(whole)  # both in the same place, as files name their folders
        begin()
        rng, kills = random.Random(name), 0
        while kills < KILLS:
            if self._run(command, output, kill_after=rng.uniform(0, seconds)) is None:
                kills += 1
            else:
                begin()
        self._run(command, output)
        self.assertEqual(digests(output), digests(whole))
        hidden = [path.name for path in output.rglob(".*") if path.is_file() and not path.name.endswith("lock")]
        self.assertEqual(hidden, [])

    def _run(self, command, output, *, kill_after=None):
        """Run a command; return its exit status, or None if it was killed."""
        arguments = [str(output) if part == "OUTPUT" else str(part) for part in command]
        with open(self.folder / "log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, start_new_session=True, stdout=log, stderr=log
            )
            try:
                status = process.wait(kill_after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                for left in session_members(process.pid):
                    os.kill(left, signal.SIGKILL)
                return None
        self.assertIn(status, (0, 1), (self.folder / "log").read_text())
        return status

    def train(self, *flags):
        config = ("--gin_file", self.folder / "config.gin", "--records", tiny.records_root())
        return ("train.py", *config, "--run_dir", "OUTPUT", *flags)

    def test_build(self):
        tiny.records_root()
        source = tiny.records_root().parent / "photographs"
        flags = ("--name", "tiny", "--classes", tiny.CLASSES, "--image_size", 64, "--workers", 2, "--folds", 2)
        self.check("build", "-m", "tfrecords_builder", "folder", "--source", source, "--records", "OUTPUT", *flags)

    def test_training(self):
        self.check("training", *self.train())

    def test_folds_and_refit(self):
        self.check("folds", *self.train("--folds", 2, "--refit"))

    def test_grid(self):
        self.check("grid", *self.train("--grid_file", self.folder / "grid.gin"))

    def test_evaluation(self):
        run = tiny.run_dir()
        self.check("evaluation", "evaluate.py", "--run_dir", "OUTPUT", "--records", tiny.records_root(), copy=run)

    def test_export(self):
        flags = ("--records", tiny.records_root(), "--output", "OUTPUT")
        self.check("export", "-m", "dr_tf.export", "--run_dir", tiny.run_dir(), "--format", "onnx", *flags)

    def test_explanations(self):
        flags = ("--output", "OUTPUT", *tiny.photographs()[:6])
        self.check("explain", "-m", "dr_tf.explain", "--run_dir", tiny.run_dir(), *flags)


if __name__ == "__main__":
    unittest.main()
