"""Manners at a terminal, shared by all commands."""

import contextlib
import importlib.util
import os
import sys
import tempfile

MISTAKE, STOPPED = 2, 130  # exit statuses: wrong use, as argparse has it, and the interrupt key, as shells have it

# What a base install lacks, as it is imported -> the extra that brings it.
EXTRA_OF = {
    "apache_beam": "beam",
    "gin": "train",
    "h5py": "train",
    "keras": "train",
    "keras_cv": "keras_cv",
    "keras_hub": "train",
    "matplotlib": "train",
    "openpyxl": "excel",
    "psutil": "train",
    "scipy": "train",
    "sklearn": "train",
    "tensorboard": "train",
    "tensorflow": "train",
    "tensorflow_datasets": "train",
    "threadpoolctl": "train",
}


class UserError(Exception):
    """A mistake that the person at the keyboard can mend: one line, no traceback."""


class Ended(SystemExit):
    """A command ends before its work is done. `str()` of it is the line that was said, `code` the exit status."""

    def __init__(self, said: str, code: int):
        super().__init__(said)
        self.code = code


@contextlib.contextmanager
def mistakes_in_one_line(*, told=lambda error: str(error).splitlines()[0], stopped="stopped"):
    """Around a command: a person's mistake ends it with one line on stderr and the exit status MISTAKE.

    So does a package that is not installed, where an extra brings it; the interrupt key ends it with STOPPED.

    Args:
        told: what is said of a UserError. The first line, as gin adds lines on where it was when a part that it built
            refused its parameters.
        stopped: what is said after the interrupt key.
    """
    try:
        yield
    except UserError as error:
        _end(f"error: {told(error)}", MISTAKE)
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        _end(f"error: this needs {error.name}, which is not installed: pip install 'dr_tf[{extra}]'", MISTAKE)
    except KeyboardInterrupt:
        _end(stopped, STOPPED)


def need(*packages: str):
    """Before long work that ends in them: ModuleNotFoundError for one that is not installed. Imports nothing."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _end(said, status):
    say(said)
    raise Ended(said, status) from None


def say(line: str):
    """Beside the answers of a command, which go to standard output."""
    print(line, file=sys.stderr)


def progress(total, doing, what):
    """A bar with a rate on a terminal; a line every half minute where the output goes to a file."""
    import tqdm

    patience = 0.2 if sys.stderr.isatty() else 30
    return tqdm.tqdm(total=total, unit=f" {what}", desc=doing, mininterval=patience, maxinterval=patience)


@contextlib.contextmanager
def captured_stderr():
    """Yields a function that tells, as bytes, what this process wrote to descriptor 2 since: C libraries, too.

    The descriptor is the whole process's, so this is for a command's own process while nothing else runs in it.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield lambda: os.pread(held.fileno(), 1 << 20, 0)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
