"""A scorecard as figures, and as tables for people."""

import functools

import numpy as np

from dr_tf.explain.scorecard.baselines import BASELINES
from dr_tf.explain.scorecard.confidence_intervals import METHOD, figures
from dr_tf.explain.scorecard.localization import THRESHOLDS
from dr_tf.explain.scorecard.scorecard import ANY_LESION

SYNTHETIC_ONLY = "synthetic only"


def summarize(card, thresholds):
    """Means as plain data; `thresholds` are the chosen ones of a validation split, which may lack a lesion."""
    lesions = _lesions(card, thresholds)
    said = {what: _figures(card, what, "positive", higher=what == "insertion") for what in ("deletion", "insertion")}
    randomized = {name: {part: _mean(each) for part, each in of.randomized.items()} for name, of in card.scores.items()}
    return {
        "dataset": card.dataset,
        "positive": card.target,
        "unit": card.unit,
        "masks": SYNTHETIC_ONLY if card.synthetic else "",
        "photographs": {name: len(rows) for name, rows in card.rows.items()},
        "method": METHOD,
        "maps": {
            name: {"lesions": {lesion: of[name] for lesion, of in lesions.items()}}
            | {what: of[name] for what, of in said.items()}
            | {"parameter_randomization": randomized[name]}
            for name in card.scores
        },
    }


def _figures(card, what, group, *, higher=True):
    return figures({name: getattr(of, what) for name, of in card.scores.items()}, card.patients[group], higher=higher)


def _lesions(card, thresholds):
    """{lesion: {map: its figures}}, any of them first."""
    known = next(iter(card.scores.values())).pointing
    return {lesion: _lesion(card, lesion, thresholds) for lesion in sorted(known, key=lambda name: (name != ANY_LESION, name))}


def _lesion(card, lesion, thresholds):
    patients, scores = card.patients[lesion], card.scores
    cut = {name: thresholds.get((name, lesion)) for name in scores}
    overlap = {name: of.overlaps[lesion][:, cut[name]] for name, of in scores.items() if cut[name] is not None}
    each = {what: figures({name: getattr(of, what)[lesion] for name, of in scores.items()}, patients)
            for what in ("pointing", "energy")} | {"iou": figures(overlap, patients)}  # fmt: skip
    return {
        name: {"n": len(patients)}
        | {what: of.get(name) for what, of in each.items()}
        | {"threshold": None if cut[name] is None else float(THRESHOLDS[cut[name]])}
        for name in scores
    }


def _mean(values):
    return float(np.mean(values)) if len(values) else None


def format_value(figure, form):
    """A star says that it is better than every floor."""
    return f"{figure['value']:{form}}{'*' if len(figure['better_than']) == len(BASELINES) else ' '}" if figure else "- "


def tables(found):
    """Lines of text."""
    names, n = list(found["maps"]), found["photographs"]
    row = functools.partial(_row, width=max(20, *map(len, names)))
    yield f"Maps of what speaks for {found['positive']}, on {found['dataset']}. *: better than both baselines ({METHOD})."
    for title, count, lines in (_against_masks(found), _what_it_says(found), _after_shuffling(found)):
        if lines:
            yield f"\n{title}"
            yield row("", "n", names)
            yield from (row(name, n[count] if count else of_line, cells) for name, of_line, cells in lines)


def _against_masks(found):
    """(title, whose number stands in every line or None, [(name, number, cells)])."""
    only = f" ({found['masks']})" if found["masks"] else ""
    title = f"Against lesion masks{only}: pointing game; energy as a multiple of the lesions' area; IoU."
    maps = list(found["maps"].values())
    lesions = {lesion: [of["lesions"][lesion] for of in maps] for lesion in maps[0]["lesions"]}
    return title, None, [(lesion, each[0]["n"], [_triple(of) for of in each]) for lesion, each in lesions.items()]


def _what_it_says(found):
    title = "What the network says: deletion (lower is better), insertion (higher is better)."
    maps = list(found["maps"].values())
    if maps[0]["deletion"] is None:
        return title, "positive", []
    return (
        title,
        "positive",
        [(what, None, [format_value(of[what], ".3f") for of in maps]) for what in ("deletion", "insertion")],
    )


def _after_shuffling(found):
    title = "Likeness to the map before, once weights are shuffled from the head down to here (near 0 is right)."
    each = [of["parameter_randomization"] for of in found["maps"].values()]
    lines = [(part, None, [f"{of[part]:+.2f}" if part in of else "" for of in each]) for part in each[0]]
    return title, "parameter_randomization", lines


def _triple(of):
    return " ".join(
        f"{format_value(of[what], form):>6}" for what, form in (("pointing", ".2f"), ("energy", ".2f"), ("iou", ".3f"))
    )


def _row(title, n, cells, *, width):
    return f"{title:24}{n:>4}" + "".join(f"  {cell:>{width}}" for cell in cells)
