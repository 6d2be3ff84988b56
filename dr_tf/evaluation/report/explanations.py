"""Prepare the report's scorecard of class-activation maps: lesion masks, deletion and insertion, and randomization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dr_tf.evaluation.report.display_names import positive
from dr_tf.explain.scorecard.baselines import BASELINES
from dr_tf.rendering import Metric, Row, Table

Scores = Mapping[str, Any]


def scorecard_section(scorecard: Scores | None) -> dict[str, Any] | None:
    """Prepare the section on how far the class-activation maps may be trusted.

    Args:
        scorecard: What `evaluation.explanations.score_explanations` returned; None where no maps were scored.
    """
    if not scorecard:
        return None
    maps, n = scorecard["maps"], scorecard["photographs"]
    return {
        "positive": positive(scorecard["positive"]),
        "unit": scorecard["unit"],
        "method": scorecard["method"],
        "warning": scorecard["masks"],
        "split": scorecard["split"],
        "iou_threshold_split": scorecard["iou_threshold_split"],
        "iou_threshold_overlap": scorecard["iou_threshold_overlap"],
        "n_positive": n["positive"],
        "n_randomized": n["parameter_randomization"],
        "localization": _by_lesion(maps),
        "faithfulness": _faithfulness(maps) if n["positive"] else None,
        "randomization": _randomization(maps),
    }


def _map_row(name: str, cells: tuple[Metric | str | None, ...]) -> Row:
    return Row(name, cells, "baseline: independent of the network" if name in BASELINES else "")


# Key -> (title, digits).
_LOCALIZATION = {
    "pointing": ("Pointing", 2),
    "energy": ("Energy", 2),
    "iou": ("IoU", 3),
    "average_precision": ("Average precision", 3),
}


def _localization(maps: Scores, lesion: str) -> Table:
    rows = (
        _map_row(
            name,
            tuple(
                _score(title, entry["lesions"][lesion][key], digits) for key, (title, digits) in _LOCALIZATION.items()
            ),
        )
        for name, entry in maps.items()
    )
    return Table("Map", tuple(title for title, _ in _LOCALIZATION.values()), tuple(rows))


def _by_lesion(maps: Scores) -> list[tuple[str, Table]]:
    """The table of each lesion type with its heading, any lesion first."""
    lesions = next(iter(maps.values()))["lesions"]
    return [
        (f"{lesion.replace('_', ' ').capitalize()}, n {scores['n']:,}.", _localization(maps, lesion))
        for lesion, scores in lesions.items()
    ]


def _score(title: str, score: Scores | None, digits: int) -> Metric | None:
    if score is None:
        return None
    better = score["better_than"]
    than = "both baselines" if len(better) == len(BASELINES) else better[0] if better else ""
    remark = f"better than {than}" if than else ""
    return Metric(title, score["value"], score["low"], score["high"], digits=digits, remark=remark)


def _faithfulness(maps: Scores) -> Table:
    rows = (
        _map_row(name, tuple(_score(key.capitalize(), entry[key], 3) for key in ("deletion", "insertion")))
        for name, entry in maps.items()
    )
    return Table("Map", ("Deletion", "Insertion"), tuple(rows))


def _randomization(maps: Scores) -> Table:
    correlations = [entry["parameter_randomization"] for entry in maps.values()]
    rows = (
        Row(stage, tuple(f"{each[stage]:+.2f}".replace("-", "−") if stage in each else "" for each in correlations))
        for stage in correlations[0]
    )
    return Table("Randomized down to", tuple(maps), tuple(rows))
