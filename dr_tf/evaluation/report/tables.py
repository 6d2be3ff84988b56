"""Tables of figures with their intervals as bars, and confusion matrices. All of it HTML, so that it can be read aloud,
copied, and folded on a phone."""

from dr_tf.evaluation.report.display_names import (
    NAMES,
    OF_CLASSES,
    class_name,
    interval,
    number,
    on_the_unit_scale,
    text,
    title_of,
)


def bar(name, figure):
    """From 0 to 1, a line each quarter: the interval, and the value in it."""
    if not on_the_unit_scale(name) or figure["value"] is None:
        return ""
    value, low, high = (100 * min(max(figure[key] or 0, 0), 1) for key in ("value", "low", "high"))
    spread = f'<i style="left:{low:.2f}%;width:{high - low:.2f}%"></i>' if figure["low"] is not None else ""
    return f'<span class="bar" aria-hidden="true">{spread}<b style="left:{value:.2f}%"></b></span>'


def figure_table(metrics, names, caption):
    shown = [name for name in names if name in metrics]
    if not shown:
        return ""
    bars = any(bar(name, metrics[name]) for name in shown)
    rows = "".join(_figure_row(name, metrics[name], bars) for name in shown)
    titles = ("Figure", "Value", "95 % interval", *(["0 to 1"] if bars else []), "n", "Method")
    return plain_table(rows, titles, caption)


def plain_table(rows, titles, caption="", *, kind="fold"):
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in titles)
    caption = caption and f"<caption>{text(caption)}</caption>"
    return f'<table class="{kind}">{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _figure_row(name, figure, bars):
    title, meaning = title_of(name)
    meaning = "; ".join(part for part in (meaning, figure.get("note", "")) if part)
    drawn = f'<td class="wide">{bar(name, figure)}</td>' if bars else ""
    return (
        f'<tr><td class="name">{text(title)}<small>{text(meaning)}</small></td>'
        f'<td class="number"><strong>{number(name, figure["value"])}</strong></td>'
        f'<td class="number">{interval(name, figure)}</td>{drawn}'
        f'<td data-label="n">{figure["n"]:,}</td><td class="quiet">{text(short_method(figure["method"]))}</td></tr>'
    )


def short_method(method):
    return method.replace(": may be too narrow", "")


def point_table(metrics):
    """What the decision would be worth at each of the rule's operating points."""
    points = metrics.get("operating_points")
    if not points:
        return ""
    kinds = {name: NAMES[name][0] for name in next(iter(points.values()))}
    rows = "".join(
        f'<tr><td class="name">{text(point.replace("_", " "))}</td>{_cells(figures, kinds)}</tr>'
        for point, figures in points.items()
    )
    caption = (
        "The same probabilities, decided on at each of the run’s operating points, with 95 % intervals. A point is named "
        "by what it was set to hold on the calibration photographs, not by what it holds here."
    )
    return plain_table(rows, ("Operating point", *kinds.values()), caption, kind="fold dense")


def class_table(metrics):
    kinds = {kind: title for kind, title in OF_CLASSES.items() if f"{kind}/{next(iter(metrics['classes']))}" in metrics}
    if not kinds:
        return ""
    rows = "".join(
        f'<tr><td class="name">{text(class_name(name))}<small>{n:,} in truth</small></td>{_cells(metrics, _of_class(kinds, name))}</tr>'
        for name, n in metrics["classes"].items()
    )
    caption = (
        "Each class against the rest, with 95 % intervals. Recall is of those that have the class, precision of those that "
        "were given it, AP the average precision."
    )
    return plain_table(rows, ("Class", *kinds.values()), caption, kind="fold dense")


def _of_class(kinds, name):
    return {f"{kind}/{name}": title for kind, title in kinds.items()}


def _cells(metrics, titles):
    cells = ""
    for key, title in titles.items():
        cells += (
            f'<td data-label="{title}">{number(key, metrics[key]["value"])}'
            f"<small>{interval(key, metrics[key])}</small></td>"
        )
    return cells


def confusion_table(matrix, names, caption, *, decided=None, right=True):
    """A cell's colour is its share of the truth's row. On a phone many columns are headed by the class's number.

    `right`: whether the cells of the diagonal are the right ones.
    """
    many = len(names) > 3
    short = [f'<span class="short">{i} </span>' if many else "" for i in range(max(len(names), len(decided or names)))]
    long = '<span class="long">' if many else "<span>"
    titles = zip(short, decided or names, strict=False)
    head = "".join(f'<th scope="col">{number}{long}{text(name)}</span></th>' for number, name in titles)
    rows = ""
    for i, (name, row) in enumerate(zip(names, matrix, strict=True)):
        total = sum(row)
        cells = "".join(_cell(n, n / total if total else 0, right=right and i == j) for j, n in enumerate(row))
        rows += f'<tr><th scope="row">{short[i]}{text(name)}<br>{total:,}</th>{cells}</tr>'
    return (
        f'<div class="scroll"><table class="confusion"><caption>{text(caption)}</caption><thead><tr><th>CalibrationLabels ↓ '
        f"&nbsp; Decided →</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(n, share, *, right):
    shade = f"background:rgba(20,89,127,{0.04 + 0.86 * share:.2f});color:{'#fff' if share > 0.5 else '#1c2430'}"
    percent = f"<small>{100 * share:.0f} %</small>" if n else ""
    return f'<td style="{shade}"{" class=right" if right else ""}>{n:,}{percent}</td>'


def label_table(labels):
    """Of several labels: what was found, missed and wrongly given of each."""
    rows = "".join(
        f'<tr><td class="name">{text(class_name(name))}</td><td data-label="found">{m[1][1]:,}</td><td data-label="missed">{m[1][0]:,}'
        f'</td><td data-label="wrongly given">{m[0][1]:,}</td><td data-label="rightly not">{m[0][0]:,}</td></tr>'
        for name, m in labels.items()
    )
    return plain_table(rows, ("Label", "Found", "Missed", "Wrongly given", "Rightly not"), kind="fold dense")


def slice_table(subgroups, figures):
    """A row a slice; bars and verdicts of the `figures` that were judged."""
    shown = [name for name in figures if any(name in part["metrics"] for part in subgroups)]
    rows = "".join(
        f'<tr><td class="name">{text(part["subgroup"])}: {text(part["value"])}<small>n {part["n"]:,}, '
        f"{part['patients']:,} patients</small></td>{''.join(_slice_cell(part, name) for name in shown)}</tr>"
        for part in subgroups
    )
    return plain_table(rows, ("Slice", *(NAMES[name][0] for name in shown)), kind="fold dense")


def _slice_cell(part, name):
    figure, verdict = part["metrics"].get(name), part["verdicts"].get(name, {}).get("verdict", "")
    if figure is None:
        return "<td></td>"
    tag = (
        f'<span class="tag {verdict.split()[0]}">{verdict}</span>' if verdict not in ("", "no difference seen") else ""
    )
    return (
        f'<td data-label="{NAMES[name][0]}">{number(name, figure["value"])} {tag}'
        f"<small>{interval(name, figure)}</small>{bar(name, figure)}</td>"
    )
