"""SIGINT and SIGTERM at random moments end a command with one line, its status, and no process left behind."""

import os
import pathlib
import random
import signal
import tempfile
import time
import unittest

import pytest

from tests.robustness import processes
from tests.tfrecords_builder.trees import write_folder

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@unittest.skipUnless(pathlib.Path("/proc/self/stat").exists(), "looks for processes in /proc")
class SignalsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.photographs = processes.write_photographs(cls.folder / "photographs", [f"{i}.jpg" for i in range(40)])
        write_folder(cls.folder / "tree", splits=("train", "test"), each=3)

    def predict(self):
        return (*processes.PREDICT, self.photographs), None

    def records(self):
        records = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        flags = ("--name", "tree", "--classes", "none,mild,moderate,severe,proliferative", "--image_size", 64)
        paths = ("--source", self.folder / "tree", "--records", records)
        return ("-m", "tfrecords_builder", "folder", *paths, *flags, "--workers", 2), records

    def stop(self, rng, command, seconds):
        """Send a signal to a command at a random moment, and check how it ends; return whether it was still at work."""
        arguments, output = command()
        process = processes.start(*arguments)
        number, whole_group, delay = rng.choice(list(STATUS)), rng.random() < 0.5, rng.uniform(0, seconds)
        time.sleep(delay)
        at_work = process.poll() is None
        if at_work:
            (os.killpg if whole_group else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=60)
        case = f"{command.__name__} {number.name} {whole_group=} {delay=:.3f}: {process.returncode} {errors.decode()}"
        self._check_end(process, errors.decode(), number, case)
        if output is not None and process.returncode == STATUS[number]:
            left = [path for path in output.rglob("*") if path.name.startswith(".building")]
            self.assertEqual(left, [], case)
        return at_work and process.returncode == STATUS[number]

    def _check_end(self, process, errors, number, case):
        self.assertIn(process.returncode, (0, 1, STATUS[number], -number), case)
        self.assertNotIn("Traceback", errors, case)
        self.assertNotIn("leaked", errors, case)
        if process.returncode == STATUS[number]:
            self.assertTrue(errors.splitlines()[-1].startswith("stopped"), case)
            self.assertEqual(errors.count("stopped"), 1, case)
        end = time.monotonic() + 1
        while (left := processes.session_members(process.pid)) and time.monotonic() < end:
            time.sleep(0.02)
        self.assertEqual(left, [], case)

    def stress(self, seed, tries, *commands):
        rng = random.Random(seed)
        at_work = sum(self.stop(rng, command, seconds) for _ in range(tries) for command, seconds in commands)
        self.assertGreater(at_work, 0)
        print(f"{at_work} of {tries * len(commands)} commands were stopped at work")

    @pytest.mark.slow
    def test_a_few_random_moments(self):
        self.stress(0, 4, (self.predict, 2), (self.records, 4))

    @pytest.mark.slow
    def test_many_random_moments(self):
        self.stress(1, 50, (self.predict, 6), (self.records, 12))


if __name__ == "__main__":
    unittest.main()
