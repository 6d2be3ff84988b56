"""The same figures of several sets of photographs, side by side."""

from dr_tf.evaluation.report.display_names import (
    NAMES,
    OF_FOLDS,
    SIDE_BY_SIDE,
    class_name,
    count,
    interval,
    number,
    text,
)
from dr_tf.evaluation.report.tables import bar, plain_table


def external_section(metrics):
    """Of another data set than the run's own: the audit, and the run's own test split beside."""
    if not (external := metrics.get("external")):
        return ""
    told = (
        "<p>The network, its calibration and its threshold are the run’s, made without these photographs; the truth is told "
        "from this set’s labels by the run’s own definition of positive.</p>"
    )
    told += f"<p>{text(_audit(external['audit']))} {text(_prior(metrics))}</p>"
    if not (own := external["own_test"]):
        return told + (
            "<p>The run’s own test split would stand beside this set, but no evaluation of it by this decision is in the run "
            "yet: evaluate the run without --dataset first, which is a look at its test split, then this set again.</p>"
        )
    about = "The run’s own test split, as it was evaluated, and this set. Intervals are 95 %."
    return told + side_table({_title(own): own | own["metrics"], _title(metrics): metrics}, about)


def _audit(audit):
    if audit is None:
        return "Whether this set shares photographs with those that the run was fitted on was not audited."
    if not audit["shared"]:
        return (
            f"The leak audit found no photograph of this set among those of {audit['of']} that the run was fitted on."
        )
    shared = count(audit["shared"], "photograph")
    return f"The leak audit found {shared} of this set among those of {audit['of']} that the run was fitted on; none is counted."


def _prior(metrics):
    """Probabilities are of the mix that they were made for."""
    known = metrics["positives"] + metrics["negatives"]
    share = metrics["external"]["prior_prevalence"]
    if share is None or not known:
        return ""
    here = metrics["positives"] / known
    return (
        f"Its probabilities were made for a mix in which {100 * share:.0f} % are positive; here {100 * here:.0f} % are."
    )


def _title(side):
    return f"{side['dataset']}, {side['split']}"


def shifted_section(metrics):
    """Figures after a correction for the mix of classes, beside those before, and what has to be said of them."""
    if not (shifted := metrics["label_shift"]):
        return ""
    told = (
        f"<p>Corrected by {text(shifted['method'].upper())}; {text(shifted['transductive'])}. It takes for granted that "
        "photographs of a class look alike here and where the run was fitted: where the estimated mix is far from the true "
        "one, they do not.</p>"
    )
    total = max(1, sum(metrics["classes"].values()))
    rows = "".join(
        f'<tr><td class="name">{text(class_name(name))}</td><td data-label="Estimated">{100 * shifted["class_prior"][name]:.1f} %</td>'
        f'<td data-label="In truth">{100 * n / total:.1f} %</td></tr>'
        for name, n in metrics["classes"].items()
    )
    mixes = plain_table(rows, ("Share of", "Estimated", "In truth"), kind="fold dense")
    return told + mixes + side_table({"As decided": _figures(metrics), "Corrected": shifted}, "")


def _figures(metrics):
    return {name: figure for name, figure in metrics.items() if name in SIDE_BY_SIDE}


def copies_section(metrics):
    """The figures again, without photographs that copy another one of the published test split."""
    if not (without := metrics.get("without_test_copies")):
        return ""
    copies = count(without["left_out"], "photograph")
    told = f"<p>{copies} of this published split {'is a copy' if without['left_out'] == 1 else 'are copies'} of another.</p>"
    return told + side_table({"As published": metrics, "Without copies": without}, "")


def side_table(sides, caption):
    """`sides`: title -> figures by name, and n, positives and negatives, which are shown where all sides have them."""
    titles = list(sides)
    rows = ""
    if all("n" in side for side in sides.values()):
        rows += _counted("Photographs", titles, [f"{side['n']:,}" for side in sides.values()])
    if all("positives" in side for side in sides.values()):
        rows += _counted("Positive", titles, [_positives(side) for side in sides.values()])
    shown = [name for name in SIDE_BY_SIDE if any(name in side for side in sides.values())]
    for name in shown:
        cells = "".join(_cell(title, name, side.get(name)) for title, side in sides.items())
        title, meaning = NAMES[name]
        rows += f'<tr><td class="name">{text(title)}<small>{text(meaning)}</small></td>{cells}</tr>'
    return plain_table(rows, ("Figure", *titles), caption, kind="fold dense")


def _positives(side):
    known = side["positives"] + side["negatives"]
    return f"{side['positives']:,} of {known:,}" + (f" ({100 * side['positives'] / known:.0f} %)" if known else "")


def _counted(what, titles, values):
    cells = "".join(f'<td data-label="{text(t)}">{v}</td>' for t, v in zip(titles, values, strict=True))
    return f'<tr><td class="name">{what}</td>{cells}</tr>'


def _cell(title, name, figure):
    if figure is None:
        return f'<td data-label="{text(title)}">–</td>'
    return (
        f'<td data-label="{text(title)}">{number(name, figure["value"])}<small>{interval(name, figure)}</small>'
        f"{bar(name, figure)}</td>"
    )


def folds_section(metrics):
    if not (folds := metrics.get("folds")):
        return ""
    told = (
        "<p>Each fold was held out from one network, and nothing of it was seen by the rule that judged it. The figures of "
        "this page are of all folds together; where their AUROC is well below that of the folds, the networks’ probabilities "
        "are not of one scale. Intervals count the luck of who was photographed, not that of training once more.</p>"
    )
    shown = [name for name in OF_FOLDS if any(name in fold for fold in folds)]
    rows = "".join(_fold_row(fold, shown) for fold in folds) + _mean_row(folds, shown)
    titles = ("Fold", "Threshold", *(NAMES[name][0] for name in shown))
    return told + plain_table(rows, titles, kind="fold dense")


def _mean_row(folds, shown):
    cells = ""
    for name in shown:
        values = [fold[name]["value"] for fold in folds if name in fold and fold[name]["value"] is not None]
        cells += f'<td data-label="{NAMES[name][0]}">{number(name, sum(values) / len(values) if values else None)}</td>'
    return f'<tr><td class="name">mean of folds</td><td></td>{cells}</tr>'


def _fold_row(fold, shown):
    cells = "".join(
        f'<td data-label="{NAMES[name][0]}">{number(name, fold[name]["value"])}<small>{interval(name, fold[name])}</small></td>'
        for name in shown
    )
    return (
        f'<tr><td class="name">{text(fold["fold"])}<small>n {fold["n"]:,}</small></td>'
        f'<td data-label="Threshold">{fold["threshold"]:.3g}</td>{cells}</tr>'
    )
