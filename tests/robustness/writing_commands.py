"""The commands that write folders, for tests that disturb them, and a comparison of the folders without times."""

import dataclasses
import functools
import hashlib
import pathlib
import re
import shutil
import zipfile
from collections.abc import Callable

from tests import tiny

_CONFIG = tiny.CONFIG.replace("train.epochs = 1", "train.epochs = 4\ntrain.checkpoint_every = 1\ntrain.keep = 'last'")
_GRID = "grid.parameters = {'optimization.learning_rate': [1e-3, 1e-4]}\n"
# Files that hold the time at which they were written, and checkpoints, which only a training that goes on reads.
_NOT_COMPARED = re.compile(r"/tensorboard/|/checkpoints/|lock$|/test_evaluations.jsonl$")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that writes a folder.

    Attributes:
        arguments: of Python, with the folder left out where it says OUTPUT.
        copied: what the folder holds at first; None if it is made by the command.
    """

    arguments: tuple[object, ...]
    copied: pathlib.Path | None = None

    def of(self, output: pathlib.Path) -> list[str]:
        """Return the arguments with a folder."""
        return [str(output) if part == "OUTPUT" else str(part) for part in self.arguments]

    def begin(self, output: pathlib.Path) -> None:
        """Make the folder what it is before the command."""
        shutil.rmtree(output, ignore_errors=True)
        if self.copied:
            shutil.copytree(self.copied, output)


@functools.cache
def _config(name: str, text: str) -> pathlib.Path:
    path = tiny.temporary_folder() / name
    path.write_text(text)
    return path


def _build() -> Command:
    flags = ("--name", "tiny", "--classes", tiny.CLASSES, "--image_size", 64, "--workers", 2, "--folds", 2)
    source = tiny.records_root().parent / "photographs"
    return Command(("-m", "tfrecords_builder", "folder", "--source", source, "--records", "OUTPUT", *flags))


def _train(*flags: object) -> Command:
    config = ("--gin_file", _config("config.gin", _CONFIG), "--records", tiny.records_root())
    return Command(("train.py", *config, "--run_dir", "OUTPUT", *flags))


def _evaluate() -> Command:
    return Command(("evaluate.py", "--run_dir", "OUTPUT", "--records", tiny.records_root()), tiny.run_dir())


def _export() -> Command:
    flags = ("--format", "onnx", "--records", tiny.records_root(), "--output", "OUTPUT")
    return Command(("-m", "dr_tf.export", "--run_dir", tiny.run_dir(), *flags))


def _explain() -> Command:
    return Command(("-m", "dr_tf.explain", "--run_dir", tiny.run_dir(), "--output", "OUTPUT", *tiny.photographs()[:6]))


COMMANDS: dict[str, Callable[[], Command]] = {
    "build": _build,
    "training": _train,
    "folds and refit": lambda: _train("--folds", 2, "--refit"),
    "grid": lambda: _train("--grid_file", _config("grid.gin", _GRID)),
    "evaluation": _evaluate,
    "export": _export,
    "explanations": _explain,
}


def digests(folder: pathlib.Path) -> dict[str, str]:
    """Return {path: digest of the content} of the files below a folder, without the times at which they were written."""
    paths = {f"/{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: _digest(path) for name, path in paths.items() if not _NOT_COMPARED.search(name)}


def _digest(path: pathlib.Path) -> str:
    if path.suffix == ".keras":  # holds the time at which it was written
        with zipfile.ZipFile(path) as archive:
            return hashlib.sha256(archive.read("model.weights.h5")).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()
