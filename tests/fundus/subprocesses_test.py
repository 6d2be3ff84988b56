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


def flip_bit(position, bit):
    data = bytearray(WHOLE)
    data[position] ^= 1 << bit
    return bytes(data)


DAMAGED = WHOLE[: len(WHOLE) // 2] + WHOLE[len(WHOLE) // 2 + 100 :]
SCAN_START = WHOLE.index(b"\xff\xda") + 14


def prepare_or_reason(data):
    """Return the crop, or the reason for which the data are refused."""
    try:
        return prepare_undamaged(data, size=SIZE).image
    except BadImageError as error:
        return str(error)


class DamageTest(unittest.TestCase):
    def test_an_undamaged_file_gives_the_same_crop_as_prepare(self):
        np.testing.assert_array_equal(prepare_or_reason(WHOLE), prepare(WHOLE, size=SIZE).image)

    def test_flipped_bits_are_refused_if_libjpeg_warns_of_them(self):
        """Compares with the warnings that a separate process writes to its standard error."""
        rng = np.random.default_rng(0)
        files = [flip_bit(position, rng.integers(8)) for position in rng.integers(SCAN_START, len(WHOLE) - 2, 40)]
        with tempfile.TemporaryDirectory() as folder:
            for number, data in enumerate(files):
                pathlib.Path(folder, f"{number:03}.jpg").write_bytes(data)
            code = (
                "import cv2, os, pathlib, sys\n"
                "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
                "    os.write(2, b'\\n= ' + path.stem.encode() + b'\\n')\n"
                "    cv2.imread(str(path))\n"
            )
            stderr = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, check=True).stderr
        warned = [b"Corrupt JPEG data" in part for part in stderr.split(b"\n= ")[1:]]
        self.assertGreater(sum(warned), 5)
        for data, damaged in zip(files, warned, strict=True):
            self.assertEqual(
                isinstance(prepare_or_reason(data), str), damaged or isinstance(refusal_of_prepare(data), str)
            )

    def test_concurrent_threads_each_get_the_right_result(self):
        expected = [prepare_or_reason(WHOLE), prepare_or_reason(DAMAGED)]
        self.assertEqual(expected[1], "the JPEG file is damaged")
        wrong = []

        def work(number):
            for i in range(6):
                kind = (i + number) % 2
                result = prepare_or_reason((WHOLE, DAMAGED)[kind])
                if not np.array_equal(result, expected[kind]):
                    wrong.append(result)

        run_threads([lambda number=number: work(number) for number in range(2)])
        self.assertEqual(wrong, [])


def refusal_of_prepare(data):
    """Return the reason for which `prepare` itself refuses the data, or None."""
    try:
        prepare(data, size=SIZE)
    except BadImageError as error:
        return str(error)
    return None


def run_threads(works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class CallerTest(unittest.TestCase):
    def test_the_caller_keeps_its_standard_error_while_a_thread_decodes(self):
        code = (
            "import os, threading\n"
            "from tests.fundus import subprocesses_test as t\n"
            "before = os.fstat(2)\n"
            "done = threading.Event()\n"
            "def decode():\n"
            "    for _ in range(5): t.prepare_or_reason(t.DAMAGED)\n"
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

    def test_a_forked_child_starts_its_own_workers(self):
        prepare_or_reason(WHOLE)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, prepare_or_reason(DAMAGED).encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as file:
            self.assertEqual(file.read(), "the JPEG file is damaged")
        self.assertIsInstance(prepare_or_reason(WHOLE), np.ndarray)


class WorkerPoolTest(unittest.TestCase):
    def test_a_worker_that_dies_is_replaced(self):
        pool = subprocesses.WorkerPool(1)
        with self.assertRaisesRegex(BadImageError, "the process that read it died"):
            pool.run(os._exit, 9)
        self.assertEqual(pool.run(abs, -3), 3)

    def test_exceptions_reach_the_caller(self):
        pool = subprocesses.WorkerPool(1)
        with self.assertRaises(ZeroDivisionError):
            pool.run(divmod, 1, 0)
        self.assertEqual(pool.run(divmod, 7, 2), (3, 1))

    def test_a_worker_that_was_started_early_makes_the_call(self):
        pool = subprocesses.WorkerPool(2)
        pool.start_worker()
        self.assertEqual(pool.run(os.getpid), pool.run(os.getpid))


def _paths():
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}


if __name__ == "__main__":
    unittest.main()
