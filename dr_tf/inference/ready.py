"""The pretrained model that comes with dr_tf: a run directory, with a line about its test data and metrics."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

from dr_tf.safe_names import printable

READY = pathlib.Path(__file__).parent.parent / "ready"
MEASURED = "measured.txt"


def add_run_dir_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag --model, also called --run_dir, with the model that comes with dr_tf as default."""
    parser.add_argument(
        "--model",
        "--run_dir",
        dest="run_dir",
        default=READY,
        type=model_folder,
        metavar="ready|RUN|EXPORT",
        help="the folder of a finished run or an export (default: ready, the model that comes with dr_tf)",
    )


def model_folder(model: str | os.PathLike) -> pathlib.Path:
    """Return the folder of a model: "ready" is the one that comes with dr_tf."""
    return READY if model == "ready" else pathlib.Path(model)


def print_measured(run_dir: str | os.PathLike) -> None:
    """Print to standard error on which data the model of a run was tested, if the run contains this line."""
    path = pathlib.Path(run_dir) / MEASURED
    if path.exists():
        print(printable(path.read_text(encoding="utf-8", errors="replace").strip()), file=sys.stderr)
