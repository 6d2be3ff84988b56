"""Out-of-fold training: every photograph that is not test is predicted by a model that saw neither it nor its patient."""

import pathlib

import keras
import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.inference.modes import by_neighbours
from dr_tf.inference.network import Network
from dr_tf.inference.rule import PLAIN
from dr_tf.inference.run import HELD_OUT, MODEL, OUT_OF_FOLD
from dr_tf.training.deciding import Judged, judge, known_features
from dr_tf.training.feed import Feed
from dr_tf.training.roles import fold_roles, refit_roles
from dr_tf.training.train import train

REFIT = "refit"


def train_folds(experiment, records, *, run_dir, config, folds, only, init_from=None, refit=False):
    """Trains the folds in `only` below `run_dir`; once all are there, pools what they predict. Returns the figures.

    `refit`: then trains once more, on all of them, into `run_dir`/refit, calibrated on what the folds predict.
    `init_from`: a run; of a run by folds each fold begins from the same fold there, and the refit from the refit.
    """
    if refit and experiment.watched:
        raise UserError("--refit fits on everything but test, so that no epoch can be chosen: say train.keep = 'last'")
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
    figures = pool(experiment.head, records, parts, run_dir)
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
        judged=lambda: _judged_by_folds(experiment, records, run_dir, folds),
    )


def _judged_by_folds(experiment, records, run_dir, folds):
    """Every photograph as the one network judges it that has not seen it."""
    modes, parts = (PLAIN, *experiment.modes), []
    for fold in range(folds):
        network = Network.load(run_dir / f"fold-{fold}" / MODEL)
        feed = Feed(experiment, records, _roles(experiment, records, fold, folds), network.image_size)
        cloud, bank = known_features(network, feed, bank=by_neighbours(modes))
        parts.append(judge(network, feed, feed.roles.held_out, modes=modes, cloud=cloud, bank=bank))
    return Judged(
        np.concatenate([part.rows for part in parts]),
        {mode: np.concatenate([part.logits[mode] for part in parts]) for mode in modes},
        np.concatenate([part.distances for part in parts]),
    )


def pool(head, records, parts, run_dir):
    held_out = [np.load(part, allow_pickle=False) for part in parts]
    pooled = {name: np.concatenate([part[name] for part in held_out]) for name in held_out[0].files}
    fold = np.concatenate([np.full(len(part["rows"]), i) for i, part in enumerate(held_out)])
    with files.appearing(run_dir / OUT_OF_FOLD) as path, open(path, "wb") as file:
        np.savez(file, **pooled, fold=fold)
    rows, said = pooled["rows"], [pooled[name] for name in ("logits", "dme") if name in pooled]
    figures = figures_of(head, head.targets(records.columns)[rows], np.concatenate(said, axis=1))
    files.write_json(run_dir / "out_of_fold.json", {"n": len(rows)} | figures)
    logging.info("out of fold, n = %d: %s", len(rows), ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
    return figures


def figures_of(head, targets, logits):
    """The figures that the head watches in training, over all at once: {name: value}."""
    metrics = head.metrics()
    for metric in metrics:
        metric.update_state(targets, logits)
    results = {metric.name: keras.ops.convert_to_numpy(metric.result()) for metric in metrics}
    return {name: float(value) for name, value in results.items() if value.ndim == 0}
