"""Manners at a terminal, shared by all commands."""

import contextlib
import os
import sys
import tempfile


class UserError(Exception):
    """A mistake that the person at the keyboard can mend: one line, no traceback."""


@contextlib.contextmanager
def mistakes_in_one_line():
    """Around a command: a person's mistake ends it with one line and a status that is not zero."""
    try:
        yield
    except UserError as error:
        # gin adds lines on where it was when a part that it built refused its parameters.
        sys.exit(f"error: {str(error).splitlines()[0]}")
    except KeyboardInterrupt:
        sys.exit("stopped")


def progress(total, doing, what):
    """A bar with a rate on a terminal; a line every half minute where the output goes to a file."""
    import tqdm

    patience = 0.2 if sys.stderr.isatty() else 30
    return tqdm.tqdm(total=total, unit=f" {what}", desc=doing, mininterval=patience, maxinterval=patience)


@contextlib.contextmanager
def captured_stderr():
    """Yields a function that tells, as bytes, what this process wrote to descriptor 2 since: C libraries, too."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield lambda: os.pread(held.fileno(), 1 << 20, 0)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def without_greetings():
    """Around the first import of TensorFlow: holds back what its libraries say of themselves, unless the import fails.

    They write to the descriptor before their own log level is read, so no setting of theirs helps; later it does.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    said = b""
    try:
        with captured_stderr() as captured:
            try:
                yield
            finally:
                said = captured()
    except UserError:
        raise
    except BaseException:
        os.write(2, said)
        raise


@contextlib.contextmanager
def imported_without(*names):
    """Keras imports these where they are there, a third of its own import, for what nobody calls here."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
