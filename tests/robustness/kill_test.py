"""Commands that are killed at random moments and started again leave what an undisturbed one leaves, bit for bit."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import pytest

from tests.robustness.processes import ENVIRONMENT, ROOT, session_members
from tests.robustness.writing_commands import COMMANDS, digests

KILLS = 25


@pytest.mark.slow
@unittest.skipUnless(pathlib.Path("/proc/self/stat").exists(), "looks for processes in /proc")
class KillTest(unittest.TestCase):
    def test_each_command(self):
        for name, make in COMMANDS.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                self.check(make(), pathlib.Path(folder) / "output", random.Random(name))

    def check(self, command, output, rng):
        """Compare what a command leaves that was killed KILLS times with what it leaves undisturbed."""
        whole = output.with_name("whole")
        command.begin(output)
        started = time.monotonic()
        self.run_command(command, output)
        seconds = time.monotonic() - started
        output.rename(whole)  # both are written in the same place, as files name their folders
        command.begin(output)
        kills = 0
        while kills < KILLS:
            if self.run_command(command, output, kill_after=rng.uniform(0, seconds)) == "killed":
                kills += 1
            else:
                command.begin(output)
        self.run_command(command, output)
        self.assertEqual(digests(output), digests(whole))
        hidden = [path.name for path in output.rglob(".*") if path.is_file() and not path.name.endswith("lock")]
        self.assertEqual(hidden, [])

    def run_command(self, command, output, *, kill_after=None):
        """Run a command, with all its processes killed after some seconds; return "killed" or "ended"."""
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                [sys.executable, *command.of(output)],
                cwd=ROOT, env=ENVIRONMENT, start_new_session=True, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                status = process.wait(kill_after)
            except subprocess.TimeoutExpired:
                for member in session_members(process.pid):
                    os.kill(member, signal.SIGKILL)
                process.wait()
                return "killed"
            log.seek(0)
            self.assertIn(status, (0, 1), log.read())
        return "ended"


if __name__ == "__main__":
    unittest.main()
