"""The scorecard as plain data for explanations.json, and as tables of text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.explain.scorecard.baselines import BASELINES
from dr_tf.explain.scorecard.confidence_intervals import METHOD, compare_means
from dr_tf.explain.scorecard.localization import THRESHOLDS
from dr_tf.explain.scorecard.scorecard import ANY_LESION, Scorecard, Scores

VERSION = 2  # of explanations.json
SYNTHETIC_ONLY = "synthetic only"

# (title, the group of examples or None if each line has its own number, [(name, number, cells)]).
_Table = tuple[str, str | None, Sequence[tuple[str, int | None, list[str]]]]


def summarize(card: Scorecard, thresholds: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """Summarize a scorecard as plain data: mean scores with confidence intervals.

    Args:
        card: The scorecard.
        thresholds: The thresholds of the IoU, as `choose_thresholds` returns them. Lesions that the validation split
            lacks have none, and no IoU.
    """
    lesions = _lesions(card, thresholds)
    deletion = _compare(card, lambda scores: scores.deletion, "positive", higher_is_better=False)
    insertion = _compare(card, lambda scores: scores.insertion, "positive")
    return {
        "version": VERSION,
        "dataset": card.dataset,
        "positive": card.positive,
        "unit": card.unit,
        "masks": SYNTHETIC_ONLY if card.is_synthetic else "",
        "photographs": {name: len(rows) for name, rows in card.rows.items()},
        "method": METHOD,
        "baselines": list(BASELINES),
        "maps": {
            name: {
                "lesions": {lesion: by_map[name] for lesion, by_map in lesions.items()},
                "deletion": deletion[name],
                "insertion": insertion[name],
                "parameter_randomization": {
                    part: _mean(correlations) for part, correlations in scores.parameter_randomization.items()
                },
            }
            for name, scores in card.scores.items()
        },
    }


def _compare(
    card: Scorecard, score: Callable[[Scores], np.ndarray], group: str, *, higher_is_better: bool = True
) -> Any:
    values = {name: score(scores) for name, scores in card.scores.items()}
    return compare_means(values, card.patients[group], higher_is_better=higher_is_better)


def _lesions(card, thresholds):
    """{lesion: {map: its scores}}, `ANY_LESION` first."""
    known = next(iter(card.scores.values())).pointing
    in_order = sorted(known, key=lambda lesion: (lesion != ANY_LESION, lesion))
    return {lesion: _scores_of_lesion(card, lesion, thresholds) for lesion in in_order}


def _scores_of_lesion(card, lesion, thresholds):
    index = {name: thresholds.get((name, lesion)) for name in card.scores}
    iou = {name: scores.iou[lesion][:, index[name]] for name, scores in card.scores.items() if index[name] is not None}
    pointing = _compare(card, lambda scores: scores.pointing[lesion], lesion)
    energy = _compare(card, lambda scores: scores.energy[lesion], lesion)
    mean_iou = compare_means(iou, card.patients[lesion])
    return {
        name: {
            "n": len(card.patients[lesion]),
            "pointing": pointing[name],
            "energy": energy[name],
            "iou": mean_iou.get(name),
            "threshold": None if index[name] is None else float(THRESHOLDS[index[name]]),
        }
        for name in card.scores
    }


def _mean(values):
    return float(np.mean(values)) if len(values) else None


def tables(summary: Mapping[str, Any]) -> Iterator[str]:
    """Format a summary as tables.

    Args:
        summary: What `summarize` returned.

    Yields:
        Lines of text.
    """
    names, n = list(summary["maps"]), summary["photographs"]
    row = functools.partial(_row, width=max(20, *map(len, names)))
    yield (
        f"Class-activation maps of {summary['positive']}, on {summary['dataset']}. *: better than both baselines "
        f"({summary['method']})."
    )
    for title, group, lines in (_localization(summary), _deletion_insertion(summary), _randomization(summary)):
        if lines:
            yield f"\n{title}"
            yield row("", "n", names)
            yield from (row(name, n[group] if group else number, cells) for name, number, cells in lines)


def _localization(summary: Mapping[str, Any]) -> _Table:
    remark = f" ({summary['masks']})" if summary["masks"] else ""
    title = (
        f"Localization of lesions{remark}: pointing game; energy-based pointing game (a uniform map scores 1); "
        "IoU with the lesion masks. Higher is better."
    )
    maps = list(summary["maps"].values())
    by_lesion = {lesion: [scores["lesions"][lesion] for scores in maps] for lesion in maps[0]["lesions"]}
    lines = [
        (lesion, scores[0]["n"], [_lesion_cell(of_map) for of_map in scores]) for lesion, scores in by_lesion.items()
    ]
    return title, None, lines


def _deletion_insertion(summary: Mapping[str, Any]) -> _Table:
    title = (
        "Area under the curve of the predicted probability: deletion (lower is better), insertion (higher is better)."
    )
    maps = list(summary["maps"].values())
    if maps[0]["deletion"] is None:
        return title, "positive", []
    lines = [(name, None, [_cell(scores[name], ".3f") for scores in maps]) for name in ("deletion", "insertion")]
    return title, "positive", lines


def _randomization(summary: Mapping[str, Any]) -> _Table:
    title = (
        "Parameter randomization: rank correlation with the original map, after weights are randomized from the head "
        "down to this part (near 0 is good)."
    )
    by_map = [scores["parameter_randomization"] for scores in summary["maps"].values()]
    lines = [
        (part, None, [f"{of_map[part]:+.2f}" if part in of_map else "" for of_map in by_map]) for part in by_map[0]
    ]
    return title, "parameter_randomization", lines


def _lesion_cell(scores):
    formats = (("pointing", ".2f"), ("energy", ".2f"), ("iou", ".3f"))
    return " ".join(f"{_cell(scores[name], form):>6}" for name, form in formats)


def _cell(score, form):
    """The mean score; a star if it is better than all baselines."""
    if not score:
        return "- "
    return f"{score['value']:{form}}{'*' if len(score['better_than']) == len(BASELINES) else ' '}"


def _row(title: str, n: object, cells: Sequence[str], *, width: int) -> str:
    return f"{title:24}{n:>4}" + "".join(f"  {cell:>{width}}" for cell in cells)
