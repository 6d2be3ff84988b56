"""A run that is killed and started again ends bit for bit like an uninterrupted one."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np
import pytest

from tests import tiny
from train import main

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = """
train.dataset = 'tiny/64-plain-q95'
train.heads = {'grade': @softmax()}
train.model = @classifier
train.epochs = 6
train.batch_size = 4
train.checkpoint_every = 2
train.augmentation = @augmentation()
train.optimization = @optimization()
augmentation.warp = @warp()
warp.rotation = 10
classifier.backbone = @backbone()
classifier.dropout = 0.5
backbone.name = 'resnet_v2'
backbone.image_size = 64
backbone.stem = 4
backbone.filters = (4, 8)
optimization.decay = 'cosine'
optimization.ema = 0.9
"""
# Kills itself when the second checkpoint is half written.
KILLED_WHILE_WRITING = """
import os, signal, sys
import numpy as np
import train
whole, calls = np.savez, []
def half(file, **arrays):
    calls.append(file)
    if len(calls) == 4:
        with open(file, "wb") as stream:
            stream.write(b"PK half")
        os.kill(os.getpid(), signal.SIGKILL)
    whole(file, **arrays)
np.savez = half
train.main(sys.argv[1:])
"""


class ResumeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "config.gin").write_text(CONFIG)
        cls.arguments = ["--gin_file", cls.folder / "config.gin", "--records", tiny.records_root(), "--run_dir"]
        cls.whole = cls._run("whole")

    @classmethod
    def _run(cls, name):
        main(list(map(str, [*cls.arguments, cls.folder / name])))
        return cls.folder / name

    def _start(self, *code):
        """Start a training process; return it and its run directory."""
        run = self.folder / self.id()
        command = list(map(str, [sys.executable, *code, *self.arguments, run]))
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), run

    def _assert_same(self, run):
        self.assertEqual((run / "history.csv").read_text(), (self.whole / "history.csv").read_text())
        ours, theirs = (np.load(r / "checkpoints/epoch-00006/variables.npz") for r in (run, self.whole))
        for name in theirs.files:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
        self.assertEqual(_weights(run), _weights(self.whole))

    @pytest.mark.slow
    def test_killed_in_the_middle_of_an_epoch(self):
        process, run = self._start("train.py")
        wait_for(lambda: _epochs(run) >= 3, process)
        process.send_signal(signal.SIGKILL)
        self.assertEqual(process.wait(), -signal.SIGKILL)
        self.assertLess(_epochs(run), 6)
        self._assert_same(self._run(run.name))

    @pytest.mark.slow
    def test_killed_while_writing_a_checkpoint(self):
        process, run = self._start("-c", KILLED_WHILE_WRITING)
        self.assertEqual(process.wait(), -signal.SIGKILL)
        left = sorted(os.listdir(run / "checkpoints"))
        self.assertEqual([name for name in left if name.startswith("epoch")], ["epoch-00002"])
        self.assertEqual(len(left), 2)
        self._assert_same(self._run(run.name))

    @pytest.mark.slow
    def test_a_finished_run_is_not_changed(self):
        before = (self.whole / "model.keras").stat().st_mtime_ns
        self._run("whole")
        self.assertEqual((self.whole / "model.keras").stat().st_mtime_ns, before)


def _epochs(run):
    path = run / "history.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"ended with {process.poll()} before")
        time.sleep(0.005)


def _weights(run):
    """Digest of the finished model's weights; the file itself contains the time it was written."""
    import hashlib
    import zipfile

    with zipfile.ZipFile(run / "model.keras") as file:
        return hashlib.sha256(file.read("model.weights.h5")).hexdigest()
