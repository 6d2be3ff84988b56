"""Cross-site protocols: leave one source out, or train on one source. One run per source, below a common folder.

Every run fits, selects and calibrates on the splits of its training sources, and stores the scores of the images that it
holds out. `evaluate --split sources` evaluates all runs together. No run uses the test split.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

from absl import logging

from dr_tf.console import UserError
from dr_tf.data.records import Records
from dr_tf.data.sources import TRAIN_ON_ONE, source_folders, source_names
from dr_tf.training.data_roles import Roles, check_classes, source_roles, usable_rows
from dr_tf.training.experiment import Experiment
from dr_tf.training.folds import same_part
from dr_tf.training.train import train


def train_sources(
    experiment: Experiment,
    records: Records,
    *,
    run_dir: pathlib.Path,
    config: Callable[[], str],
    init_from: str | os.PathLike | None = None,
) -> None:
    """Train the run of every source into `run_dir`/source-NAME. Finished runs are not trained again.

    Args:
        experiment: the experiment, whose `protocol` is "leave_one_source_out" or "train_on_one_source".
        records: the record set.
        run_dir: folder of all runs.
        config: as `train` takes it.
        init_from: run whose weights training starts from. If it has the same sources, each run starts from that of its
            source.

    Raises:
        UserError: the records have one source only, or a run would lack a class.
    """
    roles = roles_by_source(experiment, records)
    for number, (source, folder) in enumerate(source_folders(roles).items(), 1):
        logging.info("source %s, %d of %d: %s", source, number, len(roles), _description(roles[source]))
        train(
            experiment,
            records,
            run_dir=run_dir / folder,
            config=config,
            roles=roles[source],
            init_from=same_part(init_from, folder),
        )
    logging.info("all sources are trained: evaluate them by --split sources")


def roles_by_source(experiment: Experiment, records: Records) -> dict[str, Roles]:
    """Return {source: roles in its run}, all checked before the first run is trained."""
    sources = source_names(records, usable_rows(records, experiment.head))
    if len(sources) < 2:
        raise UserError(
            f"train.protocol = {experiment.protocol!r} needs several sources, and {records.name} has "
            + (f"only {sources[0]!r}" if sources else "none with labels")
            + " outside of its test split: join record sets in train.dataset, or build one with a source column"
        )
    roles = {
        source: source_roles(records, experiment.head, source=source, protocol=experiment.protocol)
        for source in sources
    }
    for source in sources:
        _check(experiment, records, source, roles[source])
    return roles


def _check(experiment, records, source, roles):
    where = source if experiment.protocol == TRAIN_ON_ONE else f"the sources other than {source}"
    check_classes(experiment.head, experiment.head.true_classes(records.columns)[roles.fit], where)
    if experiment.monitored and not len(roles.select):
        raise UserError(f"{where}: no validation split to select an epoch by: set train.keep = 'last'")
    if not len(roles.held_out):
        raise UserError(f"{source}: nothing is held out, as all patients of the other sources are also among its own")


def _description(roles):
    counts = (len(rows) for rows in (roles.fit, roles.select, roles.calibrate, roles.held_out))
    return "{} training, {} validation, {} calibration and {} held-out examples".format(*counts)
