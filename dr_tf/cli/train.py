"""`dr_tf train` and `train.py`: train the model that a config describes.

The result is a run directory. A training that was stopped or killed resumes when the same command is run again.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dr_tf.cli.flags import AbslArgumentParser, add_config_flags
from dr_tf.config_files import find_config, find_grid
from dr_tf.console import UserError, exit_on_user_error, print_status
from dr_tf.runtime import starting_tensorflow

if TYPE_CHECKING:
    from dr_tf.data.records import Records
    from dr_tf.training.experiment import Experiment

_EXAMPLES = """examples:
  {prog} --gin_file quickstart --records quickstart/records --run_dir runs/quickstart
  {prog} ... --gin_param 'train.epochs = 10' --gin_param 'optimization.learning_rate = 1e-4'
  {prog} ... --gin_param "train.operating_point = 'youden'"  fit a finished run's decision rule anew
  {prog} ... --init_from runs/first               start from the weights of a finished run
  {prog} ... --folds 5                            cross-validation: hold out every fold once, then pool the predictions
  {prog} ... --folds 5 --refit                    also train on all folds, calibrated on the out-of-fold predictions
  {prog} ... --grid_file idrid_resnetv2           train once per combination of hyperparameters
  {prog} ... --gin_param "train.protocol = 'leave_one_source_out'"  train once per source, on the other sources

`tensorboard --logdir RUN_DIR` shows learning curves, the confusion matrix, augmented training images and the trials of a grid.
Flags of absl, such as --verbosity=-1, are accepted as well; --helpfull lists them.
"""


def parse(arguments: Sequence[str] | None, prog: str = "python train.py") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = AbslArgumentParser(
        prog=prog,
        description="Train the model that a config describes, and write a run directory.\n"
        "A training that was stopped or killed resumes when the same command is run again.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config_flags(parser)
    parser.add_argument(
        "--run_dir", required=True, type=pathlib.Path, metavar="RUN", help="the run directory to write, or to resume"
    )
    parser.add_argument(
        "--init_from", metavar="RUN",
        help="a finished run whose weights this training starts from; if it has folds or sources, each starts from its own",
    )  # fmt: skip
    parser.add_argument("--folds", type=int, metavar="N", help="cross-validate over the N folds of the records")
    parser.add_argument(
        "--refit", action="store_true",
        help="with --folds: then train on all folds together, calibrated on the out-of-fold predictions",
    )  # fmt: skip
    parser.add_argument("--fold", type=int, metavar="K", help="with --folds: train only fold K, counted from 0")
    parser.add_argument(
        "--grid_file", metavar="CONFIG",
        help="a config with grid.parameters, as a path or a shipped name: train once per combination",
    )  # fmt: skip
    parser.add_argument(
        "--audit", choices=("on", "off"), default="on",
        help="if the config names several record sets: leave out copies of another set's test images, and all but one of "
        "other copies (default: on)",
    )  # fmt: skip
    flags = parser.parse_args(arguments)
    if (flags.fold is not None or flags.refit) and flags.folds is None:
        parser.error("--fold and --refit need --folds")
    if flags.folds is not None and flags.folds < 2:
        parser.error(f"--folds must be 2 or more, not {flags.folds}")
    if flags.grid_file and flags.folds:
        parser.error("--grid_file and --folds exclude each other")
    return flags


def main(arguments: Sequence[str] | None = None, prog: str = "python train.py") -> None:
    """Parse the command line and train. Arguments as those of `parse`."""
    run(parse(arguments, prog))


def run(flags: argparse.Namespace) -> None:
    """Train as the flags ask, and turn a user's mistake into one line."""
    with exit_on_user_error():
        config_files = _config_files(flags)  # before the seconds that TensorFlow takes to start
        print_status("starting TensorFlow ...")
        with starting_tensorflow():
            from dr_tf import configuration

            configuration.set_up_logging()
        configuration.parse(config_files, flags.gin_param)
        protocol = _connect_workers().protocol
        if protocol != "splits":
            _train_sources(flags, protocol)
        elif flags.grid_file:
            _train_grid(flags)
        elif flags.folds:
            _train_folds(flags)
        else:
            _train_once(flags)


def _config_files(flags: argparse.Namespace) -> list[str]:
    files = [find_config(name) for name in flags.gin_file]
    return [*files, find_grid(flags.grid_file)] if flags.grid_file else files


def _connect_workers() -> Experiment:
    """Connect to the other workers of a distributed training, if the config asks for one, and return the experiment.

    TensorFlow must do so before any other operation, and reading records uses TensorFlow.
    """
    from dr_tf import configuration
    from dr_tf.training import strategies

    experiment: Experiment = configuration.build("train")
    strategies.make_strategy(experiment.distribution)
    return experiment


def _experiment(flags: argparse.Namespace) -> tuple[Experiment, Records, Callable[[], str]]:
    from dr_tf.api import open_experiment

    return open_experiment(flags.records, audit=flags.audit == "on")


def _train_once(flags: argparse.Namespace) -> None:
    from dr_tf.training.train import train

    experiment, records, config = _experiment(flags)
    train(experiment, records, run_dir=flags.run_dir, config=config, init_from=flags.init_from)


def _train_folds(flags: argparse.Namespace) -> None:
    from dr_tf.training.folds import train_folds

    experiment, records, config = _experiment(flags)
    train_folds(
        experiment,
        records,
        run_dir=flags.run_dir,
        config=config,
        folds=flags.folds,
        only=range(flags.folds) if flags.fold is None else [flags.fold],
        init_from=flags.init_from,
        refit=flags.refit,
    )


def _train_sources(flags: argparse.Namespace, protocol: str) -> None:
    from dr_tf.training.sources import train_sources

    if flags.folds or flags.grid_file:
        raise UserError(
            f"train.protocol = {protocol!r} trains one run per source: no --folds and no --grid_file, or set "
            "train.protocol = 'splits'"
        )
    experiment, records, config = _experiment(flags)
    train_sources(experiment, records, run_dir=flags.run_dir, config=config, init_from=flags.init_from)


def _train_grid(flags: argparse.Namespace) -> None:
    from dr_tf import configuration
    from dr_tf.training import grid
    from dr_tf.training.train import train

    def run_trial(bindings: Mapping[str, Any], folder: pathlib.Path) -> Any:
        configuration.parse(_config_files(flags), [*flags.gin_param, *grid.as_gin(bindings)])
        experiment, records, config = _experiment(flags)
        return train(experiment, records, run_dir=folder, config=config, init_from=flags.init_from)[1]

    objective = configuration.build("train").selection_metric
    grid.run_grid(configuration.build("grid"), run_dir=flags.run_dir, run_trial=run_trial, objective=objective)
