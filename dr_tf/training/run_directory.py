"""Run directory of a training: one config, and one writing process at a time."""

import contextlib
import difflib
import fcntl
import os
import pathlib
import re
from collections.abc import Iterator
from types import TracebackType
from typing import IO

from dr_tf import files
from dr_tf.console import UserError

# No weight depends on them: they say how the scores of the trained network become decisions.
DECISION_PARAMETERS = ("train.modes", "train.operating_point", "train.prior")
_NAMES = "|".join(map(re.escape, DECISION_PARAMETERS))
# gin breaks a long value into lines, and indents all but the first.
_DECISION_LINES = re.compile(rf"^(?:{_NAMES}) = .*\n(?:[ \t].*\n)*", re.MULTILINE)


class RunDirectory:
    """Locks a run directory until it is closed; a second process on the same folder is refused.

    Args:
        path: the folder, created if it is absent.
        writes: whether this process writes it. In a run on several machines only the chief does.

    Attributes:
        config: text of the run's config; None before `keep_config`.
        decision_is_outdated: whether the run is finished, but its decision rule was fitted by another config.

    Raises:
        UserError: the folder holds something else, cannot be written, or is locked by another process.
    """

    def __init__(self, path: str | os.PathLike, writes: bool = True) -> None:
        self.path, self.writes = pathlib.Path(path), writes
        self.config: str | None = None
        self.decision_is_outdated = False
        self._lock: IO | None = None
        if self.path.is_dir() and any(self.path.iterdir()) and not self._is_run_directory():
            raise UserError(f"{path} is neither empty nor a run directory; use another --run_dir")
        if writes:
            self._acquire_lock()

    def _acquire_lock(self):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 - held until closed
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files.remove_unfinished(self.path)
        except BlockingIOError:
            raise UserError(
                f"another process is training in {self.path}; wait for it or use another --run_dir"
            ) from None
        except OSError as error:
            raise UserError(f"--run_dir: {self.path} cannot be used: {error.strerror}") from None

    def _is_run_directory(self):
        return (self.path / "config.gin").exists() or (self.path / ".lock").exists()

    @property
    def finished(self) -> bool:
        """Whether the run is complete: `model.keras` is written last."""
        return (self.path / "model.keras").exists()

    @property
    def _refitting(self):
        """Marks a refit that has begun. A kill leaves it, and then it is unknown which config the rule was fitted by."""
        return self.path / ".refitting"

    def keep_config(self, config: str) -> None:
        """Write the config of a new run, or compare that of an earlier one.

        The parameters that decide may differ. An unfinished run then takes the new config. A finished run keeps the old one
        until its decision rule is fitted anew (`refitting`).

        Raises:
            UserError: the run has another config in anything else.
        """
        path, self.config = self.path / "config.gin", config
        kept = path.read_text(encoding="utf-8") if path.exists() else None
        if kept is not None and _without_decision(kept) != _without_decision(config):
            difference = _first_difference(_without_decision(kept), _without_decision(config))
            raise UserError(f"{self.path} is a run with another config ({difference}); use another --run_dir")
        if self.finished:
            self.decision_is_outdated = self._refitting.exists() or kept != config
        elif self.writes and kept != config:
            files.write_text(path, config)

    @contextlib.contextmanager
    def refitting(self) -> Iterator[None]:
        """Yield to fit the decision rule of a finished run anew, then write the config that it was fitted by.

        A process that is killed meanwhile leaves a mark, by which the next one knows that the rule may be of either config.
        """
        files.write_text(self._refitting, "The decision rule of this run is being fitted anew.\n")
        yield
        files.write_text(self.path / "config.gin", self.config or "")
        self._refitting.unlink()
        self.decision_is_outdated = False

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._lock:
            self._lock.close()


def _without_decision(config):
    return _DECISION_LINES.sub("", config + "\n")


def _first_difference(kept, config):
    lines = difflib.ndiff(kept.splitlines(), config.splitlines())
    changed = [line for line in lines if line[0] in "-+" and " = " in line]
    there = next((line[2:] for line in changed if line[0] == "-"), "nothing")
    here = next((line[2:] for line in changed if line[0] == "+"), "nothing")
    return f"there: {there}; here: {here}"
