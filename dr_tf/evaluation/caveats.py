"""What a reader of figures must be told: one sentence each."""

import numpy as np

from dr_tf.evaluation.metrics.compute import patients_unknown


def caveats(predictions):
    return [sentence for check in CHECKS for sentence in check(predictions)]


def _one_sided(p):
    """No sensitivity without positives, no specificity without negatives, and no curve without both."""
    known = p.truth_positive[p.known_positive]
    if len(known) and len(np.unique(known)) < 2:
        which, lost = ("positive", "specificity") if known[0] else ("negative", "sensitivity")
        yield f"All {_count(p, len(known))} are {which} for {p.positive}: nothing can be told of {lost} or AUROC."


def _never_decided(p):
    if p.multi_label:
        counts = zip(p.classes, (p.truth == 1).sum(axis=0), (p.predicted == 1).sum(axis=0), strict=True)
    else:
        counts = ((name, (p.truth == i).sum(), (p.predicted == i).sum()) for i, name in enumerate(p.classes))
    for name, true, decided in counts:
        if true and not decided:
            yield f"“{name}” is never predicted, though it is the truth of {_count(p, true)}."


def _disagreements(p):
    """Where the class that was decided says one thing and the decision to refer another."""
    if (apart := disagreements(p)) is None or not apart.any():
        return
    referred, cleared = int((apart & p.refer).sum()), int((apart & ~p.refer).sum())
    yield (
        f"The class and the decision disagree on {p.positive} for {int(apart.sum())} of {_count(p, len(p))}: "
        f"{referred} referred below it, {cleared} not referred at or above it."
    )


def disagreements(p):
    """For each row whether its class and its decision contradict each other; None where classes do not say."""
    says = p.class_is_positive()
    if p.multi_label or all(answer is None for answer in says):
        return None
    known = np.array([answer is not None for answer in says])[p.predicted]
    return known & (np.array([bool(answer) for answer in says])[p.predicted] != p.refer)


def _patients(p):
    if unknown := patients_unknown(p):
        yield f"{unknown[0].upper()}{unknown[1:].replace(':', ': intervals')}."


def _small_classes(p):
    if p.multi_label:
        counts = dict(zip(p.classes, (p.truth == 1).sum(axis=0), strict=True))
    else:
        counts = {name: (p.truth == i).sum() for i, name in enumerate(p.classes)}
    few = [f"“{name}” {count}" for name, count in counts.items() if count < 10]
    if few and p.labelled.any():
        yield f"Fewer than 10 to judge by: {', '.join(few)}."


def _retaken(p):
    """A record that the gate would not have let through as a photograph."""
    if p.action is not None and (retaken := int((p.action == "retake").sum())):
        yield (
            f"The gate asks to take {_count(p, retaken)} of {len(p):,} again: they are among these records, and nobody who "
            "screens would have got an answer to them."
        )


CHECKS = (_one_sided, _never_decided, _disagreements, _small_classes, _retaken, _patients)


def _count(p, n):
    return f"{n:,} {p.unit}{'s' if n != 1 else ''}"
