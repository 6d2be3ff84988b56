"""The pretrained model that comes with dr_tf: a run directory, with a line about its test data and metrics."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

from dr_tf.safe_names import printable
from dr_tf.signed_files import check_signed

READY = pathlib.Path(__file__).absolute().parent.parent / "ready"
MEASURED = "measured.txt"
PUBLIC_KEY = bytes.fromhex("dab686cf693d951a51b438d6c2275d5241d98fc867ad55253d818488ca5b88af")  # of make sign


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


def check_released(run_dir: str | os.PathLike) -> None:
    """Check that the model that comes with dr_tf is the one that was released, if `run_dir` is that model.

    Raises:
        UserError: a file of it is missing or was changed.
    """
    if pathlib.Path(run_dir).absolute() == READY:
        check_signed(READY, PUBLIC_KEY)


def print_measured(run_dir: str | os.PathLike) -> None:
    """Print to standard error on which data the model of a run was tested, if the run contains this line."""
    path = pathlib.Path(run_dir) / MEASURED
    if path.exists():
        print(printable(path.read_text(encoding="utf-8", errors="replace").strip()), file=sys.stderr)
