"""Trains what a config describes, on records, into a run directory. Stopped or killed, the same command goes on."""

import argparse
import os
import pathlib
import sys

from dr_tf.console import mistakes_in_one_line
from dr_tf.runtime import starting_tensorflow

EXAMPLES = """
  python train.py --gin_file configs/quickstart.gin --records quickstart/records --run_dir runs/quickstart
  python train.py ... --gin_param 'train.epochs = 10' --gin_param 'optimization.learning_rate = 1e-4'
  python train.py ... --init_from runs/first            start from the weights of a finished run
  python train.py ... --folds 5                         every fold held out once; figures over all of them
  python train.py ... --folds 5 --refit                 and a model of all of them, which the folds calibrate
  python train.py ... --grid_file configs/grids/X.gin   every combination, side by side in TensorBoard

tensorboard --logdir RUN_DIR shows the curves, the confusion matrix, the photographs as they are fed, and a grid's trials.
"""


def parse(arguments):
    parser = argparse.ArgumentParser(
        "train.py",
        description=__doc__,
        epilog="examples:" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--gin_file", action="append", required=True, help="a config; more than once: later ones on top"
    )
    parser.add_argument("--gin_param", action="append", default=[], help="one binding on top of the config")
    parser.add_argument("--records", required=True, help="folder that tfrecords_builder wrote to")
    parser.add_argument("--run_dir", required=True, type=pathlib.Path, help="where the run is written")
    parser.add_argument(
        "--init_from",
        help="run directory whose finished model gives the first weights; of one by folds, the same fold's",
    )
    parser.add_argument("--folds", type=int, help="train once per fold of the records, holding it out")
    parser.add_argument(
        "--refit", action="store_true", help="with --folds: then on all of them together, calibrated by the folds"
    )
    parser.add_argument("--fold", type=int, help="with --folds: only this one, from 0")
    parser.add_argument("--grid_file", help="a config with grid.parameters: train once per combination")
    parser.add_argument(
        "--audit", choices=("on", "off"), default="on",
        help="of several record sets: leave out what copies a test photograph of another one, and of other copies all "
        "but one (the default)",
    )  # fmt: skip
    flags = parser.parse_args(arguments)
    if (flags.fold is not None or flags.refit) and flags.folds is None:
        parser.error("--fold and --refit need --folds")
    if flags.folds is not None and flags.folds < 2:
        parser.error("--folds is 2 or more")
    if flags.grid_file and flags.folds:
        parser.error("--grid_file and --folds exclude each other")
    return flags


def main(arguments=None):
    flags = parse(arguments)
    print("starting TensorFlow ...", file=sys.stderr)
    with mistakes_in_one_line():
        with starting_tensorflow():
            from dr_tf import configuration

            configuration.start()
        configuration.parse([*flags.gin_file, *([flags.grid_file] if flags.grid_file else [])], flags.gin_param)
        meet_other_machines()
        if flags.grid_file:
            run_grid(flags)
        elif flags.folds:
            run_folds(flags)
        else:
            run_one(flags)


def meet_other_machines():
    """Where the config says so. TensorFlow does it before all else or not at all, and records are read by it."""
    from dr_tf import configuration
    from dr_tf.training import strategies

    strategies.strategy(configuration.build("train").distribution)


def configured(flags):
    """(experiment, records without what several sets share, a function that gives the config of the run)."""
    from dr_tf import configuration
    from dr_tf.data.cross_set_copies import without_shared

    experiment, records = configuration.experiment(flags.records)
    if len(records.parts) == 1:
        return experiment, records, configuration.operative
    records, left_out = without_shared(records, audit) if flags.audit == "on" else (records, "not looked for")
    return (
        experiment,
        records,
        lambda: f"{configuration.operative()}\n# Shared by the sets, and left out = {left_out}\n",
    )


def audit(folders, output):
    from tfrecords_builder.audit_sets import audit_sets

    *said, _ = audit_sets(folders, output, workers=os.cpu_count())  # the last line is where the pairs were written
    print("\n".join(said), file=sys.stderr)


def run_one(flags):
    from dr_tf.training.train import train

    experiment, records, config = configured(flags)
    train(experiment, records, run_dir=flags.run_dir, config=config, init_from=flags.init_from)


def run_folds(flags):
    from dr_tf.training.folds import train_folds

    experiment, records, config = configured(flags)
    only = range(flags.folds) if flags.fold is None else [flags.fold]
    train_folds(
        experiment,
        records,
        run_dir=flags.run_dir,
        config=config,
        folds=flags.folds,
        only=only,
        init_from=flags.init_from,
        refit=flags.refit,
    )


def run_grid(flags):
    from dr_tf import configuration
    from dr_tf.training import grid
    from dr_tf.training.train import train

    def trial(bindings, folder):
        configuration.parse([*flags.gin_file, flags.grid_file], [*flags.gin_param, *grid.as_gin(bindings)])
        experiment, records, config = configured(flags)
        return train(experiment, records, run_dir=folder, config=config, init_from=flags.init_from)[1]

    selected = configuration.build("train").selected_by
    grid.run_grid(configuration.build("grid"), run_dir=flags.run_dir, run_trial=trial, objective=selected)


if __name__ == "__main__":
    main()
