"""`dr_tf export`: write a finished run in another format, and compare it with the run in its own runtime."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from dr_tf.console import UserError, exit_on_user_error, print_status
from dr_tf.inference.export_file import FORMATS
from dr_tf.runtime import starting_tensorflow
from dr_tf.safe_names import printable

_EXAMPLES = """examples:
  {prog} --run_dir runs/idrid --format onnx
  {prog} --run_dir runs/idrid --format onnx --records records --output exports/idrid
  {prog} --run_dir runs/idrid --format onnx --quantize int8 --records records --output exports/idrid_int8
  {prog} --run_dir runs/idrid --format saved_model --output exports/serving
  dr_tf predict --run_dir exports/idrid photograph.jpg

onnx: ONNX Runtime, which a base install has. Without --output the network is put beside the run's own, and `predict` then
uses it for the run. litert: phones and small devices. saved_model: TensorFlow Serving, with signatures for pixels and for
JPEG files of prepared crops. `predict`, `explain` and `evaluate` take the folder of an export as --run_dir.

The export is opened in its own runtime and compared with the run: logits, probabilities and actions. If they differ by
more than the tolerance of its precision, nothing is written, and the line says by how much they differ.
"""


def parse(arguments: Sequence[str] | None, prog: str = "python -m dr_tf.export") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Export a finished run to ONNX, LiteRT or TensorFlow Serving, and compare the export with the run.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run_dir", required=True, type=pathlib.Path, metavar="RUN", help="a finished run")
    parser.add_argument("--format", required=True, choices=tuple(FORMATS), help="the format of the network")
    parser.add_argument("--output", type=pathlib.Path, metavar="DIR", help="the folder to write (default: RUN/onnx)")
    parser.add_argument(
        "--records", metavar="DIR",
        help="the folder with the run's records: compare on photographs of its validation split, not on synthetic retinas",
    )  # fmt: skip
    parser.add_argument(
        "--quantize", choices=("int8",),
        help="int8 weights and activations; thresholds and gate are fitted anew. Needs --records",
    )  # fmt: skip
    parser.add_argument(
        "--half", action="store_true", help="store the weights of an ONNX file as float16: half its size"
    )
    parser.add_argument(
        "--accept_difference",
        action="store_true",
        help="write the export even if it differs by more than the tolerance",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m dr_tf.export") -> None:
    """Parse the command line, write the export and print how it compares with the run. Arguments as those of `parse`."""
    flags = parse(arguments, prog)
    with exit_on_user_error():
        folder, comparison = run(flags)
    largest = max(comparison["logits"].values())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print_status(
        f"on {comparison['cases']} cases ({comparison['photographs']}): logits differ by at most {largest:.2g}, "
        f"p_positive by {comparison['probability']:.2g}; {100 * comparison['equal_actions']:.1f} % of actions and "
        f"{100 * comparison['equal_grades']:.1f} % of grades are equal; {size / 1e6:.1f} MB"
    )
    print(printable(folder))


def run(flags: argparse.Namespace) -> tuple[pathlib.Path, dict]:
    """Write the export as the flags ask; return its folder and how it compares with the run."""
    from dr_tf.inference.run import DECISION, check_finished

    check_finished(flags.run_dir)
    if flags.half and (flags.format != "onnx" or flags.quantize):
        raise UserError("--half is for --format onnx without --quantize")
    with starting_tensorflow(without=("sklearn", "matplotlib") if not flags.quantize else ()):
        from dr_tf.export.export import export
    photographs = None
    if flags.records is not None:
        from dr_tf.export.photographs import Photographs
        from dr_tf.inference.rule_file import read_rule
        from dr_tf.models.heads import HEADS

        _, preparation = read_rule(flags.run_dir / DECISION, HEADS)
        photographs = Photographs(flags.run_dir, flags.records, preparation.records, preparation.image_size)
    folder, description = export(
        flags.run_dir,
        flags.format,
        flags.output,
        photographs=photographs,
        quantize=flags.quantize,
        half=flags.half,
        accept_difference=flags.accept_difference,
        on_status=print_status,
    )
    return folder, description.comparison
