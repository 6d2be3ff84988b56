"""How a command starts TensorFlow: oneDNN on, start-up messages off. Only commands may import this module.

Everything here changes the whole process. A command owns its process, and nothing else runs in it at its start. Library
code may run inside a server or a notebook, so it must not call these functions.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence

from dr_tf.console import UserError, captured_stderr

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_CPUINFO = pathlib.Path("/proc/cpuinfo")


@contextlib.contextmanager
def starting_tensorflow(*, without: Sequence[str] = ()) -> Iterator[None]:
    """Turn on oneDNN and hide start-up messages. Wrap a command's first import of TensorFlow in it.

    Args:
        without: packages that Keras imports if they are installed, but that this command never uses. They are hidden
            from the import system inside the `with` block, which takes a third off the time to import Keras.
    """
    use_onednn()
    with _without_startup_messages(), _hidden(without):
        yield


def use_onednn() -> None:
    """Turn on TensorFlow's oneDNN kernels if the processor has AVX2, unless the user has set TF_ENABLE_ONEDNN_OPTS.

    TensorFlow itself turns them on only from AVX512 VNNI on, though they are faster from AVX2 on. oneDNN adds numbers
    in another order. A run that resumes under another setting, or on another kind of processor, may therefore end
    with weights that differ in their last bits; under the same setting it ends with the same bits.
    """
    if "tensorflow" not in sys.modules and _has_avx2():
        os.environ.setdefault(ONEDNN, "1")


def _has_avx2() -> bool:
    """Return False if it is not known, as on macOS and ARM: TensorFlow's own choice is kept there."""
    try:
        return re.search(r"^flags\s*:.*\bavx2\b", _CPUINFO.read_text(), re.MULTILINE) is not None
    except OSError:
        return False


@contextlib.contextmanager
def _without_startup_messages() -> Iterator[None]:
    """Hide what libraries write to descriptor 2 while they are imported, unless the import fails.

    They write before they read their own log level, so no setting hides these messages.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    messages = b""
    try:
        with captured_stderr() as captured:
            try:
                yield
            finally:
                messages = captured()
    except UserError:
        raise
    except BaseException:
        os.write(2, messages)
        raise


@contextlib.contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes `import` fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
