"""Caveats: one sentence each for whatever a reader of the metrics has to know."""

from collections.abc import Iterator

import numpy as np

from dr_tf.evaluation.metrics.compute import patients_unknown
from dr_tf.evaluation.predictions import Predictions


def caveats(predictions: Predictions) -> list[str]:
    """Return the caveats that apply to predictions."""
    return [sentence for check in CHECKS for sentence in check(predictions)]


def training_overlap_caveat(overlap: int, n: int) -> list[str]:
    """Return a caveat where `overlap` of the n evaluated images were training images."""
    if not overlap:
        return []
    return [f"The network was trained on {overlap} of these {n} photographs: metrics on them are optimistic."]


def _one_class_only(p: Predictions) -> Iterator[str]:
    """Without positives there is no sensitivity, without negatives no specificity, and without either no AUROC."""
    known = p.truth_positive[p.known_positive]
    if len(known) and len(np.unique(known)) < 2:
        present, undefined = ("positive", "specificity") if known[0] else ("negative", "sensitivity")
        yield f"All {_count(p, len(known))} are {present} for {p.positive}: {undefined} and AUROC are undefined."


def _never_predicted(p: Predictions) -> Iterator[str]:
    if p.multi_label:
        true_counts, predicted_counts = (p.truth == 1).sum(axis=0), (p.predicted == 1).sum(axis=0)
    else:
        true_counts, predicted_counts = (
            np.bincount(values[values >= 0], minlength=len(p.classes)) for values in (p.truth, p.predicted)
        )
    for name, true, predicted in zip(p.classes, true_counts, predicted_counts, strict=True):
        if true and not predicted:
            yield f"“{name}” is never predicted, though it is the true class of {_count(p, true)}."


def _disagreements(p: Predictions) -> Iterator[str]:
    if (disagree := disagreements(p)) is None or not disagree.any():
        return
    referred, cleared = int((disagree & p.refer).sum()), int((disagree & ~p.refer).sum())
    yield (
        f"The predicted class and the decision disagree on {p.positive} for {int(disagree.sum())} of "
        f"{_count(p, len(p))}: {referred} referred below it, {cleared} not referred at or above it."
    )


def disagreements(p: Predictions) -> np.ndarray | None:
    """Return whether the predicted class and the decision to refer contradict each other [n].

    None where no class determines whether it is positive.
    """
    is_positive = p.class_is_positive()
    if p.multi_label or all(value is None for value in is_positive):
        return None
    known = np.array([value is not None for value in is_positive])[p.predicted]
    return known & (np.array([bool(value) for value in is_positive])[p.predicted] != p.refer)


def _unknown_patients(p: Predictions) -> Iterator[str]:
    if unknown := patients_unknown(p):
        yield f"{unknown[0].upper()}{unknown[1:].replace(':', ': confidence intervals')}."


def _small_classes(p: Predictions) -> Iterator[str]:
    if p.multi_label:
        counts = dict(zip(p.classes, (p.truth == 1).sum(axis=0), strict=True))
    else:
        counts = {name: (p.truth == i).sum() for i, name in enumerate(p.classes)}
    few = [f"“{name}” {count}" for name, count in counts.items() if count < 10]
    if few and p.labelled.any():
        yield f"Fewer than 10 examples, too few for metrics of their own: {', '.join(few)}."


def _retakes(p: Predictions) -> Iterator[str]:
    if p.action is not None and (retaken := int((p.action == "retake").sum())):
        yield (
            f"The gate rejects {_count(p, retaken)} of {len(p):,}, which would have to be retaken. The metrics of the "
            "decision include them, though in deployment they would get no grade."
        )


CHECKS = (_one_class_only, _never_predicted, _disagreements, _small_classes, _retakes, _unknown_patients)


def _count(p: Predictions, n: int) -> str:
    return f"{n:,} {p.unit}{'s' if n != 1 else ''}"
