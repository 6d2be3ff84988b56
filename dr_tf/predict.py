"""Decides on photographs: refer, clear or retake, with grade and probability. `python -m dr_tf.predict --help`."""

import argparse
import dataclasses
import pathlib
import sys

from dr_tf.console import mistakes_in_one_line, progress
from dr_tf.inference.find_images import ACCEPTED, find
from dr_tf.inference.ready import add_run_dir, say_measured
from dr_tf.runtime import starting_tensorflow

EXAMPLES = """examples:
  python -m dr_tf.predict photograph.jpg                             # by the model that comes with dr_tf
  python -m dr_tf.predict --run_dir runs/idrid photograph.jpg
  python -m dr_tf.predict --run_dir runs/idrid --format csv FOLDER > decisions.csv
  python -m dr_tf.predict --run_dir runs/idrid --patients FOLDER     # 12_left.jpg and 12_right.jpg are one patient
  python -m dr_tf.predict --run_dir runs/idrid --tta 4 FOLDER        # the mean over four views; calibrated by itself
  python -m dr_tf.predict --run_dir runs/odir FOLDER                 # a model of both eyes: one decision about the two

actions: refer (p_positive reached the run's threshold), clear, retake (not gradable, or unlike what was learned from).
exit status: 0 where all were decided on; 1 where a photograph has to be retaken or could not be read; 2 for wrong use and
for what one line beginning with "error:" says, such as a file that is not there or a run that cannot be read.
"""


def parse(arguments):
    parser = argparse.ArgumentParser(
        "python -m dr_tf.predict",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photographs", nargs="+", metavar="IMAGE|FOLDER", type=pathlib.Path, help=ACCEPTED)
    add_run_dir(parser)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--mode", default="plain", help="how to answer: plain, tta4, knn, ... as the run was fitted for")
    mode.add_argument("--tta", type=int, metavar="N", help="average over N views, 1, 2, 4 or 8: --mode ttaN")
    parser.add_argument("--point", help="decide at another of the run's operating points, such as sensitivity_0.95")
    parser.add_argument("--format", default="table", choices=("table", "json", "csv"))
    parser.add_argument(
        "--patients",
        action="store_true",
        help="one decision a patient: the worse eye's (of a model that takes one photograph)",
    )
    parser.add_argument(
        "--patient_table",
        help="CSV with the columns image, patient, eye, instead of names such as 12_left; implies --patients",
    )
    parser.add_argument("--prevalence", type=float, help="how common what is positive is where you are, from 0 to 1")
    parser.add_argument("--batch_size", type=int, default=16)
    flags = parser.parse_args(arguments)
    if flags.batch_size < 1:
        parser.error("--batch_size is 1 or more")
    return flags


def run(flags):
    """Prints decisions; returns how many cases were decided on, and how many not."""
    from dr_tf.inference.formats import FORMATS
    from dr_tf.inference.patients import by_patient, read_table, whose

    paths = list(find(flags.photographs))
    table = read_table(flags.patient_table) if flags.patient_table else None
    if flags.patients or table is not None:
        for path in paths:  # one that the table lacks is told before the work, not after it
            whose(str(path), table)
    with starting_tensorflow(without=("sklearn", "matplotlib")):
        from dr_tf.inference.case import pairs
        from dr_tf.inference.predictor import Predictor

        predictor = Predictor.of_run(flags.run_dir, mode_of(flags))
    say_measured(flags.run_dir)
    rule = predictor.rule
    if flags.point is not None:
        rule = dataclasses.replace(rule, point=flags.point)
    if flags.prevalence is not None:
        rule = rule.at_prevalence(flags.prevalence)
    predictor.run = dataclasses.replace(predictor.run, rule=rule)
    paired = predictor.run.network.paired
    cases = pairs(paths, table) if paired else paths
    counts = dict.fromkeys(("refer", "clear", "retake"), 0)
    decisions = _counted(_decided(predictor, cases, flags.batch_size), counts, len(cases))
    if not paired and (flags.patients or table is not None):
        decisions = by_patient(decisions, table)
    for line in FORMATS[flags.format](decisions, rule):
        print(line, flush=len(cases) == 1)
    return counts


def mode_of(flags):
    if flags.tta is None:
        return flags.mode
    return "plain" if flags.tta == 1 else f"tta{flags.tta}"


def _decided(predictor, cases, batch_size):
    return [predictor.decide(cases[0])] if len(cases) == 1 else predictor.decisions(cases, batch_size=batch_size)


def _counted(decisions, counts, total):
    shown = total > 1 and (sys.stderr.isatty() or total >= 100)
    bar = progress(total, "deciding", "photographs") if shown else None
    for decision in decisions:
        counts[decision.action] += 1
        if bar is not None:
            bar.update()
        yield decision
    if bar is not None:
        bar.close()


def main(arguments=None):
    flags = parse(arguments)
    with mistakes_in_one_line():
        counts = run(flags)
    if sum(counts.values()) > 1:
        print(", ".join(f"{action}: {count}" for action, count in counts.items()), file=sys.stderr)
    sys.stdout.flush()
    sys.exit(1 if counts["retake"] else 0)


if __name__ == "__main__":
    main()
