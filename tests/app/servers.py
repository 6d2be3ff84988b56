"""The page as a server in a process of its own."""

import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """`dr_tf app` with flags, until `stop`. What it prints and its temporary files go to a folder.

    Attributes:
        url: of the page.
        folder: for its log.txt and its temporary files.
        process: the process.
    """

    def __init__(self, folder, *flags):
        port, self.folder = free_port(), folder
        (folder / "temporary").mkdir()
        self.url = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "HOME": "/nonexistent",
            "TMPDIR": str(folder / "temporary"),
        }
        command = [sys.executable, "-m", "dr_tf", "app", "--port", str(port), *map(str, flags)]
        with open(folder / "log.txt", "w") as log:
            self.process = subprocess.Popen(command, cwd="/", env=environment, stdout=log, stderr=subprocess.STDOUT)
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        self.process.kill()
        raise RuntimeError(f"the page did not start: {self.log()}")

    def log(self):
        """What the server has printed."""
        return (self.folder / "log.txt").read_text()

    def resident_megabytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def stop(self):
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
