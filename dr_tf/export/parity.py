"""Compare an exported network with its run: logits, probabilities and actions on the same photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.synthesis import render_patient
from dr_tf.inference.decision import Decision
from dr_tf.inference.modes import PLAIN, score_images
from dr_tf.inference.network import ImageBatch
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.run import Run

_PATIENTS, _SIDE, _GRADES = 3, 400, ((0, 2), (3, 4), (1, 0))


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How much an export may differ from its run.

    Attributes:
        logits: largest difference of a logit.
        probabilities: largest difference of the probability of positive.
        equal_actions: smallest share of equal actions.
        equal_grades: smallest share of equal grades.
    """

    logits: float
    probabilities: float
    equal_actions: float = 1.0
    equal_grades: float = 1.0


EXACT = Tolerance(2e-3, 5e-4)
HALF = Tolerance(0.05, 0.01)  # networks that compute, or weights that are stored, in half precision
INT8 = Tolerance(np.inf, np.inf, 0.99, 0.0)


def synthetic_batches(preparation: Preparation, *, paired: bool) -> Iterator[ImageBatch]:
    """Yield batches of one case of synthetic retinas of every grade, as the network takes them."""
    for seed in range(_PATIENTS):
        eyes = render_patient(seed, side=_SIDE, grades=_GRADES[seed]).eyes
        left, right = (preparation(eye.encode())[0][None] for eye in eyes)
        if paired:
            present = {"left_present": np.array([True]), "right_present": np.array([seed > 0])}
            patient = {"age": np.array([30.0 * seed or -1], np.float32), "sex": np.array([seed - 1], np.float32)}
            yield {"left": left, "right": right if seed else np.zeros_like(right), **present, **patient}
        else:
            yield from (left, right)


def compare(run: Run, exported: Run, batches: Iterable[ImageBatch]) -> dict[str, Any]:
    """Compare two runs on the same batches of images.

    Returns:
        Plain data: the number of cases, the largest absolute difference of each output's logits, of the features, and
        of the probability of positive, and the shares of equal actions and equal grades.
    """
    logits: dict[str, float] = dict.fromkeys(run.network.outputs, 0.0)
    features, probability, equal, count = 0.0, 0.0, {"action": 0, "grade": 0}, 0
    for batch in batches:
        results = [_decide(one, batch) for one in (run, exported)]
        (expected, own), (found, other) = ((scores, decisions) for scores, decisions in results)
        for name in logits:
            logits[name] = max(logits[name], _difference(expected.outputs[name], found.outputs[name]))
        features = max(features, _difference(expected.features, found.features))
        pairs = list(zip(own, other, strict=True))
        probability = max([probability, *(_difference(a.p_positive, b.p_positive) for a, b in pairs)])
        for field in equal:
            equal[field] += sum(getattr(a, field) == getattr(b, field) for a, b in pairs)
        count += len(pairs)
    if not count:
        raise UserError("there is no photograph to compare the export on")
    return {
        "cases": count,
        "logits": logits,
        "features": features,
        "probability": probability,
        "equal_actions": equal["action"] / count,
        "equal_grades": equal["grade"] / count,
    }


def _decide(run: Run, batch: ImageBatch) -> tuple[Any, list[Decision]]:
    scores = score_images(run.network, run.rule.requested_modes(PLAIN), batch)
    distribution = run.feature_distribution
    distances = None if distribution is None else distribution.distance(scores.features)
    cases = range(len(scores.features))
    return scores, run.rule.decide(scores.scores, cases=cases, outputs=scores.outputs, distances=distances)


def _difference(first: Any, second: Any) -> float:
    """The largest absolute difference; infinite if only one of them is a number."""
    a, b = (np.asarray(np.nan if x is None else x, np.float64) for x in (first, second))
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return np.inf
    return float(np.abs(np.where(np.isfinite(a), a - b, 0)).max(initial=0))


def problem(comparison: dict[str, Any], tolerance: Tolerance) -> str:
    """Return how a comparison exceeds a tolerance, in one line; empty if it does not."""
    largest = max(comparison["logits"].values())
    found = []
    if largest > tolerance.logits:
        found.append(f"logits differ by up to {largest:.2g}, allowed is {tolerance.logits:g}")
    if comparison["probability"] > tolerance.probabilities:
        found.append(f"probabilities by up to {comparison['probability']:.2g}, allowed is {tolerance.probabilities:g}")
    for kind, needed in (("actions", tolerance.equal_actions), ("grades", tolerance.equal_grades)):
        if (share := comparison[f"equal_{kind}"]) < needed:
            found.append(
                f"{100 * share:.1f} % of {comparison['cases']} {kind} are equal, needed are {100 * needed:g} %"
            )
    return "; ".join(found)
