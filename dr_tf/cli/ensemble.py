"""`dr_tf ensemble`: combine finished runs into one run that predicts the mean of their probabilities."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dr_tf.console import UserError, exit_on_user_error, print_status
from dr_tf.runtime import starting_tensorflow

if TYPE_CHECKING:
    from dr_tf.data.records import Records
    from dr_tf.inference.rule import Rule
    from dr_tf.inference.run import Run
    from dr_tf.models.network import KerasNetwork
    from dr_tf.training.data_roles import Roles
    from dr_tf.training.fit_decision import DecisionSettings

_EXAMPLES = """examples:
  {prog} --run_dirs runs/a runs/b runs/c --records records --run_dir runs/ensemble
  {prog} --run_dirs runs/a runs/b --records records --run_dir runs/ensemble --modes tta4
  dr_tf predict --run_dir runs/ensemble FOLDER

The new run contains its members. It is calibrated on the calibration split of the records that they were trained on, so no
member may have been trained on that split. Members may differ in network, config and image size, but not in their outputs.
"""


def parse(arguments: Sequence[str] | None, prog: str = "python -m dr_tf.ensemble") -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: the command line after the program's name; that of this process if None.
        prog: the program's name in the help text.
    """
    parser = argparse.ArgumentParser(
        prog,
        description="Combine finished runs into one calibrated run that predicts the mean of their probabilities.",
        epilog=_EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run_dirs", required=True, nargs="+", metavar="RUN", type=pathlib.Path, help="finished runs, the members"
    )
    parser.add_argument(
        "--records",
        required=True,
        metavar="DIR",
        help="the folder or the URL of the records that the members were trained on",
    )
    parser.add_argument("--run_dir", required=True, metavar="RUN", help="the run to write")
    parser.add_argument(
        "--modes",
        nargs="*",
        metavar="MODE",
        help="inference modes to calibrate besides plain (default: the first member's)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m dr_tf.ensemble") -> None:
    """Parse the command line and write the ensemble. Arguments as those of `parse`."""
    flags = parse(arguments, prog)
    with exit_on_user_error():
        run(flags)
    print(flags.run_dir)


def run(flags: argparse.Namespace) -> Rule:
    """Write the ensemble's run directory and return its rule."""
    _check_distinct(flags.run_dirs)
    print_status("starting TensorFlow ...")
    with starting_tensorflow():
        from dr_tf import configuration
        from dr_tf.inference.run import load_run
        from dr_tf.training.run_directory import RunDirectory

        configuration.set_up_logging()
    members = [load_run(path, keras=True) for path in flags.run_dirs]
    _check_compatible(flags.run_dirs, members)
    calibration = _calibration_data(flags, members[0])
    with RunDirectory(flags.run_dir) as run_directory:
        run_directory.keep_config(_config(flags))
        if run_directory.finished:
            raise UserError(f"{flags.run_dir} is a finished ensemble; use another --run_dir")
        return _write(run_directory.path, members, *calibration)


def _check_distinct(run_dirs: Sequence[pathlib.Path]) -> None:
    if len({path.resolve() for path in run_dirs}) != len(run_dirs) or len(run_dirs) < 2:
        raise UserError("--run_dirs: an ensemble needs two different runs or more")


def _check_compatible(run_dirs: Sequence[pathlib.Path], members: Sequence[Run]) -> None:
    """Refuse members that differ in outputs or records. Networks and image sizes may differ."""
    from dr_tf.models.network import is_ensemble

    first = members[0]
    for path, member in zip(run_dirs, members, strict=True):
        if is_ensemble(_keras_model(member)):
            raise UserError(f"{path} is an ensemble itself: name its members")
        if (outputs := _describe_outputs(member.rule)) != (expected := _describe_outputs(first.rule)):
            raise UserError(
                f"{path} predicts {outputs}, {run_dirs[0]} predicts {expected}: an ensemble averages equal outputs only"
            )
        if member.preparation.records != first.preparation.records:
            raise UserError(
                f"{path} was trained on {member.preparation.records}, {run_dirs[0]} on {first.preparation.records}"
            )


def _keras_model(member: Run) -> Any:
    return cast("KerasNetwork", member.network).model


def _describe_outputs(rule: Rule) -> str:
    heads = [f"{output} ({head.name} for {head.positive})" for output, head in rule.heads.items()]
    return f"{', '.join(heads)}, deciding by {rule.decides}"


def _check_unseen(run_dirs: Sequence[pathlib.Path], records: Records, rows: np.ndarray) -> None:
    """Refuse a member that was trained on the calibration split, as folds and refits are."""
    from dr_tf.training.example_names import example_names, fitted_example_names

    names = example_names(records, rows)
    for path in run_dirs:
        if np.isin(names, fitted_example_names(path)).any():
            raise UserError(f"{path} was trained on images of the calibration split, which no member may have seen")


def _config(flags: argparse.Namespace) -> str:
    """Return the ensemble's config.gin, a comment. No config of a member is read: it may come from a stranger."""
    names = "".join(f"#   {path}\n" for path in flags.run_dirs)
    return f"# An ensemble of\n{names}# decided as the first of them is.\n"


def _calibration_data(flags: argparse.Namespace, first: Run) -> tuple[DecisionSettings, Records, Roles]:
    """Return (settings of the first member's rule, records, roles) for calibration."""
    from dr_tf.api import audit_record_sets
    from dr_tf.data.cross_set_copies import leave_out_copies
    from dr_tf.data.records import open_records
    from dr_tf.training.data_roles import split_roles
    from dr_tf.training.fit_decision import DecisionSettings

    settings = DecisionSettings.from_rule(first.rule, flags.modes)
    records = open_records(flags.records, first.preparation.records)
    if len(records.parts) > 1:
        records, _ = leave_out_copies(records, audit_record_sets)
    roles = split_roles(records, settings.head)
    if not len(roles.calibrate):
        raise UserError(f"{records.name} has no calibration split to calibrate an ensemble on")
    _check_unseen(flags.run_dirs, records, roles.calibrate)
    return settings, records, roles


def _write(
    path: pathlib.Path, members: Sequence[Run], settings: DecisionSettings, records: Records, roles: Roles
) -> Rule:
    """Build and calibrate the ensemble, and write its run directory."""
    from dr_tf import files
    from dr_tf.data.images import ImageLoader
    from dr_tf.explain.crop_maps import default_explainer
    from dr_tf.inference.gate import EnsembleFeatureDistribution
    from dr_tf.models.ensemble import build_ensemble
    from dr_tf.models.network import KerasNetwork
    from dr_tf.training.fit_decision import TrainingFeatures, fit_decision
    from dr_tf.training.map_scale import fit_map_scale

    # A member is no ensemble, so its feature distribution is a plain one.
    distributions: tuple[Any, ...] = tuple(member.feature_distribution for member in members)
    model = build_ensemble([_keras_model(member) for member in members], members[0].rule.heads)
    network = KerasNetwork(model)
    images = ImageLoader(records, image_size=network.image_size)
    rule = fit_decision(
        network,
        settings,
        images=images,
        fit_rows=roles.fit,
        calibration_rows=roles.calibrate,
        run_dir=path,
        training_features=TrainingFeatures(EnsembleFeatureDistribution(distributions)) if all(distributions) else None,
    )
    if (explainer := default_explainer(model, rule)) is not None:
        fit_map_scale(path, explainer, images=images, fit_rows=roles.fit, calibration_rows=roles.calibrate)
    with files.atomic_write(path / "model.keras") as unfinished:  # last: a run that has it is complete
        model.save(unfinished)
    return rule
