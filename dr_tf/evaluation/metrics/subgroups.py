"""Metrics of subgroups (source, camera, eye, sex, age band, …), each compared with all other images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES, compute_metrics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import SumStatistics, bootstrap
from dr_tf.grades import ABSENT, DME_RISKS

METRICS = ("auroc", "sensitivity", "specificity", "accuracy", "quadratic_kappa", "exact_match", "f1_micro")
TESTED = ("sensitivity", "specificity", "accuracy", "exact_match")  # metrics with a verdict
MIN_PATIENTS = 30  # behind a proportion, in the subgroup and outside it, for a verdict

AGES = (40, 50, 60, 70)
GRADABILITIES = (0.25, 0.5, 0.75)
SEVERAL = "several"


class Subgroup(NamedTuple):
    """The examples that have one value of one property."""

    name: str  # of the property, such as "camera"
    value: str
    rows: np.ndarray  # bool [n]


def subgroup_columns(columns: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Derive the properties that define subgroups from the columns of a record set.

    A patient with two eyes is one example: its value is what both eyes have in common, or the gradability of the eye
    that is less gradable. Properties with a single value are left out.

    Args:
        columns: {name in the records: values [n]}.

    Returns:
        {property: values [n] as text, "" where unknown}.
    """
    columns = {**columns, **_common_to_both_eyes(columns)}
    texts = ("dataset", "source", "camera", "eye", "sex")
    properties = {name: np.asarray(columns[name], str) for name in texts if name in columns}
    if "gradability/score" in columns:
        properties["gradability"] = _bands(columns["gradability/score"], GRADABILITIES, "{:g}")
    if "age" in columns:
        properties["age"] = _bands(columns["age"], AGES, "{:d}")
    if "dme" in columns:
        properties["dme"] = np.array([DME_RISKS[risk] if risk != ABSENT else "" for risk in np.asarray(columns["dme"])])
    if {"dataset", "source"} <= set(properties) and _same_partition(properties["dataset"], properties["source"]):
        del properties["source"]
    return {name: values for name, values in properties.items() if len(np.unique(values)) > 1}


def _common_to_both_eyes(columns: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Return source, camera and gradability of patients; an absent eye does not count."""
    if "left_present" not in columns:
        return {}
    common = {}
    for name in ("source", "camera", "gradability/score"):
        if f"left/{name}" in columns and f"right/{name}" in columns:
            left, right = (np.asarray(columns[f"{eye}/{name}"]) for eye in ("left", "right"))
            left = np.where(columns["left_present"], left, right)
            right = np.where(columns["right_present"], right, left)
            common[name] = np.minimum(left, right) if name == "gradability/score" else _common_text(left, right)
    return common


def _common_text(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    known = (left != "") & (right != "")
    return np.where(left == right, left, np.where(known, SEVERAL, ""))


def _same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two properties divide the examples alike, so that one of them is enough."""
    both = len(np.unique(np.stack([first, second]), axis=1).T)
    return both == len(np.unique(first)) == len(np.unique(second))


def _bands(values: ArrayLike, edges: Sequence[float], form: str) -> np.ndarray:
    """Return 'below 40', '40 to 50' (which includes 40), …, '70 and more'; "" for negative values (unknown)."""
    texts = [form.format(edge) for edge in edges]
    names = np.array([f"below {texts[0]}", *map("{} to {}".format, texts, texts[1:]), f"{texts[-1]} and more"])
    values = np.asarray(values)
    return np.where(values < 0, "", names[np.searchsorted(np.array(texts, float), values, side="right")])


def subgroup_metrics(
    predictions: Predictions, *, bootstrap_samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """Compute the metrics of every subgroup, and verdicts that compare it with all other images.

    A verdict compares a proportion with that of all other images, by the patient-level bootstrap of their difference
    with Bonferroni's correction for the number of verdicts. It is "lower", "no difference seen", or "too few
    patients".

    Args:
        predictions: of any task; unknown values of a property are left out.
        bootstrap_samples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Returns:
        [{"subgroup", "value", "n", "patients", "metrics", "verdicts"}].
    """
    subgroups = list(find_subgroups(predictions))
    by_subgroup = verdicts(predictions, subgroups, bootstrap_samples=bootstrap_samples, seed=seed)
    return [
        {
            "subgroup": name,
            "value": value,
            "n": int(rows.sum()),
            "patients": len(np.unique(predictions.patients[rows])),
            "metrics": compute_metrics(
                predictions.take(rows), bootstrap_samples=bootstrap_samples, seed=seed, only=METRICS
            ),
            "verdicts": {
                metric: by_subgroup[key] for metric in TESTED if (key := (metric, name, value)) in by_subgroup
            },
        }
        for name, value, rows in subgroups
    ]


def find_subgroups(predictions: Predictions) -> Iterator[Subgroup]:
    """Yield the subgroups of every property that has at least two known values."""
    for name, values in predictions.subgroups.items():
        known = sorted((value for value in np.unique(values) if value), key=lambda v: (not v.startswith("below"), v))
        for value in known if len(known) > 1 else ():
            yield Subgroup(name, str(value), values == value)


def _tested_proportions(predictions: Predictions) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {metric: (whether each image is a hit [n], whether it is in the denominator [n])}."""
    positive, negative = predictions.truth_positive == 1, predictions.truth_positive == 0
    right = predictions.truth == predictions.predicted
    proportions = {"sensitivity": (predictions.refer, positive), "specificity": (~predictions.refer, negative)}
    if predictions.multi_label:
        return proportions | {"exact_match": (right.all(axis=1), predictions.labelled)}
    return proportions | {"accuracy": (right, predictions.labelled)}


def verdicts(
    predictions: Predictions,
    subgroups: Sequence[Subgroup],
    *,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Compare each subgroup with all other images of known value: {(metric, property, value): verdict}."""
    columns, too_few = {}, {}
    for metric, (hits, included) in _tested_proportions(predictions).items():
        for name, value, rows in subgroups:
            inside, outside = included & rows, included & ~rows & (predictions.subgroups[name] != "")
            if min(len(np.unique(predictions.patients[side])) for side in (inside, outside)) < MIN_PATIENTS:
                too_few[metric, name, value] = {"verdict": "too few patients"}
            else:
                sides = (inside & hits, inside, outside & hits, outside)
                columns[metric, name, value] = np.stack(sides, axis=1).astype(float)
    return too_few | _compare_sides(predictions, columns, bootstrap_samples, seed)


def _compare_sides(
    predictions: Predictions, columns: dict[tuple[str, str, str], np.ndarray], bootstrap_samples: int, seed: int
) -> dict[tuple[str, str, str], dict[str, Any]]:
    if not columns:
        return {}
    codes = predictions.patient_codes
    patients = int(codes.max()) + 1
    named = {"/".join(key): values for key, values in columns.items()}
    differences = {name: lambda sums, name=name: _difference(sums[name]) for name in named}
    bootstrapped = bootstrap(
        [SumStatistics(named, differences, codes=codes, patients=patients)],
        patients=patients,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
    )
    z = NormalDist().inv_cdf(1 - 0.05 / 2 / len(columns))
    return {
        key: _verdict(_difference(values.sum(axis=0)), bootstrapped["/".join(key)], z)
        for key, values in columns.items()
    }


def _difference(sums: np.ndarray) -> np.ndarray:
    """Return the share inside minus the share outside, of (hits, images, hits, images) [..., 4]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]


def _verdict(difference: np.ndarray, bootstrapped: np.ndarray, z: float) -> dict[str, Any]:
    half = z * float(np.nanstd(bootstrapped))
    verdict = "lower" if difference + half < 0 else "no difference seen"
    ends = {"difference": difference, "low": difference - half, "high": difference + half}
    return {"verdict": verdict} | {key: round(float(value), 12) for key, value in ends.items()}


def worst_subgroups(subgroups: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """Find, for each tested metric, the subgroup of the lowest value among those with enough patients for a verdict.

    Args:
        subgroups: what `subgroup_metrics` returns.

    Returns:
        {metric: an element of `subgroups`, or None where none has enough patients}.
    """
    worst = {}
    for metric in TESTED:
        eligible = [group for group in subgroups if group["verdicts"].get(metric, {}).get("difference") is not None]
        if any(metric in group["verdicts"] for group in subgroups):
            worst[metric] = min(eligible, key=lambda group: _value(group, metric)) if eligible else None
    return worst


def _value(group: dict[str, Any], metric: str) -> float:
    value = group["metrics"][metric]["value"]
    return math.inf if value is None else value
