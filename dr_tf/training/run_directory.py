"""Run directory of a training: one config, and one writing process at a time."""

import difflib
import fcntl
import os
import pathlib
from types import TracebackType
from typing import IO

from dr_tf import files
from dr_tf.console import UserError


class RunDirectory:
    """Locks a run directory until it is closed; a second process on the same folder is refused.

    Args:
        path: the folder, created if it is absent.
        writes: whether this process writes it. In a run on several machines only the chief does.

    Raises:
        UserError: the folder holds something else, cannot be written, or is locked by another process.
    """

    def __init__(self, path: str | os.PathLike, writes: bool = True) -> None:
        self.path, self.writes = pathlib.Path(path), writes
        self.config: str | None = None
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

    def keep_config(self, config: str) -> None:
        """Write the config of a new run. Raises UserError if the run has another config."""
        path, self.config = self.path / "config.gin", config
        if not path.exists():
            if self.writes:
                files.write_text(path, config)
        elif (kept := path.read_text(encoding="utf-8")) != config:
            raise UserError(
                f"{self.path} is a run with another config ({_first_difference(kept, config)}); use another --run_dir"
            )

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


def _first_difference(kept, config):
    lines = difflib.ndiff(kept.splitlines(), config.splitlines())
    changed = [line for line in lines if line[0] in "-+" and " = " in line]
    there = next((line[2:] for line in changed if line[0] == "-"), "nothing")
    here = next((line[2:] for line in changed if line[0] == "+"), "nothing")
    return f"there: {there}; here: {here}"
