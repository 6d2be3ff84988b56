"""Worker processes: order, bounded look-ahead, crashes, and parents that are killed."""

import functools
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from tfrecords_builder.workers import _AHEAD, map_in_order

ROOT = pathlib.Path(__file__).parents[2]
UNGUARDED = """
import math
from tfrecords_builder.workers import map_in_order
print(list(map_in_order(math.sqrt, [1, 4, 9], workers=2, on_crash=str)))
"""


def slow_when_even(item):
    time.sleep(0.05 if item % 2 == 0 else 0)
    return item * 10


def die_on(fatal, item):
    if item in fatal:
        os._exit(9)
    return item


def fail_on_three(item):
    if item == 3:
        raise KeyError("three")
    return item


def sleep_after_writing_pid(folder, item):
    (pathlib.Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def mapped(function, items, workers=2):
    return map_in_order(function, items, workers=workers, on_crash=lambda item: f"{item} died")


class WorkersTest(unittest.TestCase):
    def test_a_script_without_a_main_guard(self):
        with tempfile.TemporaryDirectory() as folder:
            script = pathlib.Path(folder, "script.py")
            script.write_text(UNGUARDED)
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "[1.0, 2.0, 3.0]\n")

    def test_order_is_kept(self):
        for workers in (1, 3):
            self.assertEqual(list(mapped(slow_when_even, range(20), workers)), [i * 10 for i in range(20)])

    def test_no_items_give_no_results(self):
        self.assertEqual(list(mapped(slow_when_even, [])), [])

    def test_endless_items_are_taken_only_a_little_ahead(self):
        taken = []
        items = (taken.append(i) or i for i in itertools.count())
        results = mapped(slow_when_even, items)
        self.assertEqual([next(results) for _ in range(30)], [i * 10 for i in range(30)])
        results.close()
        self.assertLessEqual(len(taken), 30 + 2 * _AHEAD)

    def test_only_the_item_that_crashes_its_worker_is_lost(self):
        results = list(mapped(functools.partial(die_on, (4, 5)), range(40)))
        self.assertEqual(results, ["4 died" if i == 4 else "5 died" if i == 5 else i for i in range(40)])

    def test_a_crash_while_the_caller_is_busy_is_noticed(self):
        # Work handed to a pool that broke since its last result used to raise.
        results = mapped(functools.partial(die_on, (1,)), range(40))
        found = [next(results)]
        time.sleep(1)
        self.assertEqual(found + list(results), ["1 died" if i == 1 else i for i in range(40)])

    def test_the_last_item_may_crash_its_worker(self):
        self.assertEqual(list(mapped(functools.partial(die_on, (2,)), range(3))), [0, 1, "2 died"])

    def test_exceptions_reach_the_caller(self):
        results = mapped(fail_on_three, range(10))
        self.assertEqual([next(results) for _ in range(3)], [0, 1, 2])
        with self.assertRaisesRegex(KeyError, "three"):
            next(results)


def alive(process):
    """Whether a process exists and is not a zombie."""
    try:
        state = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class KilledParentTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self):
        """Start a process with two workers that sleep for a minute, and return it when both are asleep."""
        code = (
            "import functools\n"
            "from tests.tfrecords_builder import workers_test as t\n"
            f"work = functools.partial(t.sleep_after_writing_pid, {str(self.folder)!r})\n"
            "list(t.mapped(work, range(4)))\n"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.addCleanup(self.end, parent)
        self.assertTrue(wait_for(lambda: len(list(self.folder.iterdir())) == 2), "both workers are at work")
        return parent, [int(path.name) for path in self.folder.iterdir()]

    def end(self, parent):
        with_group = [parent.pid] if parent.poll() is None else []
        for group in with_group:
            os.killpg(group, signal.SIGKILL)
        parent.stderr.close()
        parent.wait()

    @unittest.skipUnless(pathlib.Path("/proc/self/stat").exists(), "looks for processes in /proc")
    def test_no_worker_outlives_a_killed_parent(self):
        parent, workers = self.start()
        self.assertTrue(all(alive(worker) for worker in workers))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        self.assertTrue(wait_for(lambda: not any(alive(worker) for worker in workers), 10))


if __name__ == "__main__":
    unittest.main()
