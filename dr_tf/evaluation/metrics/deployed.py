"""Metrics of the action as it is deployed: with the gate, which asks for some photographs to be taken again.

Whoever is asked back is not cleared: counted as referred, sensitivity and specificity are those of a clinic that refers
whomever it cannot photograph well. Left out, they are those of the photographs that are decided on.
"""

from functools import partial

import numpy as np

from dr_tf.evaluation.metrics import confusion
from dr_tf.evaluation.metrics.estimate import proportion
from dr_tf.evaluation.statistics.bootstrap import Sums


def deployed_metrics(predictions, prevalence):
    """(name -> function that makes its Estimate, statistics for the bootstrap)."""
    del prevalence
    if predictions.action is None or not predictions.known_positive.any():
        return {}, []
    rows, patients = predictions.known_positive, int(predictions.patient_codes.max()) + 1
    p, codes = predictions.take(rows), predictions.patient_codes[rows]
    truth, cleared, retaken = p.truth_positive == 1, p.action == "clear", p.action == "retake"
    points = {
        **_points("deployed", truth, ~cleared, np.ones(len(p), bool), p.patients),
        **_points("gradable", truth, p.action == "refer", ~retaken, p.patients),
        "retake_rate": partial(proportion, retaken, p.patients),
    }
    drawn = {"codes": codes, "patients": patients}
    return points, [_sums(truth, ~cleared, ~retaken, p.action == "refer", drawn)]


def _points(suffix, truth, refer, among, patients):
    positive, negative = truth & among, ~truth & among
    return {
        f"sensitivity_{suffix}": partial(proportion, refer[positive], patients[positive]),
        f"specificity_{suffix}": partial(proportion, ~refer[negative], patients[negative]),
    }


def _sums(truth, safe, judged, refer, drawn):
    truth = truth.astype(int)
    columns = {
        "deployed": confusion.one_hot(truth, safe.astype(int), 2),
        "gradable": confusion.one_hot(truth, refer.astype(int), 2) * judged[:, None],
        "retaken": (~judged)[:, None].astype(float),
        "n": np.ones((len(truth), 1)),
    }

    def of(name, which):
        return lambda sums: confusion.recall(sums[name].reshape(-1, 2, 2))[:, which]

    figures = {
        f"{what}_{name}": of(name, which)
        for name in ("deployed", "gradable")
        for what, which in (("sensitivity", 1), ("specificity", 0))
    }
    figures["retake_rate"] = lambda sums: sums["retaken"][:, 0] / sums["n"][:, 0]
    return Sums(columns, figures, **drawn)
