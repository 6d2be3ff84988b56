"""The scorecard as plain data for explanations.json, and as tables of text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.explain.scorecard.baselines import BASELINES
from dr_tf.explain.scorecard.confidence_intervals import METHOD, compare_means
from dr_tf.explain.scorecard.localization import THRESHOLDS
from dr_tf.explain.scorecard.scorecard import Scorecard, Scores
from dr_tf.explain.scorecard.scoring_data import ANY_LESION, SLOW_EXAMPLES

VERSION = 2  # of explanations.json
SYNTHETIC_ONLY = "synthetic only"
# Key of a localization score -> (title, format).
LOCALIZATION = {
    "pointing": ("pointing", ".2f"),
    "energy": ("energy", ".2f"),
    "iou": ("IoU", ".3f"),
    "average_precision": ("average precision", ".3f"),
}

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


def _compare(card: Scorecard, score: Callable[[Scores], np.ndarray], group: str, **options: bool) -> Any:
    values = {name: score(scores) for name, scores in card.scores.items()}
    return compare_means(values, card.patients[group], **options)


def _lesions(card, thresholds):
    """{lesion: {map: its scores}}, `ANY_LESION` first."""
    known = next(iter(card.scores.values())).pointing
    in_order = sorted(known, key=lambda lesion: (lesion != ANY_LESION, lesion))
    return {lesion: _scores_of_lesion(card, lesion, thresholds) for lesion in in_order}


def _scores_of_lesion(card, lesion, thresholds):
    index = {name: thresholds.get((name, lesion)) for name in card.scores}
    iou = {name: scores.iou[lesion][:, index[name]] for name, scores in card.scores.items() if index[name] is not None}
    pointing = _compare(card, lambda scores: scores.pointing[lesion], lesion, proportion=True)
    energy = _compare(card, lambda scores: scores.energy[lesion], lesion)
    average_precision = _compare(card, lambda scores: scores.average_precision[lesion], lesion)
    mean_iou = compare_means(iou, card.patients[lesion])
    return {
        name: {
            "n": len(card.patients[lesion]),
            "pointing": pointing[name],
            "energy": energy[name],
            "iou": mean_iou.get(name),
            "average_precision": average_precision[name],
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
    yield from _localization(summary)
    for title, group, lines in (_deletion_insertion(summary), _randomization(summary)):
        if lines:
            yield f"\n{title}"
            yield row("", "n", names)
            yield from (row(name, n[group] if group else number, cells) for name, number, cells in lines)


def _localization(summary: Mapping[str, Any]) -> Iterator[str]:
    """A table for each lesion type, with a line for each kind of map."""
    maps, remark = summary["maps"], f" ({summary['masks']})" if summary["masks"] else ""
    lesions = next(iter(maps.values()))["lesions"]
    if lesions:
        yield (
            f"\nLocalization of lesions{remark}, with 95 % confidence intervals. Pointing: share of images whose map has "
            "its maximum on a lesion; energy: the map's share on lesions (a uniform map scores 1); IoU; average precision "
            "of the pixels. Higher is better."
        )
    width = max(24, *map(len, maps))
    for lesion, scores in lesions.items():
        titles = "".join(f"  {title:22}" for title, _ in LOCALIZATION.values())
        heading = f"{lesion.replace('_', ' ')}, n {scores['n']}"
        yield f"\n{heading:{width}}{titles}".rstrip()
        for name, of_map in maps.items():
            cells = (_with_interval(of_map["lesions"][lesion][key], form) for key, (_, form) in LOCALIZATION.items())
            yield f"{name:{width}}{''.join(f'  {cell:22}' for cell in cells)}".rstrip()


def _with_interval(score, form):
    if not score or score["low"] is None:
        return _cell(score, form)
    return f"{_cell(score, form)} ({score['low']:{form}}-{score['high']:{form}})"


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
        f"down to this part (near 0 is good; slow methods on the first {SLOW_EXAMPLES})."
    )
    by_map = [scores["parameter_randomization"] for scores in summary["maps"].values()]
    lines = [
        (part, None, [f"{of_map[part]:+.2f}" if part in of_map else "" for of_map in by_map]) for part in by_map[0]
    ]
    return title, "parameter_randomization", lines


def _cell(score, form):
    """The mean score; a star if it is better than all baselines."""
    if not score:
        return "- "
    return f"{score['value']:{form}}{'*' if len(score['better_than']) == len(BASELINES) else ' '}"


def _row(title: str, n: object, cells: Sequence[str], *, width: int) -> str:
    return f"{title:24}{n:>4}" + "".join(f"  {cell:>{width}}" for cell in cells)
