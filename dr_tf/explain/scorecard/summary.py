"""A scorecard as figures, and as tables for people."""

import numpy as np

from dr_tf.explain.scorecard.card import ANY
from dr_tf.explain.scorecard.localization import THRESHOLDS

SYNTHETIC_ONLY = "synthetic only"


def chosen_thresholds(card):
    """{(maps, lesion): number of the threshold} at which they overlap most: to be taken from validation, for test."""
    return {
        (name, lesion): int(values.mean(axis=0).argmax())
        for name, scores in card.scores.items()
        for lesion, values in scores.overlaps.items()
    }


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
    names = list(figures["maps"])
    n, only = figures["photographs"], f" ({figures['masks']})" if figures["masks"] else ""
    yield f"Maps of what speaks for {figures['positive']}, on {figures['dataset']}."
    first = figures["maps"][names[0]]
    if first["lesions"]:
        yield f"\nAgainst lesion masks{only}: pointing game; energy as a multiple of the lesions' area; IoU."
        yield _row("", "n", names)
        for lesion, of in first["lesions"].items():
            shown = [_triple(figures["maps"][name]["lesions"][lesion]) for name in names]
            yield _row(lesion, of["n"], shown)
    if first["deletion"] is not None:
        yield "\nWhat the network says: deletion (lower is better), insertion (higher is better)."
        yield _row("", "n", names)
        for what in ("deletion", "insertion"):
            yield _row(what, n["positive"], [f"{figures['maps'][name][what]:.3f}" for name in names])
    yield "\nLikeness to the map before, once weights are shuffled from the head down to here (lower is better)."
    yield _row("", "n", names)
    for part in first["randomized"]:
        shown = [figures["maps"][name]["randomized"].get(part) for name in names]
        yield _row(part, n["forgetting"], ["" if value is None else f"{value:+.2f}" for value in shown])


def _triple(of):
    iou = "   - " if of["iou"] is None else f"{of['iou']:.3f}"
    return f"{of['pointing']:.2f} {of['energy']:5.2f} {iou}"


def _row(title, n, cells):
    return f"{title:24}{n:>4}" + "".join(f"  {cell:>18}" for cell in cells)
