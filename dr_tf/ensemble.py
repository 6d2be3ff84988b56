"""Puts finished runs together as one that answers by the mean of their probabilities. `python -m dr_tf.ensemble --help`."""

import argparse
import pathlib
import sys

import numpy as np

from dr_tf.console import UserError, mistakes_in_one_line
from dr_tf.runtime import starting_tensorflow

EXAMPLES = """examples:
  python -m dr_tf.ensemble --run_dirs runs/a runs/b runs/c --records records --run_dir runs/ensemble
  python -m dr_tf.ensemble --run_dirs runs/a runs/b --records records --run_dir runs/ensemble --modes tta4
  python -m dr_tf.predict --run_dir runs/ensemble FOLDER

The new run holds all that it takes; it is calibrated, by itself, on the calibration split of the records that its members
were trained on, so that none of them may have fitted that. Members may differ in network, configuration and image size.
It tells no risk of macular edema, even where they do.
"""


def parse(arguments):
    parser = argparse.ArgumentParser(
        "python -m dr_tf.ensemble",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run_dirs", required=True, nargs="+", metavar="RUN", type=pathlib.Path, help="finished runs")
    parser.add_argument("--records", required=True, help="folder of the records that they were trained on")
    parser.add_argument("--run_dir", required=True, help="the run to make")
    parser.add_argument("--modes", nargs="*", help="to fit besides plain; those of the first run where left out")
    return parser.parse_args(arguments)


def run(flags):
    """Writes the run; returns its rule."""
    _check_names(flags.run_dirs)
    print("starting TensorFlow ...", file=sys.stderr)
    with starting_tensorflow():
        from dr_tf import configuration
        from dr_tf.inference.run import load_run
        from dr_tf.training.run_directory import RunDirectory

        configuration.start()
    members = [load_run(path) for path in flags.run_dirs]
    _check_alike(flags.run_dirs, members)
    fitting = _fitting(flags)
    with RunDirectory(flags.run_dir) as made:
        made.keep_config(_config(flags))
        if made.finished:
            raise UserError(f"{flags.run_dir} is a finished ensemble; use another --run_dir")
        return _write(made.path, members, *fitting)


def _check_names(run_dirs):
    if len({path.resolve() for path in run_dirs}) != len(run_dirs) or len(run_dirs) < 2:
        raise UserError("an ensemble takes two different runs or more")


def _check_alike(run_dirs, members):
    """All but the network and the size of what it takes has to be the same: there is one head, one crop, one rule."""
    first_head, first = members[0][1].head, members[0][2]
    for path, (_, rule, preparation, _) in zip(run_dirs, members, strict=True):
        if (rule.head.name, rule.head.positive, rule.head.classes) != (
            first_head.name, first_head.positive, first_head.classes
        ):  # fmt: skip
            raise UserError(
                f"{path} has a {rule.head.name} head for {rule.head.positive}, {run_dirs[0]} a {first_head.name} head "
                f"for {first_head.positive}: what is averaged has to mean the same"
            )
        if preparation.records != first.records:
            raise UserError(f"{path} was trained on {preparation.records}, {run_dirs[0]} on {first.records}")


def _check_unseen(run_dirs, rows):
    """Of a run by folds, or refitted on all of them, the calibration split is among what was fitted."""
    from dr_tf.inference.run import read_calibration

    for path in run_dirs:
        found = read_calibration(path)
        if found is None:
            raise UserError(f"{path} does not say what it was fitted on (calibration.npz): train it again")
        if np.isin(rows, found["fitted"]).any():
            raise UserError(f"{path} was fitted on photographs of the calibration split, which no member may have seen")


def _config(flags):
    """The first member's, by which the ensemble is fitted."""
    names = "".join(f"#   {path}\n" for path in flags.run_dirs)
    text = (flags.run_dirs[0] / "config.gin").read_text(encoding="utf-8")
    return f"# An ensemble of\n{names}# fitted as the first of them was, whose config follows.\n{text}"


def _fitting(flags):
    """(experiment, records, roles) by which the ensemble is calibrated: those of its first member."""
    import dataclasses

    from dr_tf import configuration
    from dr_tf.training.roles import split_roles

    configuration.parse([flags.run_dirs[0] / "config.gin"])
    experiment, records = configuration.experiment(flags.records)
    if flags.modes is not None:
        experiment = dataclasses.replace(experiment, modes=tuple(flags.modes))
    roles = split_roles(records, experiment.head)
    if not len(roles.calibrate):
        raise UserError(f"{records.name} has no calibration split to calibrate an ensemble on")
    _check_unseen(flags.run_dirs, roles.calibrate)
    return experiment, records, roles


def _write(path, members, experiment, records, roles):
    from dr_tf import files
    from dr_tf.inference.ensemble import combined
    from dr_tf.inference.gate import Clouds
    from dr_tf.inference.network import image_size_of
    from dr_tf.training.deciding import fit_decision
    from dr_tf.training.feed import Feed

    networks, rules, _, clouds = zip(*members, strict=True)
    model = combined([network.model for network in networks], rules[0].head)
    feed = Feed(experiment, records, roles, image_size_of(model))
    rule = fit_decision(model, feed, path, cloud=Clouds(clouds) if all(clouds) else None)
    with files.appearing(path / "model.keras") as unfinished:  # comes last: where it is, all is there
        model.save(unfinished)
    return rule


def main(arguments=None):
    flags = parse(arguments)
    with mistakes_in_one_line():
        run(flags)
    print(flags.run_dir)


if __name__ == "__main__":
    main()
