"""The report's section on the explanations: how class activation maps score against lesion masks, deletion and baselines."""

from dr_tf.evaluation.report.display_names import count, positive, text
from dr_tf.evaluation.report.tables import plain_table
from dr_tf.explain.scorecard.baselines import BASELINES
from dr_tf.explain.scorecard.scorecard import ANY_LESION
from dr_tf.explain.scorecard.tables import format_value


def reasons_section(figures):
    """`figures`: what `explaining.explanations` gave, or None."""
    if not figures:
        return ""
    n = figures["photographs"]
    told = (
        f"<p>Maps of what speaks for {text(positive(figures['positive']))}, beside two that know nothing of the network: a "
        f"method that is no better than these baselines shows nothing. Below each figure its 95 % interval ({figures['method']}), "
        "and which floor it is better than, on the same draws.</p>"
    )
    if figures["unit"] == "patient":
        told += "<p>Each eye is held against its own masks; all else is of both eyes of a patient together.</p>"
    return told + _against_masks(figures, n["masks"]) + _what_it_says(figures, n) + _after_shuffling(figures, n)


def _against_masks(figures, n):
    if not n:
        return "<p>This set has no lesion masks that maps could be held against.</p>"
    only = f" <span class='tag lower'>{figures['masks']}</span>" if figures["masks"] else ""
    told = (
        f"<h3>Against lesion masks{only}</h3><p>Pointing: the map’s strongest place lies on a lesion. Energy: how many times "
        f"more of the map lies on lesions than their area would have it. IoU: overlap where the map is cut at {_cut(figures)}. "
        "Higher is better.</p>"
    )
    whole = {name: of["lesions"][ANY_LESION] for name, of in figures["maps"].items()}
    rows = "".join(_row(name, _cells(lesion)) for name, lesion in whole.items())
    titles = ("Map", "Pointing", "Energy", "IoU")
    return told + plain_table(rows, titles, f"Any lesion, {count(n, 'photograph')}.") + _by_lesion(figures)


def _cut(figures):
    if figures["iou_threshold_split"] is None:
        return "a threshold, which no validation split was there to choose"
    same = " (these very photographs, which flatters it)" if figures["iou_threshold_split"] == figures["split"] else ""
    return f"the threshold that was best on the {figures['thresholds_of']} split{same}"


def _cells(lesion):
    forms = {"Pointing": ".2f", "Energy": ".2f", "IoU": ".3f"}
    return {title: _cell(lesion[title.lower()], form) for title, form in forms.items()}


def _cell(figure, form):
    if figure is None:
        return "–"
    known, better = figure["low"] is not None, figure["better_than"]
    told = [f"{figure['low']:{form}} – {figure['high']:{form}}"] if known else []
    told += [f"better than {'both baselines' if len(better) == len(BASELINES) else better[0]}"] if better else []
    return f"{figure['value']:{form}}<small>{'<br>'.join(told)}</small>"


def _by_lesion(figures):
    maps = figures["maps"]
    lesions = [lesion for lesion in next(iter(maps.values()))["lesions"] if lesion != ANY_LESION]
    if not lesions:
        return ""
    rows = "".join(
        _row(lesion.replace("_", " "), {name: _in_short(of["lesions"][lesion]) for name, of in maps.items()},
             said=f"n {next(iter(maps.values()))['lesions'][lesion]['n']}")
        for lesion in lesions
    )  # fmt: skip
    return plain_table(
        rows,
        ("Lesion", *maps),
        "By lesion: pointing · energy · IoU. A star: better than both baselines.",
        kind="fold dense",
    )


def _in_short(lesion):
    return " · ".join(
        format_value(lesion[what], form).strip() for what, form in (("pointing", ".2f"), ("energy", ".2f"), ("iou", ".3f"))
    )


def _what_it_says(figures, n):
    unit = figures["unit"]
    if not n["positive"]:
        return (
            f"<p>The network calls none of the {unit}s positive, so nothing can be taken from them or given back.</p>"
        )
    told = (
        "<h3>By what the network says</h3><p>The mean probability as the map’s strongest places are blurred away first "
        "(deletion: lower is better), or come back first (insertion: higher is better).</p>"
    )
    rows = "".join(
        _row(name, {what.capitalize(): _cell(of[what], ".3f") for what in ("deletion", "insertion")})
        for name, of in figures["maps"].items()
    )
    caption = f"{count(n['positive'], unit)} that the network calls positive."
    return told + plain_table(rows, ("Map", "Deletion", "Insertion"), caption)


def _after_shuffling(figures, n):
    told = (
        "<h3>If the network forgets</h3><p>Likeness (rank correlation) to the map before, once weights are shuffled from the "
        "head down to the named stage. Near 0 is right: a map that stays the same did not come from what was learned.</p>"
    )
    maps = {name: of["parameter_randomization"] for name, of in figures["maps"].items()}
    parts = next(iter(maps.values()))
    rows = "".join(
        _row(part, {name: f"{of[part]:+.2f}" if part in of else "" for name, of in maps.items()}) for part in parts
    )
    caption = f"{count(n['forgetting'], figures['unit'])}."
    return told + plain_table(rows, ("Shuffled down to", *maps), caption, kind="fold dense")


def _row(name, cells, *, said=None):
    said = said or ("floor: knows nothing of the network" if name in BASELINES else "")
    found = "".join(f'<td data-label="{text(title)}">{cell}</td>' for title, cell in cells.items())
    return f'<tr><td class="name">{text(name)}<small>{said}</small></td>{found}</tr>'
