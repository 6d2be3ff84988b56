"""Metrics of each class, or label, against the rest."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from dr_tf.evaluation.metrics.estimate import Estimate, LazyEstimates, auroc, average_precision, proportion, score
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import BootstrapStatistic, DerivedStatistics, RankStatistics


def per_class_metrics(predictions: Predictions, truth: np.ndarray, predicted: np.ndarray) -> LazyEstimates:
    """Return the estimates of each class against the rest, named METRIC/CLASS, and the mean AUROC.

    Args:
        predictions: of images whose classes are known.
        truth: [n, classes], 0 or 1.
        predicted: [n, classes], 0 or 1.
    """
    from sklearn.metrics import f1_score

    estimates: LazyEstimates = {}
    patients = predictions.patients
    for i, name in enumerate(predictions.classes):
        in_class, in_prediction = truth[:, i].astype(bool), predicted[:, i].astype(bool)
        probability = predictions.probabilities[:, i]
        estimates[f"recall/{name}"] = partial(proportion, in_prediction[in_class], patients[in_class])
        estimates[f"precision/{name}"] = partial(proportion, in_class[in_prediction], patients[in_prediction])
        estimates[f"f1/{name}"] = partial(
            score, f1_score, in_class, in_prediction, zero_division=np.nan, n=int(in_class.sum())
        )
        estimates[f"auroc/{name}"] = partial(auroc, probability, in_class, patients)
        estimates[f"average_precision/{name}"] = partial(average_precision, probability, in_class)
    aurocs = [estimates[f"auroc/{name}"] for name in predictions.classes]
    return estimates | {"auroc_macro": partial(_macro, aurocs, len(predictions))}


def _macro(aurocs: Sequence[Callable[[], Estimate]], n: int) -> Estimate:
    values = [value for value in (make().value for make in aurocs) if not np.isnan(value)]
    return Estimate(float(np.mean(values)) if values else np.nan, n)


def class_rankings(predictions: Predictions, truth: np.ndarray, codes: np.ndarray) -> list[BootstrapStatistic]:
    """Return the bootstrap statistics of the AUROCs and average precisions of `per_class_metrics`.

    The list is empty where no class has both positives and negatives.
    """
    present = [i for i, y in enumerate(truth.T) if 0 < y.sum() < len(y)]
    names = {i: (f"auroc/{predictions.classes[i]}", f"average_precision/{predictions.classes[i]}") for i in present}
    rankings = [
        RankStatistics(predictions.probabilities[:, i], truth[:, i], codes=codes, auroc=roc, average_precision=ap)
        for i, (roc, ap) in names.items()
    ]
    macro = {"auroc_macro": lambda values: np.mean([values[roc] for roc, _ in names.values()], axis=0)}
    return [DerivedStatistics(rankings, macro)] if rankings else []
