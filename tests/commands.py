"""Runs a command in the process of its test."""

import contextlib
import io
from collections.abc import Callable


def run(main: Callable, *arguments: object) -> tuple[int, str, str]:
    """Call the `main` of a command; return (exit status, standard output, standard error)."""
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
    return status, stdout.getvalue(), stderr.getvalue()
