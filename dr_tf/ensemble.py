"""Puts finished runs together as one that answers by the mean of their probabilities. `python -m dr_tf.ensemble --help`."""

import argparse
import os
import pathlib
import sys

import numpy as np

from dr_tf.console import UserError, mistakes_in_one_line
from dr_tf.inference.modes import PLAIN
from dr_tf.runtime import starting_tensorflow

EXAMPLES = """examples:
  python -m dr_tf.ensemble --run_dirs runs/a runs/b runs/c --records records --run_dir runs/ensemble
  python -m dr_tf.ensemble --run_dirs runs/a runs/b --records records --run_dir runs/ensemble --modes tta4
  python -m dr_tf.predict --run_dir runs/ensemble FOLDER

The new run holds all that it takes; it is calibrated, by itself, on the calibration split of the records that its members
were trained on, so that none of them may have fitted that. Members may differ in network, configuration and image size,
but not in their outputs.
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
    fitting = _fitting(flags, members[0])
    with RunDirectory(flags.run_dir) as made:
        made.keep_config(_config(flags))
        if made.finished:
            raise UserError(f"{flags.run_dir} is a finished ensemble; use another --run_dir")
        return _write(made.path, members, *fitting)


def _check_names(run_dirs):
    if len({path.resolve() for path in run_dirs}) != len(run_dirs) or len(run_dirs) < 2:
        raise UserError("an ensemble takes two different runs or more")


def _check_alike(run_dirs, members):
    """All but the network and the size of what it takes has to be the same: there is one set of outputs, one crop, one rule."""
    from dr_tf.models.network import is_ensemble

    first = members[0]
    for path, run in zip(run_dirs, members, strict=True):
        if is_ensemble(run.network.model):
            raise UserError(f"{path} is an ensemble itself: name its members")
        if (said := _meaning(run.rule)) != (wanted := _meaning(first.rule)):
            raise UserError(
                f"{path} answers {said}, {run_dirs[0]} answers {wanted}: what is averaged has to mean the same"
            )
        if run.preparation.records != first.preparation.records:
            raise UserError(
                f"{path} was trained on {run.preparation.records}, {run_dirs[0]} on {first.preparation.records}"
            )


def _meaning(rule):
    heads = [f"{output} ({head.name} for {head.positive})" for output, head in rule.heads.items()]
    return f"{', '.join(heads)}, deciding by {rule.decides}"


def _check_unseen(run_dirs, records, rows):
    """Of a run by folds, or refitted on all of them, the calibration split is among what was fitted."""
    from dr_tf.training.fit_decision import fitted_names, names_of

    names = names_of(records, rows)
    for path in run_dirs:
        if np.isin(names, fitted_names(path)).any():
            raise UserError(f"{path} was fitted on photographs of the calibration split, which no member may have seen")


def _config(flags):
    """What the run is known by. Nothing of a member's config is read: it may be a stranger's."""
    names = "".join(f"#   {path}\n" for path in flags.run_dirs)
    return f"# An ensemble of\n{names}# decided as the first of them is.\n"


def _fitting(flags, first):
    """(experiment, records, roles) by which the ensemble is calibrated: as the first member's rule says of itself."""
    from dr_tf.data.cross_set_copies import without_shared
    from dr_tf.data.records import open_records
    from dr_tf.training.data_roles import split_roles
    from dr_tf.training.experiment import Experiment

    rule, dataset = first.rule, first.preparation.records
    modes = [name for name in rule.modes if name != PLAIN] if flags.modes is None else flags.modes
    experiment = Experiment(
        dataset=dataset,
        heads=rule.heads,
        model=None,
        decides=rule.decides,
        modes=tuple(modes),
        keep="last",
        prior=_prior(rule),
        operating_point=rule.point,
    )
    records = open_records(flags.records, dataset)
    if len(records.parts) > 1:
        records, _ = without_shared(records, audit)
    roles = split_roles(records, experiment.head)
    if not len(roles.calibrate):
        raise UserError(f"{records.name} has no calibration split to calibrate an ensemble on")
    _check_unseen(flags.run_dirs, records, roles.calibrate)
    return experiment, records, roles


def audit(folders, output):
    """Finds what several record sets share; a training on them has left the answer beside the first."""
    from tfrecords_builder.audit_sets import audit_sets

    audit_sets(folders, output, workers=os.cpu_count())


def _prior(rule):
    """As it was requested for, by name; else the shares themselves."""
    from dr_tf.inference.priors import PRIORS

    return rule.prior_name if rule.prior_name in PRIORS else dict(zip(rule.head.classes, rule.prior, strict=True))


def _write(path, members, experiment, records, roles):
    from dr_tf import files
    from dr_tf.explain.crop_maps import default_explainer
    from dr_tf.inference.gate import EnsembleFeatureDistribution
    from dr_tf.models.ensemble import combined
    from dr_tf.models.network import KerasNetwork
    from dr_tf.training.fit_decision import fit_decision, keep_scale
    from dr_tf.training.training_data import TrainingData

    distributions = tuple(run.feature_distribution for run in members)
    model = combined([run.network.model for run in members], members[0].rule.heads)
    network = KerasNetwork(model)
    feed = TrainingData(experiment, records, roles, network.image_size)
    rule = fit_decision(
        network,
        feed,
        path,
        feature_distribution=EnsembleFeatureDistribution(distributions) if all(distributions) else None,
    )
    if (explainer := default_explainer(model, rule)) is not None:
        keep_scale(path, explainer, feed)
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
