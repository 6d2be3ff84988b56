"""`dr_tf predict`: grade fundus photographs. Prints refer, clear or retake for each, with its probability and grade."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from dr_tf.console import exit_on_user_error, print_status, progress, use_utf8_in_files
from dr_tf.fundus import subprocesses
from dr_tf.inference.find_images import ACCEPTED, find_images
from dr_tf.inference.ready import add_run_dir_argument, print_measured
from dr_tf.process import STATUSES
from dr_tf.runtime import starting_tensorflow

if TYPE_CHECKING:
    from dr_tf.dicom_reports.answers import Answers
    from dr_tf.inference.case import Case
    from dr_tf.inference.decision import Decision
    from dr_tf.inference.predictor import Predictor

_EXAMPLES = """examples:
  {prog} photograph.jpg                             with the model that comes with dr_tf
  {prog} --run_dir runs/idrid photograph.jpg
  {prog} --run_dir runs/idrid --format csv FOLDER > decisions.csv
  {prog} --run_dir runs/idrid --patients FOLDER     12_left.jpg and 12_right.jpg belong to one patient
  {prog} --run_dir runs/idrid --tta 4 FOLDER        test-time augmentation: the mean over four views
  {prog} --dicom_sr answers STUDIES                 a structured report for each DICOM photograph
  {prog} --beam_runner DirectRunner --output shards FOLDER
  {prog} --run_dir runs/odir FOLDER                 a model of both eyes: one decision about the pair

actions: refer (p_positive reaches the run's threshold), clear, retake (not gradable, or out-of-distribution).
exit status: 0 if every case was decided; 1 if a photograph has to be retaken or cannot be read; 2 for wrong flags and for
errors that are printed as one line beginning with "error:", such as a missing file or an unreadable run; {statuses}.
"""


def parse(arguments: Sequence[str] | None, prog: str = "python -m dr_tf.predict") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Grade fundus photographs: refer, clear or retake, with the probability and the grade.",
        epilog=_EXAMPLES.format(prog=prog, statuses=STATUSES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|FOLDER", type=pathlib.Path, help=ACCEPTED)
    add_run_dir_argument(parser)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--mode", default="plain",
        help="the inference mode: plain (the default), tta4, knn, ...; the run must have been calibrated for it",
    )  # fmt: skip
    mode.add_argument(
        "--tta",
        type=int,
        metavar="N",
        help="test-time augmentation over N views, 1, 2, 4 or 8; the same as --mode ttaN",
    )
    parser.add_argument(
        "--point",
        metavar="NAME",
        help="another operating point of the run, such as sensitivity_0.95 (default: its own)",
    )
    parser.add_argument("--format", default="table", choices=("table", "json", "csv"), help="(default: table)")
    parser.add_argument(
        "--patients", action="store_true",
        help="print one decision per patient, that of the worse eye (for a model that takes one photograph)",
    )  # fmt: skip
    parser.add_argument(
        "--patient_table", metavar="CSV",
        help="a file with the columns image, patient, eye and optionally age, sex, for images that are not named like "
        "12_left; implies --patients",
    )  # fmt: skip
    parser.add_argument(
        "--prevalence", type=float, metavar="P",
        help="the prevalence of positives where the model is used, from 0 to 1; probabilities are corrected for it",
    )  # fmt: skip
    for flag, kind in (
        ("--dicom_sr", "a structured report (TID 1500)"),
        ("--dicom_pdf", "a page as an Encapsulated PDF"),
    ):
        parser.add_argument(
            flag, type=pathlib.Path, metavar="DIR",
            help=f"write {kind} about each DICOM photograph to DIR; it bears the patient and the study of the photograph",
        )  # fmt: skip
    parser.add_argument(
        "--runtime", default="fastest", choices=("fastest", "tensorflow"),
        help="what runs the network: ONNX Runtime where an export is at hand (the default), or always TensorFlow",
    )  # fmt: skip
    parser.add_argument("--batch_size", type=int, default=16, metavar="N", help="(default: 16)")
    parser.add_argument(
        "--beam_runner", metavar="NAME",
        help="decide on Apache Beam, with this runner (DirectRunner, FlinkRunner, DataflowRunner, ...); needs --output. Its "
        "workers must reach the model, the photographs and the output folder under the same paths",
    )  # fmt: skip
    parser.add_argument(
        "--beam_option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the runner; may be repeated",
    )
    parser.add_argument(
        "--output", type=pathlib.Path, metavar="DIR",
        help="with --beam_runner: the folder of the shards, csv or JSON lines. The same command continues a stopped run",
    )  # fmt: skip
    parser.add_argument(
        "--shard_size", type=int, default=256, metavar="N", help="with --beam_runner: cases in a shard (default: 256)"
    )
    flags = parser.parse_args(arguments)
    if bool(flags.beam_runner) != (flags.output is not None):
        parser.error("--beam_runner and --output go together")
    if flags.beam_option and not flags.beam_runner:
        parser.error("--beam_option needs --beam_runner")
    if flags.batch_size < 1:
        parser.error(f"--batch_size must be 1 or more, not {flags.batch_size}")
    return flags


def main(arguments: Sequence[str] | None = None, prog: str = "python -m dr_tf.predict") -> None:
    """Parse the command line, print the decisions and exit. Arguments as those of `parse`."""
    flags = parse(arguments, prog)
    with exit_on_user_error():
        counts = run(flags)
    if sum(counts.values()) > 1:
        print_status(", ".join(f"{action}: {count}" for action, count in counts.items()))
    sys.exit(1 if counts["retake"] else 0)


def run(flags: argparse.Namespace) -> dict[str, int]:
    """Print the decisions as the flags ask, and return the number of cases by action."""
    if not flags.beam_runner:
        subprocesses.start_shared_worker()  # it imports numpy and OpenCV while this process does
    from dr_tf.inference.formats import FORMATS
    from dr_tf.inference.patients import group_by_patient, patient_of_image, read_patient_table

    paths = list(find_images(flags.images))
    table = read_patient_table(flags.patient_table) if flags.patient_table else None
    by_patients = flags.patients or table is not None
    if by_patients:
        for path in paths:  # an image that the table lacks is reported before the work, not after it
            patient_of_image(str(path), table)
    if flags.beam_runner:
        from dr_tf.cli.predict_on_beam import run_on_beam

        return run_on_beam(flags, paths, table)
    answers = _answers(flags)
    predictor = load(flags)
    rule, paired = predictor.rule, predictor.run.network.paired
    cases = cases_of(paths, table, paired)
    counts = dict.fromkeys(("refer", "clear", "retake"), 0)
    decisions = _counted(_decide(predictor, cases, flags.batch_size), counts, len(cases))
    if answers is not None:
        from dr_tf.dicom_reports.answers import algorithm_of

        decisions = answers.written(decisions, algorithm_of(predictor))
    shown = group_by_patient(decisions, table) if by_patients and not paired else decisions
    if flags.format != "table":
        use_utf8_in_files()
    for line in FORMATS[flags.format](shown, rule):
        print(line, flush=True)  # each batch as it is done, and a broken pipe is noticed early
    print_status(f"runtime: {predictor.run.network.runtime}")
    return counts


def _answers(flags: argparse.Namespace) -> Answers | None:
    if flags.dicom_sr is None and flags.dicom_pdf is None:
        return None
    from dr_tf.dicom_reports.answers import Answers

    return Answers(flags.dicom_sr, flags.dicom_pdf)


def load(flags: argparse.Namespace) -> Predictor:
    """Load the model with the mode, operating point and prevalence that the flags name."""
    with starting_tensorflow(without=("sklearn", "matplotlib")):
        from dr_tf.inference.predictor import Predictor

        predictor = Predictor.from_run(flags.run_dir, mode_of(flags), keras=flags.runtime == "tensorflow")
    print_measured(flags.run_dir)
    predictor.change_rule(point=flags.point, prevalence=flags.prevalence)
    return predictor


def mode_of(flags: argparse.Namespace) -> str:
    """Return the name of the inference mode that --mode or --tta asks for."""
    if flags.tta is None:
        return flags.mode
    return "plain" if flags.tta == 1 else f"tta{flags.tta}"


def cases_of(paths: Sequence[pathlib.Path], table: dict | None, paired: bool) -> Sequence[Case]:
    """Return what the model decides on: the photographs, or the pairs of a model of both eyes."""
    from dr_tf.inference.case import pairs, single_cases

    return pairs(paths, table) if paired else list(single_cases(paths))


def _decide(predictor: Predictor, cases: Sequence, batch_size: int) -> Iterable[Decision]:
    if len(cases) == 1:
        return [predictor.decide(cases[0])]
    return predictor.decisions(cases, batch_size=batch_size)


def _counted(decisions: Iterable[Decision], counts: dict[str, int], total: int) -> Iterator[Decision]:
    """Pass decisions on, count them by action, and show the progress of many."""
    bar = progress(total, "deciding", "cases") if total > 1 and (sys.stderr.isatty() or total >= 100) else None
    for decision in decisions:
        counts[decision.action] += 1
        if bar is not None:
            bar.update()
        yield decision
    if bar is not None:
        bar.close()
