import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy as np

from dr_tf.fundus import subprocesses
from dr_tf.fundus.header import BadImageError
from dr_tf.fundus.prepare import prepare, prepare_undamaged
from tests.fundus.synthetic_images import draw_fundus, jpeg

SIZE = 64
WHOLE = jpeg(draw_fundus(size=(640, 480), radius=210.0))


def flipped(at, bit=0):
    data = bytearray(WHOLE)
    data[at] ^= 1 << bit
    return bytes(data)


DAMAGED = WHOLE[: len(WHOLE) // 2] + WHOLE[len(WHOLE) // 2 + 100 :]
SCAN = WHOLE.index(b"\xff\xda") + 14


def outcome(data):
    try:
        return prepare_undamaged(data, size=SIZE).image
    except BadImageError as error:
        return str(error)


class DamageTest(unittest.TestCase):
    def test_what_is_whole_is_prepared_as_without_listening(self):
        np.testing.assert_array_equal(outcome(WHOLE), prepare(WHOLE, size=SIZE).image)

    def test_whatever_libjpeg_says_of_flipped_bits_is_heard(self):
        """Against what a process of its own, that does nothing else, says on its standard error."""
        rng = np.random.default_rng(0)
        files = [flipped(at, rng.integers(8)) for at in rng.integers(SCAN, len(WHOLE) - 2, 40)]
        with tempfile.TemporaryDirectory() as folder:
            for number, data in enumerate(files):
                pathlib.Path(folder, f"{number:03}.jpg").write_bytes(data)
            code = (
                "import cv2, os, pathlib, sys\n"
                "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
                "    os.write(2, b'\\n= ' + path.stem.encode() + b'\\n')\n"
                "    cv2.imread(str(path))\n"
            )
            said = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, check=True).stderr
        warned = [b"Corrupt JPEG data" in part for part in said.split(b"\n= ")[1:]]
        self.assertGreater(sum(warned), 5)
        for data, damaged in zip(files, warned, strict=True):
            self.assertEqual(isinstance(outcome(data), str), damaged or isinstance(refusal(data), str))

    def test_threads_of_one_process_each_get_the_right_answer(self):
        expected = [outcome(WHOLE), outcome(DAMAGED)]
        self.assertEqual(expected[1], "the JPEG file is damaged")
        wrong = []

        def work(number):
            for i in range(6):
                kind = (i + number) % 2
                found = outcome((WHOLE, DAMAGED)[kind])
                if not np.array_equal(found, expected[kind]):
                    wrong.append(found)

        run_threads([lambda number=number: work(number) for number in range(2)])
        self.assertEqual(wrong, [])


def refusal(data):
    """Why it is refused whether or not somebody listens."""
    try:
        return prepare(data, size=SIZE)
    except BadImageError as error:
        return str(error)


def run_threads(works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class NothingElseChangesTest(unittest.TestCase):
    def test_standard_error_stays_what_it_is_while_others_decode(self):
        code = (
            "import os, threading\n"
            "from tests.fundus import subprocesses_test as t\n"
            "before = os.fstat(2)\n"
            "done = threading.Event()\n"
            "def decode():\n"
            "    for _ in range(5): t.outcome(t.DAMAGED)\n"
            "    done.set()\n"
            "thread = threading.Thread(target=decode)\n"
            "thread.start()\n"
            "count = 0\n"
            "while not done.is_set():\n"
            "    os.write(2, b'line\\n')\n"
            "    count += 1\n"
            "    assert os.path.samestat(before, os.fstat(2))\n"
            "    done.wait(0.001)\n"
            "thread.join()\n"
            "print(count)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_paths(), check=True)
        self.assertGreater(int(done.stdout), 3)
        self.assertEqual(done.stderr, "line\n" * int(done.stdout))

    def test_a_fork_has_processes_of_its_own(self):
        outcome(WHOLE)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, outcome(DAMAGED).encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as file:
            self.assertEqual(file.read(), "the JPEG file is damaged")
        self.assertIsInstance(outcome(WHOLE), np.ndarray)


class ProcessesTest(unittest.TestCase):
    def test_a_process_that_dies_is_replaced(self):
        processes = subprocesses.WorkerPool(1)
        with self.assertRaisesRegex(BadImageError, "the process that read it died"):
            processes.run(os._exit, 9)
        self.assertEqual(processes.run(abs, -3), 3)

    def test_exceptions_reach_the_caller(self):
        processes = subprocesses.WorkerPool(1)
        with self.assertRaises(ZeroDivisionError):
            processes.run(divmod, 1, 0)
        self.assertEqual(processes.run(divmod, 7, 2), (3, 1))

    def test_started_early_it_is_the_same_process_that_answers(self):
        processes = subprocesses.WorkerPool(2)
        processes.start_worker()
        self.assertEqual(processes.run(os.getpid), processes.run(os.getpid))


def _paths():
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}


if __name__ == "__main__":
    unittest.main()
