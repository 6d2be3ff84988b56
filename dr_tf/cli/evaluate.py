"""`dr_tf evaluate` and `evaluate.py`: evaluate a finished run on data that it was not trained on, and write a report.

Another data set than the run's own is an external validation.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dr_tf.cli.flags import AbslArgumentParser, add_records_flag
from dr_tf.console import exit_on_user_error, print_status
from dr_tf.runtime import starting_tensorflow

_EXAMPLES = """examples:
  {prog} --run_dir runs/idrid_folds --records records --split folds   out-of-fold predictions: choose models by these
  {prog} --run_dir runs/idrid_folds --records records --split folds --mode plain knn plain+knn   modes side by side
  {prog} --run_dir runs/sites --records records --split sources       every source by networks trained on others
  {prog} --run_dir runs/idrid --records records                       the test split; each evaluation is logged
  {prog} --run_dir runs/idrid --records records --dataset odir/256-plain-q95 --split all
  {prog} --compare runs/a/evaluation/X-folds runs/b/evaluation/X-folds   paired differences on the same patients

Flags of absl, such as --verbosity=-1, are accepted as well; --helpfull lists them.
"""


def parse(arguments: Sequence[str] | None, prog: str = "python evaluate.py") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = AbslArgumentParser(
        prog=prog,
        description="Evaluate a finished run on data that it was not trained on, and write a report.\n"
        "A data set other than the run's own is an external validation.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run_dir", metavar="RUN", help="a finished run")
    add_records_flag(parser, required=False)
    parser.add_argument("--dataset", metavar="NAME/CONFIG", help="another record set (default: the run's own)")
    parser.add_argument(
        "--split", default="test",
        help="test (the default), validation, calibration or train; folds: the out-of-fold predictions of a run trained with "
        "--folds; sources: the held-out sources of a run trained with a cross-site protocol; several as in train+validation; "
        "all: every split of another data set",
    )  # fmt: skip
    parser.add_argument(
        "--mode", nargs="+", default=["plain"], metavar="MODE",
        help="the inference mode: plain (the default), tta4, knn, ...; the run must have been calibrated for it. Several are "
        "evaluated one by one, and listed side by side",
    )  # fmt: skip
    parser.add_argument(
        "--label_shift", metavar="METHOD",
        help="em or bbse: add the metrics after a label-shift correction. The class prior is estimated from the evaluated "
        "images themselves (transductive)",
    )  # fmt: skip
    parser.add_argument(
        "--audit", choices=("on", "off"), default="on",
        help="on another data set: leave out copies of images that the run was trained on (default: on)",
    )  # fmt: skip
    parser.add_argument(
        "--explain", nargs="+", default=(), metavar="METHOD[@LAYER]",
        help="score maps by lesion masks, deletion and insertion, and randomization: grad_cam, grad_cam_plus_plus, hires_cam, "
        "score_cam, integrated_gradients, occlusion, attention_rollout; a layer is such as stride_8. Images need no label",
    )  # fmt: skip
    parser.add_argument(
        "--prevalence",
        type=float,
        metavar="P",
        help="compute PPV and NPV for this prevalence of positives, from 0 to 1",
    )
    parser.add_argument(
        "--bootstrap_samples", type=int, default=2000, metavar="N",
        help="bootstrap samples for the confidence intervals (default: 2000)",
    )  # fmt: skip
    parser.add_argument(
        "--compare", nargs=2, metavar="EVALUATION", help="compare two evaluation folders of the same patients"
    )
    flags = parser.parse_args(arguments)
    if not flags.compare and not (flags.run_dir and flags.records):
        parser.error("--run_dir and --records are needed (or --compare)")
    if flags.split in ("folds", "sources"):
        _check_flags_of_stored(parser, flags)
    return flags


def _check_flags_of_stored(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    if flags.dataset or flags.label_shift:
        parser.error(
            f"--split {flags.split} evaluates the run's own records at their own class prior: no --dataset, no --label_shift"
        )
    if flags.explain:
        part = "fold-K" if flags.split == "folds" else "source-NAME"
        parser.error(
            f"--explain needs one network: use --run_dir RUN/{part} and a split instead of --split {flags.split}"
        )


def main(arguments: Sequence[str] | None = None, prog: str = "python evaluate.py") -> None:
    """Parse the command line and evaluate. Arguments as those of `parse`."""
    run(parse(arguments, prog))


def run(flags: argparse.Namespace) -> None:
    """Evaluate or compare as the flags ask, and turn a user's mistake into one line."""
    with exit_on_user_error():
        if flags.compare:
            _compare(flags.compare, flags.prevalence, flags.bootstrap_samples)
        else:
            _evaluate(flags)


def _evaluate(flags: argparse.Namespace) -> None:
    print_status("starting TensorFlow ...")
    with starting_tensorflow():
        from dr_tf import configuration

        configuration.set_up_logging()
    from dr_tf.api import evaluate
    from dr_tf.evaluation.explanations import scorecard_lines
    from dr_tf.evaluation.report.terminal import side_by_side, summary

    by_mode = {}
    for mode in flags.mode:
        by_mode[mode], report = evaluate(
            flags.run_dir,
            flags.records,
            dataset=flags.dataset,
            split=flags.split,
            mode=mode,
            label_shift=flags.label_shift,
            audit=flags.audit == "on",
            explain=flags.explain,
            prevalence=flags.prevalence,
            bootstrap_samples=flags.bootstrap_samples,
        )
        if by_mode[mode]:  # empty where no label is known and only maps were scored
            print(*summary(by_mode[mode]), sep="\n")
        if flags.explain:
            print("", *scorecard_lines(report.parent), "", sep="\n")
        print(report)
    if len(by_mode) > 1 and all(by_mode.values()):
        print("", *side_by_side(by_mode), sep="\n")


def _compare(folders: Sequence[str], prevalence: float | None, bootstrap_samples: int) -> None:
    from dr_tf.evaluation.compare import compare
    from dr_tf.evaluation.predictions_csv import read_predictions
    from dr_tf.evaluation.report.terminal import differences

    first, second = (read_predictions(f"{folder}/predictions.csv") for folder in folders)
    print(*differences(compare(first, second, prevalence=prevalence, bootstrap_samples=bootstrap_samples)), sep="\n")
