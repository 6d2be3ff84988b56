"""Starts commands as processes of their own, with real pipes, descriptors and signals."""

import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from tests.tfrecords_builder.trees import jpeg, photograph

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PREDICT = ("-m", "tests.robustness.predict_without_tensorflow")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@functools.cache
def photograph_bytes():
    """A JPEG of a small fundus photograph."""
    return jpeg(photograph())


def write_photographs(folder, names):
    """Write a photograph under each name and return the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(photograph_bytes())
    return folder


def shell(redirection, *arguments, **environment):
    """Run Python with a shell's redirection; return the completed process."""
    script = f'"$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT | environment, capture_output=True,
    )  # fmt: skip


def start(*arguments):
    """Start Python in a process group of its own, and return it once it handles signals."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=ENVIRONMENT, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not _handles_sigterm(process.pid) and process.poll() is None:
        time.sleep(0.002)
    return process


def _handles_sigterm(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def session_members(session):
    """Return the ids of the living processes of a session."""
    members = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of_session) == session and state != "Z":
            members.append(int(stat.parent.name))
    return members
