"""Cross-validation: train once per held-out fold and pool the out-of-fold predictions.

No image is predicted by a model that was trained on it or on another image of its patient. The test split has no fold.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.data.records import Records
from dr_tf.inference.modes import PLAIN, RequestedModes
from dr_tf.inference.run import HELD_OUT, OUT_OF_FOLD, ScoredRows, read_scored_rows, write_scored_rows
from dr_tf.models.heads.head import Head
from dr_tf.training.data_roles import Roles, check_folds, fold_roles, refit_roles
from dr_tf.training.experiment import Experiment
from dr_tf.training.train import train

REFIT = "refit"


def train_folds(
    experiment: Experiment,
    records: Records,
    *,
    run_dir: pathlib.Path,
    config: Callable[[], str],
    folds: int,
    only: Iterable[int],
    init_from: str | os.PathLike | None = None,
    refit: bool = False,
) -> dict[str, float] | None:
    """Train some folds below `run_dir`, and pool the out-of-fold predictions once all folds are trained.

    Args:
        experiment: the experiment.
        records: the record set.
        run_dir: folder of all folds.
        config: as `train` takes it.
        folds: number of folds.
        only: numbers of the folds to train now.
        init_from: run whose weights training starts from. If it is a cross-validation, each fold starts from its own
            fold there, and the refit from the refit.
        refit: whether to train once more on all folds, into `run_dir`/refit, calibrated on the out-of-fold predictions.

    Returns:
        The out-of-fold metrics, or None if folds are missing.

    Raises:
        UserError: a fold does not exist, or the refit could not select an epoch.
    """
    if refit and experiment.monitored:
        raise UserError("--refit trains on everything but test, so no epoch can be selected: set train.keep = 'last'")
    check_folds(records, folds)
    only = list(only)
    if unknown := [fold for fold in only if fold not in range(folds)]:
        raise UserError(f"--fold {unknown[0]}: the folds are 0 to {folds - 1}")
    for fold in only:
        logging.info("fold %d of %d", fold, folds)
        name = f"fold-{fold}"
        train(
            experiment,
            records,
            run_dir=run_dir / name,
            config=config,
            roles=_roles(experiment, records, fold, folds),
            init_from=same_part(init_from, name),
        )
    parts = [run_dir / f"fold-{fold}" / HELD_OUT for fold in range(folds)]
    if missing := [part.parent.name for part in parts if not part.exists()]:
        logging.info("out-of-fold metrics follow once %s are trained", ", ".join(missing))
        return None
    metrics = pool_folds(experiment, records, parts, run_dir)
    if refit:
        _refit(experiment, records, run_dir=run_dir, config=config, init_from=init_from)
    return metrics


def _roles(experiment: Experiment, records: Records, fold: int, folds: int) -> Roles:
    return fold_roles(records, experiment.head, fold=fold, folds=folds, selects=bool(experiment.monitored))


def same_part(init_from: str | os.PathLike | None, name: str) -> str | os.PathLike | None:
    """Return the part of another run of folds or sources with this name; that run itself if it has no such part."""
    same_fold = pathlib.Path(init_from or "", name)
    return same_fold if init_from and same_fold.is_dir() else init_from


def _refit(experiment, records, *, run_dir, config, init_from):
    logging.info("all folds together: %s", run_dir / REFIT)
    train(
        experiment,
        records,
        run_dir=run_dir / REFIT,
        config=config,
        roles=refit_roles(records, experiment.head),
        init_from=same_part(init_from, REFIT),
        out_of_fold=lambda: _out_of_fold_scores(experiment, run_dir),
    )


def _out_of_fold_scores(experiment, run_dir):
    """Every example's scores, in all modes, by the network that held it out."""
    scored, _ = read_scored_rows(run_dir / OUT_OF_FOLD)
    modes = RequestedModes.from_names((PLAIN, *experiment.modes), experiment.heads, experiment.deciding_output).modes
    if missing := [mode for mode in modes if mode not in scored.scores]:
        raise UserError(
            f"the folds in {run_dir} were not scored in mode {missing[0]}, as an earlier version trained them: train "
            "them in another --run_dir, or leave the mode out of train.modes"
        )
    return scored


def pool_folds(
    experiment: Experiment, records: Records, parts: Sequence[pathlib.Path], run_dir: pathlib.Path
) -> dict[str, float]:
    """Pool the scores of all held-out folds, and write them with their metrics.

    Args:
        experiment: the experiment.
        records: the record set.
        parts: files of the held-out scores, in the order of the folds.
        run_dir: folder of all folds.

    Returns:
        {metric: value} over all folds.
    """
    held_out = [scored[0] for part in parts if (scored := read_scored_rows(part))]
    pooled = ScoredRows.concatenate(held_out)
    fold = np.concatenate([np.full(len(part.rows), i) for i, part in enumerate(held_out)])
    write_scored_rows(run_dir / OUT_OF_FOLD, pooled, fold=fold)
    metrics: dict[str, float] = {}
    for output, head in experiment.heads.items():
        prefix = f"{output}_" if len(experiment.heads) > 1 else ""
        of_output = training_metrics(head, head.targets(records.columns)[pooled.rows], pooled.outputs[output])
        metrics |= {prefix + name: value for name, value in of_output.items()}
    files.write_json(run_dir / "out_of_fold.json", {"n": len(pooled.rows)} | metrics)
    logging.info("out of fold, n = %d: %s", len(fold), ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()))
    return metrics


def training_metrics(head: Head, targets: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Compute the scalar metrics that the head has in training over all examples at once, {name: value}."""
    metrics = head.metrics()
    for metric in metrics:
        metric.update_state(targets, logits)
    results = {metric.name: keras.ops.convert_to_numpy(metric.result()) for metric in metrics}
    return {name: float(value) for name, value in results.items() if value.ndim == 0}
