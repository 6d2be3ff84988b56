"""The folder of a run: one config, one writer at a time."""

import difflib
import fcntl
import pathlib

from dr_tf import files
from dr_tf.console import UserError


class RunDirectory:
    """Held until closed; a second process on the same folder is refused.

    Of a run on several machines one process writes; the others look on.
    """

    def __init__(self, path, writes=True):
        self.path, self.writes, self.config, self._lock = pathlib.Path(path), writes, None, None
        if self.path.is_dir() and any(self.path.iterdir()) and not self.is_one():
            raise UserError(f"{path} is not empty and not a run's folder; use another --run_dir")
        if writes:
            self._hold()

    def _hold(self):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 - held until closed
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is training in {self.path}") from None
        except OSError as error:
            raise UserError(f"{self.path} cannot be used: {error.strerror}") from None

    def is_one(self):
        return (self.path / "config.gin").exists() or (self.path / ".lock").exists()

    @property
    def finished(self):
        return (self.path / "model.keras").exists()

    def keep_config(self, config):
        """Writes the config of a new run; refuses one that differs from what began here."""
        path, self.config = self.path / "config.gin", config
        if not path.exists():
            if self.writes:
                files.write_text(path, config)
        elif (kept := path.read_text(encoding="utf-8")) != config:
            raise UserError(
                f"{self.path} is a run of another config ({_difference(kept, config)}); use another --run_dir"
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._lock:
            self._lock.close()


def _difference(kept, config):
    lines = difflib.ndiff(kept.splitlines(), config.splitlines())
    changed = [line for line in lines if line[0] in "-+" and " = " in line]
    there = next((line[2:] for line in changed if line[0] == "-"), "nothing")
    here = next((line[2:] for line in changed if line[0] == "+"), "nothing")
    return f"there: {there}; here: {here}"
