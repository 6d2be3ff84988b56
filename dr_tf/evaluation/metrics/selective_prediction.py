"""Selective prediction: metrics of the images that remain when the most uncertain ones are referred to a person."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dr_tf.evaluation.metrics.compute import compute_metrics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.inference.decision import normalized_entropy

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
METRICS = (
    "accuracy", "quadratic_kappa", "sensitivity", "specificity", "exact_match", "f1_micro", "odir_score",
)  # fmt: skip


def entropy(probabilities: np.ndarray, multi_label: bool = False) -> np.ndarray:
    """Compute the entropy [n] as a share of its maximum; over several labels, the mean of each label's own."""
    return normalized_entropy(probabilities, exclusive=not multi_label)


def margin(probabilities: np.ndarray, multi_label: bool = False) -> np.ndarray:
    """Compute 1 minus the difference of the two highest class probabilities [n].

    Over several labels it is that of the label whose probability is nearest to 0.5.
    """
    if multi_label:
        return 1 - np.abs(2 * probabilities - 1).min(axis=1)
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return 1 - (first - second)


def tta_spread(views: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Compute the standard deviation over test-time augmented views, summed over classes [n].

    Args:
        views: probabilities [views, n, classes].
    """
    return np.std(views, axis=0).sum(axis=1)


def ensemble_disagreement(members: np.ndarray | Sequence[np.ndarray], multi_label: bool = False) -> np.ndarray:
    """Compute the entropy of the members' mean minus the mean of their entropies [n].

    It is the mutual information of the class and the member (Lakshminarayanan et al., NeurIPS 2017).

    Args:
        members: probabilities [members, n, classes].
        multi_label: whether the classes are labels of their own.
    """
    mean_entropy = np.mean([entropy(member, multi_label) for member in members], axis=0)
    return np.maximum(entropy(np.mean(members, axis=0), multi_label) - mean_entropy, 0)


# Scores that follow from probabilities alone; tta_spread and ensemble_disagreement come with the predictions.
UNCERTAINTIES = {"entropy": entropy, "margin": margin}


def uncertainties(predictions: Predictions) -> dict[str, np.ndarray]:
    """Return {name: scores [n]}, those stored with the predictions and those computed from their probabilities.

    Between two classes all of the latter rank images alike, so that entropy stands for them.
    """
    two_classes = len(predictions.classes) == 2 and not predictions.multi_label
    names = ["entropy"] if two_classes else list(UNCERTAINTIES)
    computed = {name: UNCERTAINTIES[name](predictions.probabilities, predictions.multi_label) for name in names}
    return computed | predictions.uncertainty


def referral_curves(
    predictions: Predictions, *, shares: Sequence[float] = SHARES, bootstrap_samples: int = 500, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Compute the metrics of the remaining images for each share of most uncertain images that is referred.

    Args:
        predictions: of any task.
        shares: the referred shares.
        bootstrap_samples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        {uncertainty score: [{"share", "n", and metrics as `compute_metrics` returns them}]}.
    """
    curves = {}
    for name, scores in uncertainties(predictions).items():
        order = np.argsort(scores, kind="stable")
        curves[name] = [_curve_point(predictions, order, share, bootstrap_samples, seed) for share in shares]
    return curves


def _curve_point(
    predictions: Predictions, order: np.ndarray, share: float, bootstrap_samples: int, seed: int
) -> dict[str, Any]:
    kept = np.sort(order[: round(len(order) * (1 - share))])
    if not len(kept):
        return {"share": share, "n": 0}
    remaining = compute_metrics(predictions.take(kept), bootstrap_samples=bootstrap_samples, seed=seed, only=METRICS)
    return {"share": share, "n": len(kept)} | remaining
