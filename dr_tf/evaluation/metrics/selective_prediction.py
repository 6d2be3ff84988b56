"""Selective referral: the least sure photographs go to a person, and the figures are of those that remain."""

import numpy as np

from dr_tf.evaluation.metrics.compute import compute_metrics
from dr_tf.inference.decision import uncertainty

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
FIGURES = (
    "accuracy", "quadratic_kappa", "sensitivity", "specificity", "exact_match", "f1_micro", "odir_score",
)  # fmt: skip


def entropy(probabilities, multi_label=False):
    """As a share of the most there could be; over labels the mean of each label's own."""
    return uncertainty(probabilities, exclusive=not multi_label)


def margin(probabilities, multi_label=False):
    """1 minus the lead of the likeliest class over the second; over labels, of the label nearest to undecided."""
    if multi_label:
        return 1 - np.abs(2 * probabilities - 1).min(axis=1)
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return 1 - (first - second)


def tta_spread(views):
    """Of probabilities [views, n, classes]: standard deviation over views of one photograph, summed over classes."""
    return np.std(views, axis=0).sum(axis=1)


def ensemble_disagreement(members, multi_label=False):
    """Of probabilities [members, n, classes]: the entropy of their mean above the mean of their entropies, that is what
    is learnt about the class by asking which member is right (Lakshminarayanan et al., NeurIPS 2017)."""
    apart = np.mean([entropy(member, multi_label) for member in members], axis=0)
    return np.maximum(entropy(np.mean(members, axis=0), multi_label) - apart, 0)


# What probabilities alone tell; tta_spread and ensemble_disagreement come with the predictions.
UNCERTAINTIES = {"entropy": entropy, "margin": margin}


def uncertainties(predictions):
    """name -> scores: those that came with the predictions, and those that their probabilities give.

    Between two classes all of the latter put photographs in the same order: entropy stands for them.
    """
    alike = len(predictions.classes) == 2 and not predictions.multi_label
    names = ["entropy"] if alike else UNCERTAINTIES
    own = {name: UNCERTAINTIES[name](predictions.probabilities, predictions.multi_label) for name in names}
    return own | predictions.uncertainty


def referral_curves(predictions, *, shares=SHARES, bootstrap_samples=500, seed=0):
    """score -> list of {"share", "n", and figures of the remaining as `figures` gives them}, the least sure referred."""
    curves = {}
    for name, scores in uncertainties(predictions).items():
        order = np.argsort(scores, kind="stable")
        curves[name] = [_point(predictions, order, share, bootstrap_samples, seed) for share in shares]
    return curves


def _point(predictions, order, share, bootstrap_samples, seed):
    kept = np.sort(order[: round(len(order) * (1 - share))])
    if not len(kept):
        return {"share": share, "n": 0}
    remaining = compute_metrics(predictions.take(kept), bootstrap_samples=bootstrap_samples, seed=seed, only=FIGURES)
    return {"share": share, "n": len(kept)} | remaining
