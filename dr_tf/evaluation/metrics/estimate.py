"""A figure's value and what its interval is made from. Families give them unmade (`functools.partial`), so that who
wants three figures of a hundred subgroups does not wait for the rest."""

import dataclasses
import math
import warnings

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """`n` is what the value is a mean over. A proportion has `hits` of n, from so many `patients`; an AUROC its
    (scores, truth, patients)."""

    value: float
    n: int
    hits: int | None = None
    patients: int = 0
    ranking: tuple | None = None
    calibration_error: bool = False
    note: str = ""


def score(function, *arrays, n=None, note="", **options):
    """What a function of scikit-learn's says. It warns of every class never seen or never decided: the report does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Estimate(float(function(*arrays, **options)), len(arrays[0]) if n is None else n, note=note)


def proportion(hits, patients):
    """The share of true values, which stand for photographs of these `patients`."""
    value = float(hits.mean()) if len(hits) else math.nan
    return Estimate(value, len(hits), hits=int(hits.sum()), patients=len(np.unique(patients)))


def auroc(scores, truth, patients):
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(truth).astype(bool)
    if truth.all() or not truth.any():
        return Estimate(math.nan, len(truth))
    return Estimate(float(roc_auc_score(truth, scores)), len(truth), ranking=(scores, truth, patients))


def average_precision(scores, truth):
    from sklearn.metrics import average_precision_score

    defined = 0 < np.sum(truth) < len(truth)
    return score(average_precision_score, truth, scores) if defined else Estimate(math.nan, len(truth))
