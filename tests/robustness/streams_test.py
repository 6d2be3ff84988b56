"""Pipes, full disks, closed descriptors and ASCII terminals end no command with a traceback."""

import csv
import io
import os
import pathlib
import pty
import subprocess
import sys
import tempfile
import unittest

from dr_tf.process import EXIT_BROKEN_PIPE
from tests.robustness import processes

ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
NAME = "rétine–é.jpg"


class StreamsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.photographs = processes.write_photographs(folder / "photographs", [NAME, "b.jpg"])

    def predict(self, redirection, *flags, **environment):
        return processes.shell(redirection, *processes.PREDICT, *flags, self.photographs, **environment)

    def lines(self, process):
        """The lines on standard error, without the notice about the model."""
        return process.stderr.decode().splitlines()[1:]

    def test_a_pipe_that_is_closed_early(self):
        process = self.predict("| true; exit ${PIPESTATUS[0]}")
        self.assertEqual((process.returncode, self.lines(process)), (EXIT_BROKEN_PIPE, []))

    def test_a_full_disk(self):
        process = self.predict("> /dev/full")
        message = "error: standard output cannot be written: No space left on device"
        self.assertEqual((process.returncode, self.lines(process)), (2, [message]))

    def test_closed_standard_output(self):
        process = self.predict(">&-")
        message = "error: standard output cannot be written: Bad file descriptor"
        self.assertEqual((process.returncode, self.lines(process)), (2, [message]))

    def test_standard_error_that_is_closed_or_full(self):
        for redirection in ("2>&-", "2> /dev/full", "<&- 2>&-"):
            with self.subTest(redirection):
                process = self.predict(redirection)
                self.assertIn(process.returncode, (0, 1))
                self.assertEqual(process.stdout.count(b"\n"), 3)  # no message is among the results

    def test_help_of_all_commands_on_a_full_disk(self):
        for arguments in (
            ("-m", "dr_tf"), ("-m", "dr_tf", "predict"), ("-m", "dr_tf", "records"), ("-m", "dr_tf.explain"), ("evaluate.py",),
        ):  # fmt: skip
            with self.subTest(arguments):
                process = processes.shell("> /dev/full", *arguments, "--help")
                self.assertEqual((process.returncode, process.stderr.count(b"\n")), (2, 1), process.stderr)

    def test_letters_that_a_terminal_lacks_are_escaped(self):
        master, terminal = pty.openpty()
        process = subprocess.run(
            [sys.executable, *processes.PREDICT, "--format", "csv", str(self.photographs)],
            cwd=processes.ROOT, env=processes.ENVIRONMENT | ASCII, stdout=terminal, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(terminal)
        self.assertIn(process.returncode, (0, 1), process.stderr)
        self.assertIn(rb"r\xe9tine\u2013\xe9.jpg", _read_all(master))

    def test_an_error_on_an_ascii_terminal(self):
        process = processes.shell("", *processes.PREDICT, "nétwork.jpg", **ASCII)
        self.assertEqual((process.returncode, process.stderr.count(b"\n")), (2, 1))
        self.assertTrue(process.stderr.isascii())

    def test_tables_in_files_are_utf_8_in_every_locale(self):
        for environment in (ASCII, {"LC_ALL": "C.UTF-8"}):
            with self.subTest(environment):
                process = self.predict("| cat", "--format", "csv", **environment)
                rows = list(csv.DictReader(io.StringIO(process.stdout.decode("utf-8"))))
                self.assertEqual([pathlib.Path(row["case"]).name for row in rows], ["b.jpg", NAME])


def _read_all(descriptor):
    text = b""
    try:
        while part := os.read(descriptor, 1 << 16):
            text += part
    except OSError:  # Linux's end of file on a terminal
        pass
    os.close(descriptor)
    return text


if __name__ == "__main__":
    unittest.main()
