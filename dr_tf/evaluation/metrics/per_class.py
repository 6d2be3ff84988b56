"""Figures of each class, or label, against the rest."""

from functools import partial

import numpy as np

from dr_tf.evaluation.metrics.estimate import Estimate, auroc, average_precision, proportion, score
from dr_tf.evaluation.statistics.bootstrap import Combined, Ranking


def per_class_metrics(predictions, truth, decided):
    """`truth` and `decided` are 0/1 [n, classes]."""
    from sklearn.metrics import f1_score

    points, patients = {}, predictions.patients
    for i, name in enumerate(predictions.classes):
        true, positive, stated = truth[:, i].astype(bool), decided[:, i].astype(bool), predictions.probabilities[:, i]
        points[f"recall/{name}"] = partial(proportion, positive[true], patients[true])
        points[f"precision/{name}"] = partial(proportion, true[positive], patients[positive])
        points[f"f1/{name}"] = partial(score, f1_score, true, positive, zero_division=np.nan, n=int(true.sum()))
        points[f"auroc/{name}"] = partial(auroc, stated, true, patients)
        points[f"average_precision/{name}"] = partial(average_precision, stated, true)
    aurocs = [points[f"auroc/{name}"] for name in predictions.classes]
    return points | {"auroc_macro": partial(_macro, aurocs, len(predictions))}


def _macro(aurocs, n):
    values = [value for value in (make().value for make in aurocs) if not np.isnan(value)]
    return Estimate(float(np.mean(values)) if values else np.nan, n)


def class_rankings(predictions, truth, codes):
    """The bootstrap of what `per_class_metrics` ranks; a list, empty where no class can be ranked."""
    present = [i for i, y in enumerate(truth.T) if 0 < y.sum() < len(y)]
    names = {i: (f"auroc/{predictions.classes[i]}", f"average_precision/{predictions.classes[i]}") for i in present}
    parts = [
        Ranking(predictions.probabilities[:, i], truth[:, i], codes=codes, auroc=roc, average_precision=precision)
        for i, (roc, precision) in names.items()
    ]
    macro = {"auroc_macro": lambda values: np.mean([values[roc] for roc, _ in names.values()], axis=0)}
    return [Combined(parts, macro)] if parts else []
