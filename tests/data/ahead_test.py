"""Batches made ahead: in order, whoever asks, and without keeping a program from ending."""

import pathlib
import subprocess
import sys
import unittest

import pytest

from dr_tf.data.prefetch import Ahead
from tests.data.sets import drawn_root

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Begun:
    def __init__(self):
        self.steps = []

    def __call__(self, step):
        self.steps.append(step)
        batch = [0] * 4
        return batch, lambda i, value: batch.__setitem__(i, value), [(i, 10 * step + i) for i in range(4)]


class AheadTest(unittest.TestCase):
    def test_batches_are_whole_and_two_are_begun_ahead(self):
        begun = Begun()
        ahead = Ahead(begun, 6, threads=3)
        self.assertEqual(ahead(0), [0, 1, 2, 3])
        self.assertEqual(begun.steps, [0, 1, 2])
        self.assertEqual([ahead(step)[3] for step in range(1, 6)], [13, 23, 33, 43, 53])
        self.assertEqual(begun.steps, list(range(6)))

    def test_starting_over(self):
        ahead = Ahead(Begun(), 9, threads=2)
        self.assertEqual([ahead(step)[0] for step in (0, 1, 2, 0, 1, 7, 8, 0)], [0, 10, 20, 0, 10, 70, 80, 0])

    def test_a_mistake_in_a_thread_is_raised_where_the_batch_is_asked_for(self):
        def begin(step):
            return [], lambda: 1 / step, [()]

        ahead = Ahead(begin, 3, threads=2)
        with self.assertRaises(ZeroDivisionError):
            ahead(0)
        self.assertEqual(ahead(1), [])

    @pytest.mark.slow
    def test_a_program_ends_with_batches_under_way(self):
        code = (
            "import sys\n"
            "from dr_tf.data.batches import training_batches\n"
            "from dr_tf.data.images import Photographs\n"
            "from dr_tf.data.records import open_records\n"
            "from dr_tf.data.sampling import Shuffled\n"
            "records = open_records(sys.argv[1], 'drawn/plain')\n"
            "grades = records.columns['grade']\n"
            "order = Shuffled().plan(grades, batch_size=10, seed=0)\n"
            "batches = iter(training_batches(Photographs(records), grades, rows=range(30), order=order, epochs=99))\n"
            "next(batches)\n"
        )
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", code, drawn_root()], cwd=ROOT, capture_output=True, text=True, timeout=120
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
