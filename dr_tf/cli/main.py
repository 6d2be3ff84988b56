"""The `dr_tf` command: finds the module of a subcommand and hands the remaining flags to it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from dr_tf import __version__
from dr_tf.process import STATUSES, run_command

# Subcommand -> (module with `main(arguments, prog)`, one line for --help). Modules are imported only when they are called.
COMMANDS = {
    "records": ("tfrecords_builder.__main__", "crop fundus photographs to the retina and write them as TFRecords"),
    "train": ("dr_tf.cli.train", "train a model, folds or a hyperparameter grid from a config"),
    "evaluate": ("dr_tf.cli.evaluate", "compute metrics with confidence intervals and write a report"),
    "predict": ("dr_tf.cli.predict", "grade photographs: refer, clear or retake, with probabilities"),
    "explain": ("dr_tf.cli.explain", "draw class-activation maps on photographs"),
    "app": ("dr_tf.cli.app", "open a page in the browser that grades photographs and prints reports"),
    "ensemble": ("dr_tf.cli.ensemble", "combine finished runs into one calibrated ensemble"),
    "recalibrate": ("dr_tf.cli.recalibrate", "fit the decisions of a model on photographs of another clinic"),
    "export": ("dr_tf.cli.export", "write a run as ONNX, LiteRT or SavedModel, compared with the run"),
    "serve": ("dr_tf.cli.serve", "answer over HTTP what predict answers"),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the first argument. It lists all subcommands."""
    parser = argparse.ArgumentParser(
        "dr_tf",
        description="Grade diabetic retinopathy from fundus photographs: records, training, evaluation, prediction.",
        epilog="`dr_tf COMMAND --help` lists the flags of a command and shows examples. "
        f"Exit status: 0 for success, 1 and 2 as a command's help says, {STATUSES}.",
    )
    parser.add_argument("--version", action="version", version=f"dr_tf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand.

    Args:
        arguments: the command line after `dr_tf`; that of this process if None, which the command then owns.
    """
    if arguments is None:
        run_command(lambda: main(sys.argv[1:]))
        return
    command = build_parser().parse_args(arguments[:1]).command
    module, _ = COMMANDS[command]
    importlib.import_module(module).main(arguments[1:], prog=f"dr_tf {command}")
