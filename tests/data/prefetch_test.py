"""Prefetching of batches: their order, errors in threads, and the end of the interpreter while batches are pending."""

import pathlib
import subprocess
import sys
import unittest

import pytest

from dr_tf.data.prefetch import BatchPrefetcher
from tests.data.sets import drawn_root

ROOT = pathlib.Path(__file__).resolve().parents[2]


class RecordingBegin:
    def __init__(self):
        self.steps = []

    def __call__(self, step):
        self.steps.append(step)
        batch = [0] * 4
        return batch, lambda i, value: batch.__setitem__(i, value), [(i, 10 * step + i) for i in range(4)]


class BatchPrefetcherTest(unittest.TestCase):
    def test_batches_are_complete_and_two_are_begun_ahead(self):
        begin = RecordingBegin()
        prefetcher = BatchPrefetcher(begin, 6, threads=3)
        self.assertEqual(prefetcher(0), [0, 1, 2, 3])
        self.assertEqual(begin.steps, [0, 1, 2])
        self.assertEqual([prefetcher(step)[3] for step in range(1, 6)], [13, 23, 33, 43, 53])
        self.assertEqual(begin.steps, list(range(6)))

    def test_steps_may_start_over_or_jump(self):
        prefetcher = BatchPrefetcher(RecordingBegin(), 9, threads=2)
        self.assertEqual([prefetcher(step)[0] for step in (0, 1, 2, 0, 1, 7, 8, 0)], [0, 10, 20, 0, 10, 70, 80, 0])

    def test_an_error_in_a_thread_is_raised_when_the_batch_is_requested(self):
        def begin(step):
            return [], lambda: 1 / step, [()]

        prefetcher = BatchPrefetcher(begin, 3, threads=2)
        with self.assertRaises(ZeroDivisionError):
            prefetcher(0)
        self.assertEqual(prefetcher(1), [])

    @pytest.mark.slow
    def test_the_interpreter_ends_while_batches_are_pending(self):
        code = (
            "import sys\n"
            "from dr_tf.data.batches import training_batches\n"
            "from dr_tf.data.images import ImageLoader\n"
            "from dr_tf.data.records import open_records\n"
            "from dr_tf.data.sampling import Shuffled\n"
            "records = open_records(sys.argv[1], 'drawn/plain')\n"
            "grades = records.columns['grade']\n"
            "order = Shuffled().plan(grades, batch_size=10, seed=0)\n"
            "batches = iter(training_batches(ImageLoader(records), grades, rows=range(30), order=order, epochs=99))\n"
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
