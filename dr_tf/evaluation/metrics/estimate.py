"""Estimate: a metric's value with what its confidence interval is computed from.

Metric families return functions that make the estimates (`functools.partial`). Whoever needs three metrics of a hundred
subgroups then computes only these.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from dr_tf.evaluation.statistics.bootstrap import BootstrapStatistic


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric's value with what its confidence interval is computed from.

    Attributes:
        value: NaN where the metric is undefined.
        n: number of images that the value is a mean over.
        hits: of a proportion, how many of the n count; else None.
        patients: of a proportion, the number of patients of the n images.
        ranking: of an AUROC, (scores, truth, patients); else None.
        calibration_error: whether it is an ECE, whose bootstrap distribution is biased by the noise in its bins.
        note: printed beside the metric.
    """

    value: float
    n: int
    hits: int | None = None
    patients: int = 0
    ranking: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    calibration_error: bool = False
    note: str = ""


LazyEstimates = dict[str, Callable[[], Estimate]]
MetricFamily = tuple[LazyEstimates, list[BootstrapStatistic]]  # what each family of metrics returns


def score(
    function: Callable[..., float], *arrays: Any, n: int | None = None, note: str = "", **options: Any
) -> Estimate:
    """Make the Estimate of a scikit-learn metric, `function(*arrays, **options)`.

    Its warnings of classes without examples or predictions are silenced: the report's caveats name these classes.

    Args:
        function: the metric.
        *arrays: its positional arguments.
        n: number of images; None: the length of the first array.
        note: as in `Estimate`.
        **options: its keyword arguments.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Estimate(float(function(*arrays, **options)), len(arrays[0]) if n is None else n, note=note)


def proportion(hits: np.ndarray, patients: np.ndarray) -> Estimate:
    """Make the Estimate of the share of true values among `hits` [n], of images of these `patients` [n]."""
    value = float(hits.mean()) if len(hits) else math.nan
    return Estimate(value, len(hits), hits=int(hits.sum()), patients=len(np.unique(patients)))


def auroc(scores: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> Estimate:
    """Make the Estimate of an AUROC; its value is NaN where a class is empty."""
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(truth).astype(bool)
    if truth.all() or not truth.any():
        return Estimate(math.nan, len(truth))
    return Estimate(float(roc_auc_score(truth, scores)), len(truth), ranking=(scores, truth, patients))


def average_precision(scores: np.ndarray, truth: np.ndarray) -> Estimate:
    """Make the Estimate of an average precision; its value is NaN where a class is empty."""
    from sklearn.metrics import average_precision_score

    defined = 0 < np.sum(truth) < len(truth)
    return score(average_precision_score, truth, scores) if defined else Estimate(math.nan, len(truth))
