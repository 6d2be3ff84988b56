"""Out-of-fold training: every photograph that is not test is predicted by a model that saw neither it nor its patient."""

import pathlib

import keras
import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.run import HELD_OUT, MODEL, OUT_OF_FOLD, ScoredRows, read_scored_rows, write_scored_rows
from dr_tf.models.network import KerasNetwork
from dr_tf.training.data_roles import check_folds, fold_roles, refit_roles
from dr_tf.training.fit_decision import known_features, requested_modes, score_rows
from dr_tf.training.train import train
from dr_tf.training.training_data import TrainingData

REFIT = "refit"


def train_folds(experiment, records, *, run_dir, config, folds, only, init_from=None, refit=False):
    """Trains the folds in `only` below `run_dir`; once all are there, pools what they predict. Returns the figures.

    `refit`: then trains once more, on all of them, into `run_dir`/refit, calibrated on what the folds predict.
    `init_from`: a run; of a run by folds each fold begins from the same fold there, and the refit from the refit.
    """
    if refit and experiment.watched:
        raise UserError("--refit fits on everything but test, so that no epoch can be chosen: say train.keep = 'last'")
    check_folds(records, folds)
    if wrong := [fold for fold in only if fold not in range(folds)]:
        raise UserError(f"--fold {wrong[0]}: the folds are 0 to {folds - 1}")
    for fold in only:
        logging.info("fold %d of %d", fold, folds)
        roles, name = _roles(experiment, records, fold, folds), f"fold-{fold}"
        begin = _beginning(init_from, name)
        train(experiment, records, run_dir=run_dir / name, config=config, roles=roles, init_from=begin)
    parts = [run_dir / f"fold-{fold}" / HELD_OUT for fold in range(folds)]
    missing = [part.parent.name for part in parts if not part.exists()]
    if missing:
        logging.info("figures over all folds follow once %s are trained", ", ".join(missing))
        return None
    figures = pool(experiment, records, parts, run_dir)
    if refit:
        _refit(experiment, records, run_dir=run_dir, config=config, folds=folds, init_from=init_from)
    return figures


def _roles(experiment, records, fold, folds):
    return fold_roles(records, experiment.head, fold=fold, folds=folds, selects=bool(experiment.watched))


def _beginning(init_from, part):
    """The run that gives a part its first weights."""
    own = pathlib.Path(init_from or "", part)
    return own if init_from and own.is_dir() else init_from


def _refit(experiment, records, *, run_dir, config, folds, init_from):
    logging.info("all folds together: %s", run_dir / REFIT)
    train(
        experiment,
        records,
        run_dir=run_dir / REFIT,
        config=config,
        roles=refit_roles(records, experiment.head),
        init_from=_beginning(init_from, REFIT),
        scored=lambda: _answered_by_folds(experiment, records, run_dir, folds),
    )


def _answered_by_folds(experiment, records, run_dir, folds):
    """Every photograph as the one network answers it that has not seen it."""
    parts = []
    for fold in range(folds):
        network = KerasNetwork.load(run_dir / f"fold-{fold}" / MODEL)
        requested = requested_modes(network, experiment, (PLAIN, *experiment.modes))
        data = TrainingData(experiment, records, _roles(experiment, records, fold, folds), network.image_size)
        feature_distribution, neighbours = known_features(network, data, neighbours=bool(requested.votes))
        parts.append(
            score_rows(
                network,
                data,
                data.roles.held_out,
                requested=requested,
                feature_distribution=feature_distribution,
                neighbours=neighbours,
            )
        )
    return ScoredRows.joined(parts)


def pool(experiment, records, parts, run_dir):
    """Writes what the folds scored as one, and the metrics over all of them; returns the latter."""
    held_out = [read_scored_rows(part)[0] for part in parts]
    pooled = ScoredRows.joined(held_out)
    fold = np.concatenate([np.full(len(part.rows), i) for i, part in enumerate(held_out)])
    write_scored_rows(run_dir / OUT_OF_FOLD, pooled, fold=fold)
    metrics = {}
    for output, head in experiment.heads.items():
        prefix = f"{output}_" if len(experiment.heads) > 1 else ""
        found = metrics_of(head, head.targets(records.columns)[pooled.rows], pooled.outputs[output])
        metrics |= {prefix + name: value for name, value in found.items()}
    files.write_json(run_dir / "out_of_fold.json", {"n": len(pooled.rows)} | metrics)
    logging.info("out of fold, n = %d: %s", len(fold), ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()))
    return metrics


def metrics_of(head, targets, logits):
    """The metrics that the head watches in training, over all at once: {name: value}."""
    metrics = head.metrics()
    for metric in metrics:
        metric.update_state(targets, logits)
    results = {metric.name: keras.ops.convert_to_numpy(metric.result()) for metric in metrics}
    return {name: float(value) for name, value in results.items() if value.ndim == 0}
