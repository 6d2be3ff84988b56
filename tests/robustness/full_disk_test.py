"""A disk that is full at any write ends a command in one line, and once there is room it ends as on an empty disk.

The disk is a file system in memory (tmpfs) of a given size, which each command has for itself.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import pytest

from tests.robustness.processes import ENVIRONMENT, ROOT
from tests.robustness.writing_commands import COMMANDS, digests

SHARES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97)  # of what the command writes
# Arguments: the disk, its size in kilobytes, the folder for a copy of the result, what the output holds at first, the command.
SCRIPT = """
disk=$1 size=$2 result=$3 copied=$4; shift 4
mount -t tmpfs -o size=2g tmpfs "$disk"
[ -z "$copied" ] || cp -a "$copied" "$disk/output"
used=$(du -sk "$disk" | cut -f1)
mount -o remount,size=$((used + size))k "$disk"
"$@" > "$result.log" 2>&1; status=$?
echo $status > "$result.status"
mount -o remount,size=2g "$disk"
if [ $status = 2 ]; then "$@" || [ $? = 1 ] || exit 1; fi
cp -a "$disk/output" "$result"
"""


def may_mount():
    command = ["unshare", "--mount", "--map-root-user", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
@unittest.skipUnless(may_mount(), "needs unshare, and the right to mount a file system")
class FullDiskTest(unittest.TestCase):
    def test_each_command(self):
        for name, make in COMMANDS.items():
            command = make()
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                whole = self.run_command(command, pathlib.Path(folder), 2**20)
                kilobytes = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) / 1024
                for share in SHARES:
                    with self.subTest(share=share):
                        result = self.run_command(command, pathlib.Path(folder), max(4, int(share * kilobytes)))
                        self.assertEqual(digests(result), digests(whole))

    def run_command(self, command, folder, kilobytes):
        """Run a command on a disk with some kilobytes free, and again once it has more; return a copy of the result."""
        disk, result = folder / "disk", folder / f"result-{kilobytes}"
        disk.mkdir(exist_ok=True)
        python = [sys.executable, *command.of(disk / "output")]
        script = ["unshare", "--mount", "--map-root-user", "bash", "-c", SCRIPT, "bash"]
        arguments = [disk, kilobytes, result, command.copied or ""]
        done = subprocess.run(
            [*script, *map(str, arguments), *python], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        status, said = (pathlib.Path(f"{result}.{end}").read_text() for end in ("status", "log"))
        self.assertIn(int(status), (0, 1, 2), said)
        self.assertNotIn("Traceback", said)
        if int(status) == 2:
            self.assertTrue(said.splitlines()[-1].startswith("error: "), said)
        return result


if __name__ == "__main__":
    unittest.main()
