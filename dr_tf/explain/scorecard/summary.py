"""A scorecard as figures, and as tables for people."""

import functools

import numpy as np

from dr_tf.explain.scorecard.card import ANY
from dr_tf.explain.scorecard.localization import THRESHOLDS

SYNTHETIC_ONLY = "synthetic only"


def summary(card, thresholds):
    """Means as plain data; `thresholds` are the chosen ones of a validation split, which may lack a lesion."""
    return {
        "dataset": card.dataset,
        "positive": card.target,
        "masks": SYNTHETIC_ONLY if card.synthetic else "",
        "photographs": {name: len(rows) for name, rows in card.rows.items()},
        "maps": {name: _of(name, scores, thresholds) for name, scores in card.scores.items()},
    }


def _of(name, scores, thresholds):
    lesions = sorted(scores.pointing, key=lambda lesion: (lesion != ANY, lesion))
    return {
        "lesions": {lesion: _lesion(scores, lesion, thresholds.get((name, lesion))) for lesion in lesions},
        "deletion": _mean(scores.deletion),
        "insertion": _mean(scores.insertion),
        "randomized": {part: _mean(values) for part, values in scores.randomized.items()},
    }


def _lesion(scores, lesion, threshold):
    return {
        "n": len(scores.pointing[lesion]),
        "pointing": _mean(scores.pointing[lesion]),
        "energy": _mean(scores.energy[lesion]),
        "iou": None if threshold is None else _mean(scores.overlaps[lesion][:, threshold]),
        "threshold": None if threshold is None else float(THRESHOLDS[threshold]),
    }


def _mean(values):
    return float(np.mean(values)) if len(values) else None


def tables(figures):
    """Lines of text."""
    names, n = list(figures["maps"]), figures["photographs"]
    row = functools.partial(_row, width=max(18, *map(len, names)))
    yield f"Maps of what speaks for {figures['positive']}, on {figures['dataset']}."
    for title, count, lines in (_against_masks(figures), _what_it_says(figures), _after_shuffling(figures)):
        if lines:
            yield f"\n{title}"
            yield row("", "n", names)
            yield from (row(name, n[count] if count else of_line, cells) for name, of_line, cells in lines)


def _against_masks(figures):
    """(title, whose number stands in every line or None, [(name, number, cells)])."""
    only = f" ({figures['masks']})" if figures["masks"] else ""
    title = f"Against lesion masks{only}: pointing game; energy as a multiple of the lesions' area; IoU."
    maps = list(figures["maps"].values())
    lesions = {lesion: [of["lesions"][lesion] for of in maps] for lesion in maps[0]["lesions"]}
    return title, None, [(lesion, each[0]["n"], [_triple(of) for of in each]) for lesion, each in lesions.items()]


def _what_it_says(figures):
    title = "What the network says: deletion (lower is better), insertion (higher is better)."
    maps = list(figures["maps"].values())
    if maps[0]["deletion"] is None:
        return title, "positive", []
    return title, "positive", [(what, None, [f"{of[what]:.3f}" for of in maps]) for what in ("deletion", "insertion")]


def _after_shuffling(figures):
    title = "Likeness to the map before, once weights are shuffled from the head down to here (near 0 is right)."
    each = [of["randomized"] for of in figures["maps"].values()]
    lines = [(part, None, [f"{of[part]:+.2f}" if part in of else "" for of in each]) for part in each[0]]
    return title, "forgetting", lines


def _triple(of):
    iou = f"{'-':>5}" if of["iou"] is None else f"{of['iou']:.3f}"
    return f"{of['pointing']:.2f} {of['energy']:5.2f} {iou}"


def _row(title, n, cells, *, width):
    return f"{title:24}{n:>4}" + "".join(f"  {cell:>{width}}" for cell in cells)
