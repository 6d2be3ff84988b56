"""What every command prints and how it ends: one-line errors, exit statuses, progress bars, standard error."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import tqdm

EXIT_USER_ERROR = 2  # as argparse exits on wrong flags
EXIT_INTERRUPTED = 130  # as shells report a process that Ctrl-C ended

_DISK_FULL = os.strerror(errno.ENOSPC)
# Importable name of a package that a base install lacks -> the extra that installs it.
EXTRA_OF = {
    "ai_edge_litert": "litert",
    "aiohttp": "bucket",
    "apache_beam": "beam",
    "faiss": "train",
    "fastapi": "serve",
    "fsspec": "bucket",
    "gcsfs": "bucket",
    "gin": "train",
    "h5py": "train",
    "highdicom": "dicom",
    "jinja2": "train",
    "keras": "train",
    "keras_cv": "keras_cv",
    "keras_hub": "train",
    "litert_quantizer": "litert",
    "matplotlib": "train",
    "onnx": "export",
    "openpyxl": "excel",
    "psutil": "train",
    "prometheus_client": "serve",
    "pydantic": "train",
    "pydicom": "dicom",
    "python_multipart": "serve",
    "s3fs": "bucket",
    "scipy": "train",
    "sklearn": "train",
    "starlette": "serve",
    "streamlit": "app",
    "tensorboard": "train",
    "tensorflow": "train",
    "tensorflow_datasets": "train",
    "tf2onnx": "export",
    "threadpoolctl": "train",
    "uvicorn": "serve",
}

_stopped_line = "stopped"  # what is printed when a signal ends the command
_cleanups: list[Callable[[], object]] = []
_visible_stderr = 2  # the descriptor that still is standard error while `captured_stderr` redirects descriptor 2


class UserError(Exception):
    """A mistake that the user can correct: a wrong flag, path, file or config. Commands print it as one line."""


class CommandExit(SystemExit):
    """The end of a command that could not do its work.

    `str()` of it is the line that was printed to standard error.

    Args:
        message: that line.
        code: the exit status.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def _first_line(error: UserError) -> str:
    return str(error).splitlines()[0]


@contextlib.contextmanager
def exit_on_user_error(
    *, format_error: Callable[[UserError], str] = _first_line, interrupted: str = "stopped"
) -> Iterator[None]:
    """Turn a user's mistake into one line on standard error and an exit status. Wrap the body of a command in it.

    A `UserError` ends the command with `EXIT_USER_ERROR`. So does the import of a package that is not installed, if an
    extra installs it, and a full disk. Ctrl-C ends it with `EXIT_INTERRUPTED`. Other exceptions are programming errors and
    pass through.

    Args:
        format_error: gives the text to print for a `UserError`. The default is its first line, because gin appends
            lines about the config to the message of an exception that a configured object raised.
        interrupted: the text to print after Ctrl-C and SIGTERM.

    Raises:
        CommandExit: a `SystemExit` with the exit status.
    """
    global _stopped_line
    before, _stopped_line = _stopped_line, interrupted
    try:
        yield
    except UserError as error:
        _exit(f"error: {format_error(error)}", EXIT_USER_ERROR)
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        _exit(f"error: this needs {error.name}, which is not installed: pip install 'dr_tf[{extra}]'", EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _exit(interrupted, EXIT_INTERRUPTED)
    except Exception as error:
        if _DISK_FULL not in str(error):  # TensorFlow, HDF5 and others have exceptions of their own for it
            raise
        _exit(f"error: {_DISK_FULL.lower()}; run the command again when there is room", EXIT_USER_ERROR)
    finally:
        _stopped_line = before


@contextlib.contextmanager
def cleaned_up_if_stopped(cleanup: Callable[[], object]) -> Iterator[None]:
    """Call `cleanup` if a signal ends the command inside the `with` block: no `finally` is run then.

    Args:
        cleanup: removes unfinished files. It must not wait for another thread.
    """
    _cleanups.append(cleanup)
    try:
        yield
    finally:
        _cleanups.remove(cleanup)


def clean_up() -> None:
    """Remove the unfinished files of a command that a signal ends: the newest first, as `finally` would."""
    for cleanup in reversed(_cleanups):
        with contextlib.suppress(Exception):
            cleanup()


def print_stopped() -> None:
    """Print the line that says that a signal ended the command, even if standard error is captured."""
    bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
    line = ("\n" if len(bars) else "") + _stopped_line + "\n"
    with contextlib.suppress(OSError):
        os.write(_visible_stderr, line.encode())


def use_utf8_in_files() -> None:
    """Write UTF-8 to standard output, whatever the locale, unless it is a terminal. Call it for CSV and JSON."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")


def require_packages(*packages: str) -> None:
    """Check that packages are installed, without importing them. Call it before long work that needs them at its end.

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def is_installed(package: str) -> bool:
    """Return whether a package is installed, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _exit(message: str, status: int) -> NoReturn:
    print_status(message)
    raise CommandExit(message, status) from None


def print_status(line: str) -> None:
    """Print a line to standard error, so that standard output holds results only."""
    print(line, file=sys.stderr)


def progress(total: int | None, description: str, unit: str) -> tqdm.tqdm:
    """Return a progress bar with a rate. Where standard error is no terminal it prints a line every half minute.

    Args:
        total: the number of steps; None if it is not known.
        description: what is being done, such as "cropping".
        unit: what is counted, such as "images".
    """
    import tqdm

    interval = 0.2 if sys.stderr.isatty() else 30
    return tqdm.tqdm(total=total, unit=f" {unit}", desc=description, mininterval=interval, maxinterval=interval)


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], bytes]]:
    """Redirect file descriptor 2 to a temporary file, and yield a function that returns what was written to it.

    Output of C libraries is captured as well. The descriptor belongs to the whole process, so use this only in a
    command's own process, while no other thread runs.
    """
    global _visible_stderr
    sys.stderr.flush()
    with tempfile.TemporaryFile() as capture:
        stderr, outer = os.dup(2), _visible_stderr
        _visible_stderr = stderr if outer == 2 else outer
        os.dup2(capture.fileno(), 2)
        try:
            yield lambda: os.pread(capture.fileno(), 1 << 20, 0)
        finally:
            os.dup2(stderr, 2)
            _visible_stderr = outer
            os.close(stderr)
