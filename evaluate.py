"""Measures a finished run on data it was not fitted on, and writes a report. Another data set is external validation."""

import argparse
import os
import sys

from dr_tf.console import mistakes_in_one_line
from dr_tf.runtime import starting_tensorflow

EXAMPLES = """examples:
  python evaluate.py --run_dir runs/idrid_folds --records records --split folds    choose by this: out-of-fold predictions
  python evaluate.py --run_dir runs/idrid --records records                        the test split; every look is logged
  python evaluate.py --run_dir runs/idrid --records records --dataset odir/256-plain-q95 --split all
  python evaluate.py --compare runs/a/evaluation/X-folds runs/b/evaluation/X-folds paired differences, same patients
"""


def parse(arguments):
    parser = argparse.ArgumentParser(
        "evaluate.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run_dir", help="a finished run")
    parser.add_argument("--records", help="folder that tfrecords_builder wrote to")
    parser.add_argument("--dataset", help="NAME/CONFIG of another record set; without it the run's own")
    parser.add_argument(
        "--split", default="test",
        help="test (the default), validation, calibration or train; folds: of a run by train.py --folds; all: every split of "
        "another data set",
    )  # fmt: skip
    parser.add_argument(
        "--mode", default="plain", help="how to answer: plain (the default), tta4, knn, ... as the run was fitted for"
    )
    parser.add_argument(
        "--label_shift", metavar="METHOD",
        help="em or bbse: also the figures after a correction for this set's mix of classes, estimated from it (transductive)",
    )  # fmt: skip
    parser.add_argument(
        "--audit", choices=("on", "off"), default="on",
        help="of another data set: leave out what copies a photograph that the run was fitted on (the default)",
    )  # fmt: skip
    parser.add_argument(
        "--explain", nargs="+", default=(), metavar="METHOD[@LAYER]",
        help="score maps of where the network looks: grad_cam, grad_cam_plus_plus, hires_cam; LAYER such as stride_16",
    )  # fmt: skip
    parser.add_argument("--prevalence", type=float, help="for PPV and NPV: how common what is positive is, from 0 to 1")
    parser.add_argument("--bootstrap_samples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--compare", nargs=2, metavar="EVALUATION", help="two evaluation folders of the same patients")
    flags = parser.parse_args(arguments)
    if not flags.compare and not (flags.run_dir and flags.records):
        parser.error("--run_dir and --records are needed (or --compare)")
    if flags.split == "folds" and (flags.dataset or flags.label_shift):
        parser.error("--split folds is of the run's own records and mix of classes: no --dataset, no --label_shift")
    if flags.split == "folds" and flags.mode != "plain":
        parser.error("--split folds is of what each fold's training left, its plain answers: no --mode")
    if flags.split == "folds" and flags.explain:
        parser.error("--explain is of one network: name a fold by --run_dir and its split, instead of --split folds")
    return flags


def main(arguments=None):
    flags = parse(arguments)
    with mistakes_in_one_line():
        if flags.compare:
            compare(flags.compare, flags.prevalence, flags.bootstrap_samples)
        else:
            evaluate(flags)


def evaluate(flags):
    print("starting TensorFlow ...", file=sys.stderr)
    with starting_tensorflow():
        from dr_tf import configuration
        from dr_tf.evaluation import evaluate as evaluation
        from dr_tf.evaluation.protocol.out_of_fold import evaluate_folds
        from dr_tf.evaluation.report.terminal import summary

        configuration.start()
    if flags.split == "folds":
        folder, metrics = evaluate_folds(
            flags.run_dir, flags.records, prevalence=flags.prevalence, bootstrap_samples=flags.bootstrap_samples
        )
    else:
        folder, metrics = evaluation.evaluate(
            flags.run_dir,
            flags.records,
            dataset=flags.dataset,
            split=flags.split,
            mode=flags.mode,
            label_shift=flags.label_shift,
            audit=audit if flags.audit == "on" else None,
            explain=flags.explain,
            prevalence=flags.prevalence,
            bootstrap_samples=flags.bootstrap_samples,
        )
    print(*summary(metrics), sep="\n")
    if flags.explain:
        print("", *evaluation.scorecard(folder), "", sep="\n")
    print(f"{folder}/report.html")


def audit(folders, output):
    from tfrecords_builder.audit_sets import audit_sets

    *said, _ = audit_sets(folders, output, workers=os.cpu_count())  # the last line is where the pairs were written
    print("\n".join(said), file=sys.stderr)


def compare(folders, prevalence, bootstrap_samples):
    from dr_tf.evaluation.compare import compare as compared
    from dr_tf.evaluation.predictions_csv import read_predictions
    from dr_tf.evaluation.report.terminal import differences

    first, second = (read_predictions(f"{folder}/predictions.csv") for folder in folders)
    print(*differences(compared(first, second, prevalence=prevalence, bootstrap_samples=bootstrap_samples)), sep="\n")


if __name__ == "__main__":
    main()
