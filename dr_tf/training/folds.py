"""Out-of-fold training: every photograph that is not test is predicted by a model that saw neither it nor its patient."""

import keras
import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.training.roles import fold_roles
from dr_tf.training.train import train

HELD_OUT = "held_out.npz"


def train_folds(experiment, records, *, run_dir, config, folds, only, init_from=None):
    """Trains the folds in `only` below `run_dir`; once all are there, pools what they predict. Returns the figures."""
    for fold in only:
        logging.info("fold %d of %d", fold, folds)
        roles = fold_roles(records, experiment.head, fold=fold, folds=folds, selects=bool(experiment.watched))
        train(experiment, records, run_dir=run_dir / f"fold-{fold}", config=config, roles=roles, init_from=init_from)
    parts = [run_dir / f"fold-{fold}" / HELD_OUT for fold in range(folds)]
    missing = [part.parent.name for part in parts if not part.exists()]
    if missing:
        logging.info("figures over all folds follow once %s are trained", ", ".join(missing))
        return None
    return pool(experiment.head, records, parts, run_dir)


def pool(head, records, parts, run_dir):
    held_out = [np.load(part, allow_pickle=False) for part in parts]
    rows, logits = (np.concatenate([part[name] for part in held_out]) for name in ("rows", "logits"))
    fold = np.concatenate([np.full(len(part["rows"]), i) for i, part in enumerate(held_out)])
    with files.appearing(run_dir / "out_of_fold.npz") as path, open(path, "wb") as file:
        np.savez(file, rows=rows, logits=logits, fold=fold)
    figures = figures_of(head, head.targets(records.columns)[rows], logits)
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
