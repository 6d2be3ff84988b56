"""How a command starts TensorFlow. What is here changes the whole process: only commands may use it, no library module.

A command's process is its own, and at its start nothing else runs in it. A server's or a notebook's is not.
"""

import contextlib
import os
import pathlib
import re
import sys

from dr_tf.console import UserError, captured_stderr

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_CPUINFO = pathlib.Path("/proc/cpuinfo")


@contextlib.contextmanager
def starting_tensorflow(*, without=()):
    """Around a command's first import of TensorFlow: it will be fast, and its libraries say nothing of themselves.

    Args:
        without: packages that Keras imports where they are there, a third of its own import, for what this command
            never calls. They are hidden from it meanwhile.
    """
    use_onednn()
    with _without_greetings(), _hidden(without):
        yield


def use_onednn():
    """TensorFlow's oneDNN kernels, on a processor where they pay; the user's own TF_ENABLE_ONEDNN_OPTS stays as it is.

    TensorFlow turns them on by itself only on newer processors (from AVX512 VNNI on), though they pay from AVX2 on.
    They sum in another order. So a run that goes on under another setting, or on another kind of processor, may end
    with other last bits; under the same it ends bit for bit the same.
    """
    if "tensorflow" not in sys.modules and _has_avx2():
        os.environ.setdefault(ONEDNN, "1")


def _has_avx2():
    """False where it cannot be told, and on other kinds of processor: TensorFlow's own choice is kept there."""
    try:
        return re.search(r"^flags\s*:.*\bavx2\b", _CPUINFO.read_text(), re.MULTILINE) is not None
    except OSError:
        return False


@contextlib.contextmanager
def _without_greetings():
    """Holds back what libraries say of themselves, unless the import fails.

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
def _hidden(names):
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
