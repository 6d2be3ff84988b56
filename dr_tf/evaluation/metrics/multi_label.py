"""Figures of several labels a patient, among them the official score of ODIR-2019."""

from functools import partial

import numpy as np

from dr_tf.evaluation.metrics import calibration_error as calibration
from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import Estimate, auroc, proportion, score
from dr_tf.evaluation.metrics.per_class import class_rankings, per_class_metrics
from dr_tf.evaluation.statistics.bootstrap import Combined, Ranking, Sums

ODIR_THRESHOLD = 0.5
_ODIR_NOTE = f"flattened patients x labels, threshold {ODIR_THRESHOLD}"


def multi_label_metrics(predictions, prevalence):
    """(name -> function that makes its Estimate, statistics for the bootstrap) over the rows whose every label is known."""
    del prevalence  # speaks of the positive definition only
    if not predictions.multi_label or not predictions.labelled.any():
        return {}, []
    rows, patients = predictions.labelled, int(predictions.patient_codes.max()) + 1
    drawn = {"codes": predictions.patient_codes[rows], "patients": patients}
    known = predictions.take(rows)
    points = _decisions(known) | per_class_metrics(known, known.truth, known.predicted)
    points |= _probabilistic(known) | _odir(known)
    rankings = class_rankings(known, known.truth, drawn["codes"])
    return points, [_counts(known, drawn), _errors(known, drawn), _score(known, drawn), *rankings]


def _decisions(p):
    from sklearn.metrics import f1_score

    kinds = ("micro", "macro", "weighted")
    points = {f"f1_{kind}": partial(score, f1_score, p.truth, p.predicted, average=kind) for kind in kinds}
    return points | {"exact_match": partial(proportion, (p.truth == p.predicted).all(axis=1), p.patients)}


def _probabilistic(p):
    brier = ((p.probabilities - p.truth) ** 2).mean()
    return {
        "brier": partial(Estimate, float(brier), len(p), note="mean over labels, 0 to 1"),
        "nll": partial(Estimate, float(_nll(p).mean()), len(p), note="nats, mean over labels"),
        "classwise_ece": partial(_classwise_ece, p),
    }


def _classwise_ece(p):
    value = calibration.classwise_ece(p.probabilities, p.truth)
    return Estimate(value, len(p), calibration_error=True, note=calibration.KIND)


def _nll(p):
    return -np.log(np.maximum(np.where(p.truth == 1, p.probabilities, 1 - p.probabilities), 2**-52))


def _odir(p):
    from sklearn.metrics import cohen_kappa_score, f1_score

    truth, probabilities = p.truth.ravel(), p.probabilities.ravel()
    decided = (probabilities > ODIR_THRESHOLD).astype(int)
    points = {
        "odir_kappa": partial(score, cohen_kappa_score, truth, decided, n=len(p), note=_ODIR_NOTE),
        "odir_f1": partial(score, f1_score, truth, decided, average="micro", n=len(p), note=_ODIR_NOTE),
        "odir_auc": partial(auroc, probabilities, truth, np.repeat(p.patients, len(p.classes))),
    }
    return {"odir_score": partial(_odir_score, list(points.values()), len(p))} | points


def _odir_score(parts, n):
    value = float(np.mean([make().value for make in parts]))
    return Estimate(value, n, note=f"mean of kappa, “F1” and AUC; {_ODIR_NOTE}")


def _cells(truth, decided):
    """[n, labels * 4]: a confusion matrix a label."""
    each = [confusion.one_hot(t, d, 2) for t, d in zip(truth.T, decided.T, strict=True)]
    return np.concatenate(each, axis=1)


def _counts(p, drawn):
    k = len(p.classes)
    used = (p.truth | p.predicted).any(axis=0)

    def of(figure):
        return lambda sums: figure(sums["cells"].reshape(-1, k, 2, 2))

    def positives(figure):
        return lambda matrix: figure(matrix)[..., 1]

    f1 = positives(confusion.f1)
    figures = {
        "f1_micro": of(lambda matrix: f1(matrix.sum(axis=1))),
        # scikit-learn counts a label that is neither seen nor decided as 0
        "f1_macro": of(lambda matrix: np.where(used, f1(matrix), 0).mean(axis=1)),
        "f1_weighted": of(_f1_weighted),
        "exact_match": lambda sums: sums["exact_match"][:, 0] / sums["n"][:, 0],
    }
    for i, name in enumerate(p.classes):
        for kind in ("recall", "precision", "f1"):
            figure = positives(getattr(confusion, kind))
            figures[f"{kind}/{name}"] = of(lambda matrix, i=i, figure=figure: figure(matrix[:, i]))
    exact = (p.truth == p.predicted).all(axis=1).astype(float)[:, None]
    columns = {"cells": _cells(p.truth, p.predicted), "exact_match": exact, "n": np.ones((len(p), 1))}
    return Sums(columns, figures, **drawn)


def _f1_weighted(matrix):
    support, f1 = matrix[..., 1, :].sum(axis=-1), confusion.f1(matrix)[..., 1]
    with np.errstate(invalid="ignore"):
        return (np.where(support > 0, f1, 0) * support).sum(axis=1) / support.sum(axis=1)


def _errors(p, drawn):
    k = len(p.classes)
    columns = {
        "n": np.ones((len(p), 1)),
        "brier": ((p.probabilities - p.truth) ** 2).mean(axis=1, keepdims=True),
        "nll": _nll(p).mean(axis=1, keepdims=True),
        "classwise_ece": calibration.classwise_gaps(p.probabilities, p.truth),
    }
    figures = {name: lambda sums, name=name: sums[name][:, 0] / sums["n"][:, 0] for name in ("brier", "nll")}
    figures["classwise_ece"] = lambda sums: calibration.from_sums(sums["classwise_ece"], sums["n"][:, 0]) / k
    return Sums(columns, figures, **drawn)


def _score(p, drawn):
    def of(figure):
        return lambda sums: figure(sums["cells"].reshape(-1, 2, 2))

    decided = (p.probabilities > ODIR_THRESHOLD).astype(int)
    cells = _cells(p.truth, decided).reshape(len(p), -1, 4).sum(axis=1)
    # Between two classes quadratic weights change nothing, and micro F1 over both is accuracy.
    figures = {"odir_kappa": of(confusion.quadratic_kappa), "odir_f1": of(confusion.accuracy)}
    parts = [Sums({"cells": cells}, figures, **drawn)]
    if 0 < p.truth.sum() < p.truth.size:
        codes = np.repeat(drawn["codes"], len(p.classes))
        parts.append(Ranking(p.probabilities.ravel(), p.truth.ravel(), codes=codes, auroc="odir_auc"))
    names = ("odir_kappa", "odir_f1", "odir_auc")
    return Combined(parts, {"odir_score": lambda values: sum(values.get(name, np.nan) for name in names) / 3})
