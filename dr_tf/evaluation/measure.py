"""All that is measured of a run on a set, as metrics.json holds it."""

import dataclasses

import numpy as np

from dr_tf.evaluation.caveats import caveats
from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES, compute_metrics, patients_unknown
from dr_tf.evaluation.metrics.selective_prediction import referral_curves
from dr_tf.evaluation.metrics.subgroups import subgroup_metrics, worst_subgroups
from dr_tf.evaluation.statistics.label_shift import TRANSDUCTIVE, correct_label_shift
from dr_tf.grades import ABSENT
from dr_tf.inference.decision import ACTIONS

AT_POINTS = ("sensitivity", "specificity", "balanced_accuracy_positive", "ppv", "npv")


def measure(
    predictions,
    *,
    excluded=None,
    protocol="",
    prevalence=None,
    conformal=None,
    shifted=None,
    bootstrap_samples=BOOTSTRAP_SAMPLES,
    seed=0,
):
    """Every figure under its plain name beside what was evaluated and on whom.

    `excluded`: reason -> number of photographs that were left out. `protocol`: how it came that the rule had not seen
    these photographs, where that is not plain from the split. `conformal`: what `intervals` came from, as
    `Conformal.told`. `shifted`: what `measure_shifted` gave, if that was asked for.
    """
    subgroups = subgroup_metrics(predictions, bootstrap_samples=bootstrap_samples, seed=seed)
    worst = {figure: part and [part["subgroup"], part["value"]] for figure, part in worst_subgroups(subgroups).items()}
    return {
        **_about(predictions, excluded or {}),
        "protocol": protocol,
        "unit": predictions.unit,
        **compute_metrics(predictions, prevalence=prevalence, bootstrap_samples=bootstrap_samples, seed=seed),
        "operating_points": operating_points(predictions, bootstrap_samples=bootstrap_samples, seed=seed),
        "confusion": confusions(predictions),
        "caveats": caveats(predictions),
        "conformal": conformal,
        "referral_curves": referral_curves(predictions, seed=seed),
        "label_shift": shifted,
        "subgroups": subgroups,
        "worst_subgroups": worst,
        "bootstrap_samples": bootstrap_samples,
        "seed": seed,
    }


def _about(p, excluded):
    counts = (p.truth == 1).sum(axis=0) if p.multi_label else np.bincount(p.truth[p.labelled], minlength=len(p.classes))
    return {
        "dataset": p.dataset,
        "split": p.split,
        "n": len(p),
        "patients": len(np.unique(p.patients)),
        "patients_known": not patients_unknown(p),
        "positive": p.positive,
        "threshold": p.thresholds[0] if len(p.thresholds) == 1 else None,
        "thresholds": p.thresholds,
        "positives": int((p.truth_positive == 1).sum()),
        "negatives": int((p.truth_positive == 0).sum()),
        "classes": dict(zip(p.classes, map(int, counts), strict=True)),
        "excluded": dict(excluded),
        "retake_reasons": _reasons(p),
    }


def _reasons(p):
    """Why photographs have to be taken again: {reason: how many}; None where no gate was asked."""
    if p.reason is None:
        return None
    reasons, counts = np.unique(p.reason[p.reason != ""], return_counts=True)
    return dict(sorted(zip(reasons.tolist(), counts.tolist(), strict=True), key=lambda item: -item[1]))


def operating_points(predictions, *, bootstrap_samples=BOOTSTRAP_SAMPLES, seed=0):
    """name -> figures of the decision to refer, had it been taken at that operating point of the rule."""
    return {
        name: compute_metrics(
            dataclasses.replace(predictions, refer=refer),
            bootstrap_samples=bootstrap_samples,
            seed=seed,
            only=AT_POINTS,
        )
        for name, refer in predictions.operating_points.items()
    }


def confusions(p):
    """Counts [truth][decided]: of the classes (for several labels: of each), of the decision to refer, of other outputs.

    "action" counts [truth][clear, retake, refer] of the decision as it is deployed, with the gate.
    """
    known = p.take(p.known_positive) if p.known_positive.any() else None
    found = {"refer": _matrix(known.truth_positive, known.refer.astype(int), 2) if known else None}
    if known is not None and known.action is not None:
        found["action"] = [[int((known.action[known.truth_positive == t] == a).sum()) for a in ACTIONS] for t in (0, 1)]
    for output, truth in p.other_truth.items():
        if (rows := truth != ABSENT).any():
            decided = p.other_predicted[output][rows]
            found[output] = _matrix(truth[rows], decided, int(max(truth.max(), decided.max())) + 1)
    if not p.labelled.any():
        return found
    labelled = p.take(p.labelled)
    if p.multi_label:
        pairs = zip(p.classes, labelled.truth.T, labelled.predicted.T, strict=True)
        return found | {"labels": {name: _matrix(truth, decided, 2) for name, truth, decided in pairs}}
    return found | {"classes": _matrix(labelled.truth, labelled.predicted, len(p.classes))}


def _matrix(truth, decided, k):
    return np.bincount(truth * k + decided, minlength=k * k).reshape(k, k).tolist()


def measure_shifted(
    predictions, *, method, prior, calibration=None, prevalence=None, bootstrap_samples=BOOTSTRAP_SAMPLES, seed=0
):
    """The figures after a correction for another mix of classes, marked as what they are."""
    after, mix = correct_label_shift(predictions, method=method, prior=prior, calibration=calibration)
    found = compute_metrics(after, prevalence=prevalence, bootstrap_samples=bootstrap_samples, seed=seed)
    about = {"method": method, "transductive": TRANSDUCTIVE, "class_prior": dict(zip(after.classes, mix.tolist(), strict=True))}
    return about | found
