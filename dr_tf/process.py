"""How a command owns its process: standard streams that fail in one line, and signals that end it in one line.

Everything here changes the whole process, so only the entry points of commands call it.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

from dr_tf.console import CommandExit, UserError, clean_up, exit_on_user_error, print_stopped

EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE  # as shells report a process that a broken pipe ended
STATUSES = "130 after Ctrl-C, 143 after SIGTERM, 141 if whatever reads standard output ends first (as in `| head -1`)"
_PROC = pathlib.Path("/proc")


def run_command(main: Callable[[], object]) -> None:
    """Run the `main` of a command as the work of this process.

    SIGINT and SIGTERM end the process and its children with one line. A full disk behind standard output ends it with
    `EXIT_USER_ERROR` and one line, a broken pipe with `EXIT_BROKEN_PIPE` and no line. Letters that a terminal lacks are
    printed as backslash escapes.

    Raises:
        SystemExit: as `main` does, or with the exit status of the above.
    """
    _take_over_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # a shell's background job ignores Ctrl-C
            signal.signal(number, _stop)
    with exit_on_user_error():
        try:
            main()
        finally:
            sys.stdout.flush()


def _take_over_streams() -> None:
    # A descriptor that is closed at the start would be given to the next file that is opened, and be printed into.
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(descriptor):
            os.dup2(os.open(os.devnull, mode), descriptor)  # printing to a descriptor opened for reading is an error
    sys.stdout = _text(_StandardOutput(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_StandardError(2, "w", closefd=False), sys.stderr, line_buffering=True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _text(raw: io.FileIO, before: TextIO | None, *, line_buffering: bool = False) -> io.TextIOWrapper:
    """Wrap a raw stream as Python wrapped it, but for letters that its encoding lacks."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering or os.isatty(raw.fileno()),
        write_through=isinstance(before, io.TextIOWrapper) and before.write_through,
    )


class _StandardOutput(io.FileIO):
    """Standard output whose errors end a command.

    They are no `OSError` as soon as they arise: a command would take that for an error of its own files.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # what is still buffered would fail again when the process ends
            os.close(null)
            if isinstance(error, BrokenPipeError):
                raise CommandExit("", EXIT_BROKEN_PIPE) from None
            raise UserError(f"standard output cannot be written: {error.strerror}") from None


class _StandardError(io.FileIO):
    """Standard error whose errors are ignored: a command's work does not depend on its messages."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _stop(number: int, frame: FrameType | None) -> None:
    """End the process and its children.

    No exception is raised: libraries swallow it in callbacks and imports, or print it with a traceback.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)  # a second signal ends the process at once
    _end_children()
    clean_up()
    with contextlib.suppress(Exception, SystemExit):  # the signal may have interrupted a write
        sys.stdout.flush()
    print_stopped()
    _end_children()  # those that other threads started meanwhile, in place of those that the signal ended
    os._exit(128 + number)


def _end_children() -> None:
    for child in _children():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGTERM)  # not SIGKILL: multiprocessing's resource tracker frees semaphores first


def _children() -> Iterator[int]:
    """Yield the process ids of all children. Without /proc there are none: workers end when their pipes close."""
    for status in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a process may end meanwhile
            if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                yield int(status.parent.name)
