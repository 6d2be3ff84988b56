"""A killed evaluation leaves the earlier or the new one in its place, at whatever moment it is killed."""

import contextlib
import itertools
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

from dr_tf import files
from dr_tf.evaluation.evaluation_folder import read_json, write_evaluation
from dr_tf.evaluation.predictions_csv import read_predictions, write_predictions
from tests.evaluation.synthetic_predictions import make_graded

STEPS = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "shutil.rmtree",
    "open",
}  # events of Python that change files


def _write_files(folder, predictions, metrics, options):
    for name in ("metrics.json", "report.html"):
        (folder / name).write_text(f'{{"version": 2, "number": {metrics}}}', encoding="utf-8")


class KilledTest(unittest.TestCase):
    def setUp(self):
        self.parent = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "evaluation"
        self.folder = self.parent / "set-test"
        self.enterContext(mock.patch("dr_tf.evaluation.evaluation_folder._write_files", _write_files))
        self.numbers = itertools.count()
        self._write()

    def _write(self):
        self.number = next(self.numbers)
        write_evaluation(self.folder, None, self.number)

    def _in_place(self):
        """The number of the evaluation, the same in all its files."""
        numbers = {read_json(self.folder / name)["number"] for name in ("metrics.json", "report.html")}
        self.assertEqual(len(numbers), 1)
        return numbers.pop()

    def _killed(self, prepare):
        """Write in a process that ends by SIGKILL; return whether it did."""
        number = next(self.numbers)
        if not (child := os.fork()):
            with contextlib.suppress(BaseException):
                prepare()
                write_evaluation(self.folder, None, number)
            os._exit(0)
        return os.waitpid(child, 0)[1] == signal.SIGKILL

    def _kill_at_each_step(self, before_reading):
        outcomes = set()
        for step in itertools.count(1):
            before = self._in_place()
            killed = self._killed(lambda step=step: sys.addaudithook(_kill_at(step)))
            before_reading()
            after = self._in_place()
            self.assertIn(after, (before, before + 1))
            if not killed:
                break
            outcomes.add(after - before)
            self._write()
            self.assertEqual(self._in_place(), self.number)
            self.assertEqual(os.listdir(self.parent), ["set-test"])
        self.assertEqual(outcomes, {0, 1})
        self.assertGreater(step, 8)

    @unittest.skipUnless(sys.platform == "linux", "exchanges folders as Linux does")
    def test_at_each_step(self):
        self._kill_at_each_step(lambda: self.assertTrue(self.folder.is_dir()))

    def test_at_each_step_where_the_system_cannot_exchange_folders(self):
        self.enterContext(mock.patch("dr_tf.files.exchange", return_value=False))
        absent = []
        self._kill_at_each_step(lambda: absent.append(not self.folder.is_dir()))
        self.assertIn(True, absent)  # from where reading brings it back

    def test_at_random_moments(self):
        rng = random.Random(0)
        for _ in range(30):
            if not (child := os.fork()):
                with contextlib.suppress(BaseException):
                    for number in itertools.count(self.number + 1):
                        write_evaluation(self.folder, None, number)
                os._exit(0)
            time.sleep(rng.uniform(0.002, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            self.assertTrue(self.folder.is_dir())
            self._in_place()
        self._write()
        self.assertEqual(os.listdir(self.parent), ["set-test"])

    def test_another_evaluation_that_is_being_written_is_left_alone(self):
        ready, done = os.pipe(), os.pipe()

        def wait(*arguments):
            os.write(ready[1], b"1")
            os.read(done[0], 1)
            _write_files(*arguments)

        if not (child := os.fork()):
            with (
                contextlib.suppress(BaseException),
                mock.patch("dr_tf.evaluation.evaluation_folder._write_files", wait),
            ):
                write_evaluation(self.parent / "other-test", None, 7)
            os._exit(0)
        os.read(ready[0], 1)
        threading.Timer(0.3, os.write, (done[1], b"1")).start()
        self._write()
        os.waitpid(child, 0)
        self.assertEqual(sorted(os.listdir(self.parent)), ["other-test", "set-test"])

    def test_predictions_are_read_from_an_evaluation_that_was_put_aside(self):
        predictions = make_graded(40)
        path = self.folder / "predictions.csv"
        write_predictions(path, predictions)
        self.folder.rename(self.parent / f"{files.REPLACED}set-test")
        self.assertEqual(read_predictions(path).ids.tolist(), predictions.ids.tolist())


def _kill_at(step):
    """An audit hook that kills this process just before the `step`-th change of a file."""
    changes = itertools.count(1)

    def hook(event, arguments):
        if event in STEPS and next(changes) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


if __name__ == "__main__":
    unittest.main()
