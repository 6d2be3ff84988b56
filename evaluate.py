"""Measures a finished run on data it was not fitted on, and writes a report. Another data set is external validation."""

import argparse
import sys

from dr_tf.console import mistakes_in_one_line, without_greetings

EXAMPLES = """examples:
  python evaluate.py --run_dir runs/idrid --records records --split validation     choose by this
  python evaluate.py --run_dir runs/idrid --records records                        the test split; every look is logged
  python evaluate.py --run_dir runs/idrid --records records --dataset odir/256-plain-q95 --split train
  python evaluate.py --compare runs/idrid/evaluation/X runs/other/evaluation/X     paired differences, same patients
"""


def parse(arguments):
    parser = argparse.ArgumentParser(
        "evaluate.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run_dir", help="a finished run")
    parser.add_argument("--records", help="folder that tfrecords_builder wrote to")
    parser.add_argument("--dataset", help="NAME/CONFIG of another record set; without it the run's own")
    parser.add_argument("--split", default="test", help="train, validation, calibration or test (the default)")
    parser.add_argument("--prevalence", type=float, help="for PPV and NPV: how common what is positive is, from 0 to 1")
    parser.add_argument("--rounds", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--compare", nargs=2, metavar="EVALUATION", help="two evaluation folders of the same patients")
    flags = parser.parse_args(arguments)
    if not flags.compare and not (flags.run_dir and flags.records):
        parser.error("--run_dir and --records are needed (or --compare)")
    return flags


def main(arguments=None):
    flags = parse(arguments)
    with mistakes_in_one_line():
        if flags.compare:
            compare(flags.compare, flags.prevalence, flags.rounds)
        else:
            evaluate(flags)


def evaluate(flags):
    print("starting TensorFlow ...", file=sys.stderr)
    with without_greetings():
        from dr_tf import configuration
        from dr_tf.evaluation import evaluate as evaluation

        configuration.start()
    folder, metrics = evaluation.evaluate(
        flags.run_dir,
        flags.records,
        dataset=flags.dataset,
        split=flags.split,
        prevalence=flags.prevalence,
        rounds=flags.rounds,
    )
    print(f"{metrics['dataset']}, {metrics['split']}: {metrics['n']} photographs of {metrics['patients']} patients")
    print(*evaluation.summary(metrics), *metrics["caveats"], f"{folder}/report.html", sep="\n")


def compare(folders, prevalence, rounds):
    from dr_tf.evaluation.compare import compare as differences
    from dr_tf.evaluation.evaluate import interval
    from dr_tf.evaluation.table import read_predictions

    first, second = (read_predictions(f"{folder}/predictions.csv") for folder in folders)
    found = differences(first, second, prevalence=prevalence, rounds=rounds)
    print(f"{found['n']} photographs of {found['patients']} patients; second minus first")
    for name, figure in found["figures"].items():
        if figure["value"] is not None:
            print(f"{name:24} {figure['value']:+.3f}  {interval(figure, '+.3f')}")


if __name__ == "__main__":
    main()
