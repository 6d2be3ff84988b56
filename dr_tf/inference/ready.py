"""The model that comes with dr_tf: a run directory like any other, and a line that says on whom it was measured."""

import pathlib
import sys

READY = pathlib.Path(__file__).parent.parent / "ready"
MEASURED = "measured.txt"


def add_run_dir(parser):
    parser.add_argument(
        "--run_dir", default=READY, type=pathlib.Path, help="a finished run; without it the model that comes with dr_tf"
    )


def say_measured(run_dir):
    """To standard error, of a run that comes with such a line."""
    path = pathlib.Path(run_dir) / MEASURED
    if path.exists():
        print(path.read_text(encoding="utf-8").strip(), file=sys.stderr)
