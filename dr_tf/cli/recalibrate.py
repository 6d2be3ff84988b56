"""`dr_tf recalibrate`: fit the decision rule of a finished run on photographs of another clinic. The weights do not change."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dr_tf.cli.flags import add_records_flag
from dr_tf.console import exit_on_user_error, print_status
from dr_tf.inference.ready import add_run_dir_argument
from dr_tf.runtime import starting_tensorflow
from dr_tf.safe_names import printable

if TYPE_CHECKING:
    from dr_tf.training.recalibrate import Recalibration

_EXAMPLES = """examples:
  dr_tf records csv --source PHOTOGRAPHS --labels labels.csv --name clinic --records records
  {prog} --records records --dataset clinic --output runs/clinic
  {prog} --model runs/idrid --records records --dataset clinic --output runs/clinic --without_labels
  dr_tf evaluate --run_dir runs/clinic --records records
  dr_tf predict --model runs/clinic FOLDER

With labels, the calibration, the prior, the thresholds and the gate are fitted on the photographs of the clinic outside of the
test split of its records; evaluate the result on that test split. Without labels, the prevalence is estimated from the
predictions, and the gate learns the photographs. The records need the options of the run's own: for the model that comes
with dr_tf these are the defaults.
"""


def parse(arguments: Sequence[str] | None, prog: str = "dr_tf recalibrate") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Fit the calibration, prior, thresholds and gate of a model on photographs of another clinic.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_dir_argument(parser)
    add_records_flag(parser)
    parser.add_argument(
        "--dataset", required=True, metavar="NAME", help="the record set of the clinic: NAME or NAME/CONFIG"
    )
    parser.add_argument("--output", required=True, metavar="RUN", help="the run to write")
    parser.add_argument(
        "--without_labels", action="store_true", help="fit the prevalence and the gate only, without using labels"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str = "dr_tf recalibrate") -> None:
    """Parse the command line, write the run and print what changed. Arguments as those of `parse`."""
    flags = parse(arguments, prog)
    with exit_on_user_error():
        result = run(flags)
    for line in describe(result):
        print_status(line)
    print(printable(flags.output))


def run(flags: argparse.Namespace) -> Recalibration:
    """Write the recalibrated run as the flags ask."""
    with starting_tensorflow():
        from dr_tf.data.records import open_records
        from dr_tf.training.recalibrate import recalibrate

    records = open_records(flags.records, flags.dataset)
    return recalibrate(flags.run_dir, records, flags.output, labelled=not flags.without_labels)


def describe(result: Recalibration) -> list[str]:
    """Return what changed, in a few lines."""
    lines = [f"fitted on {result.photographs} photographs"]
    for name, rule in (("before", result.before), ("now", result.after)):
        point = rule.operating_point()
        lines.append(
            f"{name}: refers at p({rule.head.positive}) >= {point.threshold:.3f}, at a prevalence of {rule.prevalence:.3f}; "
            f"{point.note}"
        )
    before, now = result.beyond_gate
    return [*lines, f"beyond the limit of the gate: {before:.1%} of the photographs before, {now:.1%} now"]
