"""Prepare the data of each section of the evaluation report; its text and markup are in the templates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.report.cross_site import source_tables
from dr_tf.evaluation.report.display_names import (
    NAMES,
    OF_FOLDS,
    OF_SUBGROUPS,
    PER_CLASS,
    SIDE_BY_SIDE,
    TABLES,
    class_name,
    displayed,
    displayed_metrics,
    output_name,
    positive,
    thresholds,
)
from dr_tf.inference.decision import ACTIONS
from dr_tf.rendering import ConfusionMatrix, Metric, Row, Table, count, percent

Metrics = Mapping[str, Any]


def metric_sections(predictions: Predictions, metrics: Metrics) -> dict[str, Any]:
    """Return {section: what its macro in report_sections.html prints, or None where the section is left out}."""
    return {
        "evaluation_set": _evaluation_set(metrics),
        "external": _external(metrics),
        "sources": _sources(metrics),
        "folds": _folds(metrics.get("folds")),
        "decision": _decision(metrics),
        "action": _action(metrics),
        "classes": _classes(predictions, metrics),
        "other_outputs": _other_outputs(metrics),
        "calibration": displayed_metrics(metrics, TABLES["calibration"]),
        "prediction_sets": _prediction_sets(metrics),
        "label_shift": _label_shift(metrics),
        "subgroups": _subgroups(metrics),
        "test_copies": _test_copies(metrics),
        "methods": _methods(metrics),
    }


def _evaluation_set(metrics: Metrics) -> dict[str, str]:
    unit = metrics["unit"]
    test_evaluations = metrics.get("test_evaluations")
    entries = {
        "Data set": metrics["dataset"],
        "Split": metrics["split"],
        "Protocol": metrics["protocol"],
        f"{unit.capitalize()}s": f"{metrics['n']:,}",
        "Patients": f"{metrics['patients']:,}"
        + ("" if metrics["patients_known"] else " (not known for all, see the caveats)"),
        "Labels": ", ".join(f"{class_name(name)} {n:,}" for name, n in metrics["classes"].items()),
        "Positive": f"{positive(metrics['positive'])}: {_positives(metrics)}",
        "Decision threshold": f"referred at a probability of {thresholds(metrics['thresholds'])} or more",
        "Excluded": ", ".join(f"{reason}: {n:,}" for reason, n in metrics["excluded"].items()) or "none",
        "Evaluations of this split": f"{test_evaluations:,} so far" if test_evaluations else "",
    }
    return {term: text for term, text in entries.items() if text}


def _positives(metrics: Metrics) -> str:
    known = metrics["positives"] + metrics["negatives"]
    share = f" ({percent(metrics['positives'] / known, 0)})" if known else ""
    return f"{metrics['positives']:,} of {known:,}{share}"


def _side_by_side(sides: Mapping[str, Metrics], caption: str = "") -> Table:
    """The metrics of two evaluations, one a column; their counts, too, where both are known."""
    rows = []
    if all("n" in side for side in sides.values()):
        rows.append(Row("Cases", tuple(f"{side['n']:,}" for side in sides.values())))
    if all("positives" in side for side in sides.values()):
        rows.append(Row("Positive cases", tuple(_positives(side) for side in sides.values())))
    for name in SIDE_BY_SIDE:
        if any(name in side for side in sides.values()):
            title, description = NAMES[name]
            cells = (displayed(name, side[name]) if name in side else None for side in sides.values())
            rows.append(Row(title, tuple(cells), description))
    return Table("Metric", tuple(sides), tuple(rows), caption, has_bars=True)


def _external(metrics: Metrics) -> dict[str, Any] | None:
    """Of an evaluation on another data set than the run's own."""
    external = metrics.get("external")
    if not external:
        return None
    own, known = external["own_test"], metrics["positives"] + metrics["negatives"]
    return {
        "audit": external["audit"],
        "prior_prevalence": external["prior_prevalence"],
        "prevalence": metrics["positives"] / known if known else None,
        "table": own and _side_by_side({_split(own): own | own["metrics"], _split(metrics): metrics}),
    }


def _split(metrics: Metrics) -> str:
    return f"{metrics['dataset']}, {metrics['split']}"


def _sources(metrics: Metrics) -> dict[str, Any] | None:
    """Of a cross-site protocol."""
    sources = metrics.get("sources")
    return sources and {"tables": source_tables(sources), "runs": _folds(sources["runs"], "Run")}


def _folds(folds: list[Metrics] | None, first: str = "Fold") -> Table | None:
    if not folds:
        return None
    names = [name for name in OF_FOLDS if any(name in fold for fold in folds)]
    rows = [
        Row(
            fold["fold"],
            (f"{fold['threshold']:.3g}", *(displayed(name, fold[name]) if name in fold else None for name in names)),
            f"n {fold['n']:,}",
        )
        for fold in folds
    ]
    rows.append(Row("mean", ("", *(_mean(name, folds) for name in names))))
    return Table(first, ("Threshold", *(NAMES[name][0] for name in names)), tuple(rows))


def _mean(name: str, folds: list[Metrics]) -> Metric:
    values = [fold[name]["value"] for fold in folds if name in fold and fold[name]["value"] is not None]
    return displayed(name, {"value": sum(values) / len(values) if values else None, "low": None, "high": None})


def _decision(metrics: Metrics) -> dict[str, Any]:
    counts = metrics["confusion"]["refer"]
    caption = "Counts, and their share of the row. Outlined: correct."
    return {
        "metrics": displayed_metrics(metrics, TABLES["decision"]),
        "confusion": counts
        and ConfusionMatrix(counts, ("negative", "positive"), ("not referred", "referred"), caption),
        "operating_points": _operating_points(metrics["operating_points"]),
    }


def _operating_points(points: Mapping[str, Metrics]) -> Table | None:
    if not points:
        return None
    names = list(next(iter(points.values())))
    rows = (
        Row(point.replace("_", " "), tuple(displayed(name, metrics[name]) for name in names))
        for point, metrics in points.items()
    )
    return Table("Operating point", tuple(NAMES[name][0] for name in names), tuple(rows))


def _action(metrics: Metrics) -> dict[str, Any] | None:
    """Of the deployed decision, which may be to retake the photograph."""
    if "retake_rate" not in metrics:
        return None
    caption = "Counts, and their share of the row."
    return {
        "metrics": displayed_metrics(metrics, TABLES["deployed"]),
        "confusion": ConfusionMatrix(
            metrics["confusion"]["action"], ("negative", "positive"), ACTIONS, caption, outlines_diagonal=False
        ),
        "retake_reasons": metrics["retake_reasons"],
        "warnings": metrics.get("warnings"),
    }


def _classes(predictions: Predictions, metrics: Metrics) -> dict[str, Any] | None:
    confusion = metrics["confusion"]
    section: dict[str, Any] = {
        "metrics": displayed_metrics(metrics, TABLES["classes"]),
        "confusion": None,
        "labels": None,
        "per_class": None,
    }
    if confusion.get("classes") == confusion["refer"]:  # two classes: the section on the decision shows them
        return section if section["metrics"] else None
    if "classes" in confusion:
        names = tuple(predictions.classes)
        caption = "Counts, and their share of the row. Outlined: correct."
        section["confusion"] = ConfusionMatrix(confusion["classes"], names, names, caption)
    if "labels" in confusion:
        section["labels"] = _label_counts(confusion["labels"])
    if section["confusion"] or section["labels"]:
        section["per_class"] = _per_class(metrics)
    return section if any(section.values()) else None


def _per_class(metrics: Metrics) -> Table | None:
    kinds = {kind: title for kind, title in PER_CLASS.items() if f"{kind}/{next(iter(metrics['classes']))}" in metrics}
    if not kinds:
        return None
    rows = (
        Row(
            class_name(name),
            tuple(displayed(f"{kind}/{name}", metrics[f"{kind}/{name}"]) for kind in kinds),
            count(n, metrics["unit"]),
        )
        for name, n in metrics["classes"].items()
    )
    return Table("Class", tuple(kinds.values()), tuple(rows))


def _label_counts(labels: Mapping[str, list[list[int]]]) -> Table:
    """Of multi-label classification: the confusion matrix of each label as a row."""
    rows = (
        Row(class_name(name), tuple(f"{n:,}" for n in (m[1][1], m[1][0], m[0][1], m[0][0])))
        for name, m in labels.items()
    )
    columns = ("True positives", "False negatives", "False positives", "True negatives")
    return Table("Label", columns, tuple(rows))


def _other_outputs(metrics: Metrics) -> list[dict[str, Any]]:
    """Of each output that does not decide and whose true classes are known."""
    sections = []
    for output, classes in metrics.get("other_outputs", {}).items():
        if counts := metrics["confusion"].get(output):
            names = ("joint_accuracy", f"{output}_auroc", f"{output}_accuracy", f"{output}_quadratic_kappa")
            classes = tuple(classes[: len(counts)])
            caption = "Counts, and their share of the row. Outlined: correct."
            sections.append({
                "title": output_name(output),
                "metrics": displayed_metrics(metrics, names),
                "confusion": ConfusionMatrix(counts, classes, classes, caption),
            })  # fmt: skip
    return sections


def _prediction_sets(metrics: Metrics) -> dict[str, Any] | None:
    """Of conformal prediction: the coverage that was aimed at, whether it is guaranteed, and the coverage here."""
    overall, conformal = displayed_metrics(metrics, TABLES["prediction_sets"]), metrics["conformal"]
    if not overall:
        return None
    section = {"metrics": overall, "target": None, "per_class": None}
    if not conformal:
        return section
    by_class = conformal["per_class"]
    per_class = zip(metrics["classes"], conformal["calibration_patients"], conformal["guaranteed"], strict=True)
    rows = (
        Row(
            class_name(name),
            (
                displayed(f"interval_coverage/{name}", metrics[f"interval_coverage/{name}"]),
                _guarantee(conformal["alpha"], patients, is_guaranteed) if by_class else f"{patients:,}",
            ),
        )
        for name, patients, is_guaranteed in per_class
    )
    columns = ("Coverage", "Guaranteed for this class?" if by_class else "Calibration patients")
    return section | {
        "target": 1 - conformal["alpha"],
        "no_guarantee": conformal["no_guarantee"],
        "is_external": bool(metrics.get("external")),
        "per_class": Table("Class", columns, tuple(rows), has_bars=True),
    }


def _guarantee(alpha: float, patients: int, is_guaranteed: bool) -> str:
    needed = math.ceil(1 / alpha - 1e-9) - 1
    reason = "" if patients >= needed else f", fewer than the {needed} that a guarantee requires"
    return f"{'yes' if is_guaranteed else 'no'}: {count(patients, 'calibration patient')}{reason}"


def _label_shift(metrics: Metrics) -> dict[str, Any] | None:
    """Of the correction for other class frequencies than those of the training data."""
    shifted = metrics["label_shift"]
    if not shifted:
        return None
    total = max(1, sum(metrics["classes"].values()))
    rows = (
        Row(class_name(name), (percent(shifted["class_prior"][name]), percent(n / total)))
        for name, n in metrics["classes"].items()
    )
    return {
        "method": shifted["method"].upper(),
        "transductive": shifted["transductive"],
        "frequencies": Table("Class frequency", ("Estimated", "True"), tuple(rows)),
        "table": _side_by_side({"Uncorrected": metrics, "Corrected": shifted}),
    }


def _subgroups(metrics: Metrics) -> dict[str, Any] | None:
    parts = metrics["subgroups"]
    if not parts:
        return None
    names = [name for name in OF_SUBGROUPS if any(name in part["metrics"] for part in parts)]
    rows = (
        Row(
            f"{part['subgroup']}: {part['value']}",
            tuple(_subgroup_metric(part, name) for name in names),
            f"n {part['n']:,}, {count(part['patients'], 'patient')}",
        )
        for part in parts
    )
    by_value = {(part["subgroup"], part["value"]): part for part in parts}
    worst = {name: by_value[tuple(key)] for name, key in metrics["worst_subgroups"].items() if key is not None}
    return {
        "worst": [
            {"metric": _subgroup_metric(part, name), "name": f"{part['subgroup']}: {part['value']}"}
            for name, part in worst.items()
        ],
        "table": Table("Subgroup", tuple(NAMES[name][0] for name in names), tuple(rows), has_bars=True),
    }


def _subgroup_metric(part: Metrics, name: str) -> Metric | None:
    if name not in part["metrics"]:
        return None
    verdict = part["verdicts"].get(name, {}).get("verdict", "")
    tag = "" if verdict.startswith("no difference") else verdict
    return displayed(name, part["metrics"][name], tag=tag, is_alarming=verdict == "lower")


def _test_copies(metrics: Metrics) -> dict[str, Any] | None:
    """Of the same evaluation without images that copy another one of the test split."""
    without = metrics.get("without_test_copies")
    if not without:
        return None
    table = _side_by_side({"Published split": metrics, "Without duplicates": without})
    return {"left_out": without["left_out"], "table": table}


def _methods(metrics: Metrics) -> list[str]:
    """How the confidence intervals on the page were computed, each method once."""
    entries = (entry for entry in metrics.values() if isinstance(entry, dict) and {"value", "method"} <= set(entry))
    return list(dict.fromkeys(entry["method"] for entry in entries))
