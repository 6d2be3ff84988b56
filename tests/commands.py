"""A command, run in the process of its test."""

import contextlib
import io


def run(main, *arguments):
    """(exit status, standard output, standard error)."""
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
    return status, output.getvalue(), errors.getvalue()
