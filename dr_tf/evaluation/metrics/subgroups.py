"""Figures of parts of the photographs: each source, camera, eye, sex, age band and so on against all others."""

import math
from statistics import NormalDist

import numpy as np

from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES, compute_metrics
from dr_tf.evaluation.statistics.bootstrap import Sums, bootstrap
from dr_tf.grades import ABSENT, DME_RISKS

FIGURES = ("auroc", "sensitivity", "specificity", "accuracy", "quadratic_kappa", "exact_match", "f1_micro")
JUDGED = ("sensitivity", "specificity", "accuracy", "exact_match")
ENOUGH = 30  # patients behind a proportion, in the slice and in the rest, for a verdict

AGES = (40, 50, 60, 70)
GRADABILITIES = (0.25, 0.5, 0.75)
SEVERAL = "several"


def subgroup_columns(columns):
    """The subgroups of a record set's columns (each [n], named as in the records), empty where nothing is known.

    A patient of two eyes is one in a slice: by what both have in common, and by the eye that is less gradable.
    """
    columns = {**columns, **_of_both_eyes(columns)}
    texts = ("dataset", "source", "camera", "eye", "sex")
    found = {name: np.asarray(columns[name], str) for name in texts if name in columns}
    if "gradability/score" in columns:
        found["gradability"] = _bands(columns["gradability/score"], GRADABILITIES, "{:g}")
    if "age" in columns:
        found["age"] = _bands(columns["age"], AGES, "{:d}")
    if "dme" in columns:
        found["dme"] = np.array([DME_RISKS[risk] if risk != ABSENT else "" for risk in columns["dme"]])
    if "dataset" in found and "source" in found and _same_parts(found["dataset"], found["source"]):
        del found["source"]
    return {name: values for name, values in found.items() if len(np.unique(values)) > 1}


def _of_both_eyes(columns):
    """Source, camera and gradability of patients; an eye that is not there says nothing."""
    if "left_present" not in columns:
        return {}
    found = {}
    for name in ("source", "camera", "gradability/score"):
        if f"left/{name}" in columns and f"right/{name}" in columns:
            left, right = (np.asarray(columns[f"{eye}/{name}"]) for eye in ("left", "right"))
            left = np.where(columns["left_present"], left, right)
            right = np.where(columns["right_present"], right, left)
            found[name] = np.minimum(left, right) if name == "gradability/score" else _common(left, right)
    return found


def _common(left, right):
    known = (left != "") & (right != "")
    return np.where(left == right, left, np.where(known, SEVERAL, ""))


def _same_parts(one, other):
    """Whether two names tell the same examples apart, so that one of them is enough."""
    both = len(np.unique(np.stack([one, other]), axis=1).T)
    return both == len(np.unique(one)) == len(np.unique(other))


def _bands(values, edges, form):
    """'below 40', '40 to 50' (which begins at 40), …, '70 and more'; empty where the value is below 0: not known."""
    edges = [form.format(edge) for edge in edges]
    names = np.array([f"below {edges[0]}", *map("{} to {}".format, edges, edges[1:]), f"{edges[-1]} and more"])
    values = np.asarray(values)
    return np.where(values < 0, "", names[np.searchsorted(np.array(edges, float), values, side="right")])


def subgroup_metrics(predictions, *, bootstrap_samples=BOOTSTRAP_SAMPLES, seed=0):
    """A list of {"subgroup", "value", "n", "patients", "metrics", "verdicts"}; unknown values are left out.

    A verdict compares a proportion with that of all other photographs, by the patient bootstrap of their difference
    and Bonferroni's correction for the number of verdicts: "lower", "no difference seen", or "too few patients".
    """
    found = list(parts(predictions))
    judgements = verdicts(predictions, found, bootstrap_samples=bootstrap_samples, seed=seed)
    return [
        {
            "subgroup": name,
            "value": value,
            "n": int(rows.sum()),
            "patients": len(np.unique(predictions.patients[rows])),
            "metrics": compute_metrics(
                predictions.take(rows), bootstrap_samples=bootstrap_samples, seed=seed, only=FIGURES
            ),
            "verdicts": {figure: judgements[key] for figure in JUDGED if (key := (figure, name, value)) in judgements},
        }
        for name, value, rows in found
    ]


def parts(predictions):
    """(slice, value, rows) of every slice that has at least two values."""
    for name, values in predictions.subgroups.items():
        known = sorted((value for value in np.unique(values) if value), key=lambda v: (not v.startswith("below"), v))
        for value in known if len(known) > 1 else ():
            yield name, str(value), values == value


def judged(predictions):
    """figure -> (hits, among): for each photograph whether it counts, and whether it is looked at."""
    positive, negative = predictions.truth_positive == 1, predictions.truth_positive == 0
    right = predictions.truth == predictions.predicted
    found = {"sensitivity": (predictions.refer, positive), "specificity": (~predictions.refer, negative)}
    if predictions.multi_label:
        return found | {"exact_match": (right.all(axis=1), predictions.labelled)}
    return found | {"accuracy": (right, predictions.labelled)}


def verdicts(predictions, found, *, bootstrap_samples=BOOTSTRAP_SAMPLES, seed=0):
    """(figure, slice, value) -> verdict for the `found` parts."""
    columns, unsaid = {}, {}
    for figure, (hits, among) in judged(predictions).items():
        for name, value, rows in found:
            inside, outside = among & rows, among & ~rows & (predictions.subgroups[name] != "")
            if min(len(np.unique(predictions.patients[side])) for side in (inside, outside)) < ENOUGH:
                unsaid[figure, name, value] = {"verdict": "too few patients"}
            else:
                sides = (inside & hits, inside, outside & hits, outside)
                columns[figure, name, value] = np.stack(sides, axis=1).astype(float)
    return unsaid | _differences(predictions, columns, bootstrap_samples, seed)


def _differences(predictions, columns, bootstrap_samples, seed):
    if not columns:
        return {}
    codes = predictions.patient_codes
    patients = int(codes.max()) + 1
    minus = {key: lambda sums, key=key: _difference(sums[key]) for key in columns}
    drawn = bootstrap(
        [Sums(columns, minus, codes=codes, patients=patients)],
        patients=patients,
        bootstrap_samples=bootstrap_samples,
        seed=seed,
    )
    z = NormalDist().inv_cdf(1 - 0.05 / 2 / len(columns))
    return {key: _verdict(_difference(columns[key].sum(axis=0)), drawn[key], z) for key in columns}


def _difference(sums):
    """Share inside minus share outside, of (hits, among, hits, among) [..., 4]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]


def _verdict(difference, drawn, z):
    half = z * float(np.nanstd(drawn))
    verdict = "lower" if difference + half < 0 else "no difference seen"
    ends = {"difference": difference, "low": difference - half, "high": difference + half}
    return {"verdict": verdict} | {key: round(float(value), 12) for key, value in ends.items()}


def worst_subgroups(subgroups):
    """figure -> the slice of the lowest value among those with enough patients for a verdict, or None."""
    worst = {}
    for figure in JUDGED:
        fit = [part for part in subgroups if part["verdicts"].get(figure, {}).get("difference") is not None]
        if any(figure in part["verdicts"] for part in subgroups):
            worst[figure] = min(fit, key=lambda part: _value(part, figure)) if fit else None
    return worst


def _value(part, figure):
    value = part["metrics"][figure]["value"]
    return math.inf if value is None else value
