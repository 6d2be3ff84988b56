"""The page itself: sections in the order in which a reader asks."""

from dr_tf.evaluation.report.charts import charts, svg
from dr_tf.evaluation.report.comparisons import copies_section, external_section, folds_section, shifted_section
from dr_tf.evaluation.report.conformal import intervals_section
from dr_tf.evaluation.report.display_names import (
    HEADLINES,
    NAMES,
    TABLES,
    count,
    interval,
    number,
    positive,
    text,
    thresholds,
)
from dr_tf.evaluation.report.mistakes import mistake_pages
from dr_tf.evaluation.report.model_card import ModelCard, card_list
from dr_tf.evaluation.report.other_outputs import other_outputs_section
from dr_tf.evaluation.report.style import CSS
from dr_tf.evaluation.report.tables import (
    bar,
    class_table,
    confusion_table,
    figure_table,
    label_table,
    point_table,
    short_method,
    slice_table,
)
from dr_tf.inference.decision import ACTIONS


def report(predictions, metrics, *, card=None, photographs=None, reasons=None, colours=None, explanations=None):
    """One self-contained page of HTML.

    `metrics` is what `measure` gave of the same predictions; `photographs` a function of an id -> JPEG bytes or None,
    `reasons` one of ids -> {id: JPEG bytes} that shows why, `colours` one that tells what the colours of these mean,
    `explanations` the scorecard of such maps.
    """
    card = card or ModelCard()
    drawn = charts(predictions, metrics)
    sections = {
        "Who": _who(metrics),
        "Here and at home": external_section(metrics),
        "Folds": folds_section(metrics),
        "Decision": _decision(metrics, drawn),
        "Action": _action(metrics),
        "Classes": _classes(predictions, metrics),
        "Other outputs": other_outputs_section(metrics),
        "Probabilities": _probabilities(metrics, drawn),
        "Referral": _referral(drawn),
        "Intervals": intervals_section(metrics),
        "Other mix": shifted_section(metrics),
        "Slices": _slices(metrics),
        "Copies": copies_section(metrics),
        "Mistakes": mistake_pages(predictions, photographs, reasons, colours),
        "Explanations": _explanations(explanations),
        "Model card": card_list(card, metrics),
        "Method": _method(metrics),
    }
    present = {title: body for title, body in sections.items() if body}
    return _page(card, metrics, present)


TITLES = {
    "Who": "What was evaluated, and on whom",
    "Here and at home": "Here, and on the run’s own test split",
    "Folds": "Fold by fold",
    "Decision": "The decision to refer",
    "Action": "The action as it is deployed, with the gate",
    "Classes": "The classes",
    "Other outputs": "What is told besides",
    "Probabilities": "Can the probabilities be believed?",
    "Referral": "Leaving the unsure to a person",
    "Intervals": "Intervals of grades",
    "Other mix": "Under another mix of classes",
    "Slices": "Slices: where is it worse?",
    "Copies": "Without copies of test photographs",
    "Mistakes": "The worst mistakes",
    "Explanations": "Can the explanations be believed?",
    "Model card": "Model card",
    "Method": "How the intervals were made",
}


def _page(card, metrics, sections):
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title in sections)
    bodies = "".join(
        f'<section id="{_anchor(title)}"><h2>{TITLES[title]}</h2>{body}</section>' for title, body in sections.items()
    )
    whom = count(metrics["n"], metrics["unit"])
    whom += "" if metrics["unit"] == "patient" else f" of {count(metrics['patients'], 'patient')}"
    whom += "" if metrics["patients_known"] else " (patients not known)"
    how = metrics["protocol"] and f" ({text(metrics['protocol'])})"
    title = text(f"{card.name} on {metrics['dataset']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><title>{title}</title><style>{CSS}</style></head><body><header><div><p class="over">EVALUATION '
        f"REPORT</p><h1>{title}</h1><p>Split “{text(metrics['split'])}”{how}: {whom}. Positive is "
        f"<strong>{text(positive(metrics['positive']))}</strong>.</p><nav>{links}</nav></div></header><main>"
        f"{_cards(metrics)}{_caveats(metrics)}{bodies}</main><footer class='quiet'>Made by dr_tf. Research software, not a "
        "medical device. This page holds everything it shows; it loads nothing.</footer></body></html>\n"
    )


def _anchor(title):
    return title.lower().replace(" ", "-")


def _cards(metrics):
    cards = ""
    for name in HEADLINES:
        if name in metrics:
            figure = metrics[name]
            cards += (
                f'<div class="card"><div class="name">{NAMES[name][0]}</div><div class="value">'
                f'{number(name, figure["value"])}</div><div class="range">{interval(name, figure) or "no interval"}</div>'
                f'{bar(name, figure)}<div class="quiet">n {figure["n"]:,} · {text(short_method(figure["method"]))}</div></div>'
            )
    return f'<div class="cards">{cards}</div>'


def _caveats(metrics):
    if not metrics["caveats"]:
        return ""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in metrics["caveats"])
    return f'<div class="caveats" role="note"><strong>Before you read on</strong><ul>{items}</ul></div>'


def _who(metrics):
    classes = ", ".join(f"{name} {n:,}" for name, n in metrics["classes"].items())
    excluded = ", ".join(f"{reason}: {n:,}" for reason, n in metrics["excluded"].items()) or "nothing"
    known = metrics["positives"] + metrics["negatives"]
    lines = {
        "Data set": metrics["dataset"],
        "Split": metrics["split"],
        "How": metrics["protocol"],
        f"{metrics['unit'].capitalize()}s": f"{metrics['n']:,}",
        "Patients": f"{metrics['patients']:,}"
        + ("" if metrics["patients_known"] else ", not known for all: see caveats"),
        "CalibrationLabels": classes,
        "Positive": f"{positive(metrics['positive'])}: {metrics['positives']:,} of {known:,}",
        "Operating point": f"referred where the probability is at least {thresholds(metrics['thresholds'])}",
        "Left out": excluded,
        "Looks": f"{metrics['looks']} at this split so far" if metrics.get("test_evaluations") else "",
    }
    lines = {title: line for title, line in lines.items() if line}
    return f"<dl>{''.join(f'<dt>{title}</dt><dd>{text(line)}</dd>' for title, line in lines.items())}</dl>"


def _decision(metrics, drawn):
    table = figure_table(metrics, TABLES["decision"], f"Positive: {positive(metrics['positive'])}.")
    if not table:
        return "<p>The labels of this set do not say who is positive.</p>"
    names, decided = ("negative", "positive"), ("not referred", "referred")
    caption = "The decision, and its share of the row."
    matrix = confusion_table(metrics["confusion"]["refer"], names, caption, decided=decided)
    side = f'<div class="pair">{matrix}{_figure(drawn, "histogram")}</div>'
    return table + side + _pictures(drawn, "roc", "precision_recall") + point_table(metrics)


def _action(metrics):
    """What a clinic gets: some photographs are asked for again."""
    if "retake_rate" not in metrics:
        return ""
    told = (
        "<p>What prediction answers: clear, refer or retake. The figures of the decision above are of all photographs, "
        "whatever the gate says; these are with it. Whoever is asked back is not cleared.</p>"
    )
    table = figure_table(metrics, TABLES["deployed"], f"Positive: {positive(metrics['positive'])}.")
    caption = "The action, and its share of the row."
    matrix = confusion_table(
        metrics["confusion"]["action"], ("negative", "positive"), caption, decided=ACTIONS, right=False
    )
    why = "".join(f"<li>{text(reason)}: {n:,}</li>" for reason, n in metrics["retake_reasons"].items())
    return told + table + matrix + (f"<p>Why photographs are asked for again:</p><ul>{why}</ul>" if why else "")


def _classes(predictions, metrics):
    found = metrics["confusion"]
    table = figure_table(metrics, TABLES["classes"], f"Of every {metrics['unit']} whose truth is known.")
    if found.get("classes") == found["refer"]:  # two classes, which are the decision: it has been shown
        return table
    if "classes" in found:
        caption = "Counts, and their share of the row. Outlined: right."
        return table + confusion_table(found["classes"], predictions.classes, caption) + class_table(metrics)
    return table + label_table(found["labels"]) + class_table(metrics) if "labels" in found else ""


def _probabilities(metrics, drawn):
    told = (
        "<p>Of photographs given a probability of 0.8, eight in ten should be positive: points on the dashed line.</p>"
    )
    pictures = _pictures(drawn, "reliability", "reliability_classes")
    return told + pictures + figure_table(metrics, TABLES["probabilities"], "Errors of probability.")


def _referral(drawn):
    told = (
        "<p>If the photographs that the model is least sure of go to a person, how good is it on the rest? The band is the "
        "95 % interval of the first score.</p>"
    )
    return told + _pictures(drawn, *(name for name in drawn if name.startswith("referral_")))


def _slices(metrics):
    if not metrics["subgroups"]:
        return ""
    parts = {(part["subgroup"], part["value"]): part for part in metrics["subgroups"]}
    worst = [
        _worst(figure, parts[tuple(worst)]) for figure, worst in metrics["worst_subgroups"].items() if worst is not None
    ]
    told = (
        "<p>“Lower” means lower than all other photographs of known value, after correcting for the number of comparisons. "
        "Nothing is said of subgroups with too few patients.</p>"
    )
    shown = ("sensitivity", "specificity", "auroc", "accuracy", "exact_match")
    return f"<p>{'<br>'.join(worst)}</p>{told}{slice_table(metrics['subgroups'], shown)}"


def _worst(name, part):
    verdict = part["verdicts"][name]["verdict"]
    verdict = "lower than the rest" if verdict == "lower" else verdict
    value = number(name, part["metrics"][name]["value"])
    return f"Lowest {NAMES[name][0].lower()}: <strong>{text(part['subgroup'])} {text(part['value'])}</strong>, {value} ({verdict})."


def _explanations(scorecard):
    if not scorecard:
        return ""
    from dr_tf.evaluation.report.explanations import reasons_section  # TensorFlow comes with it

    return reasons_section(scorecard)


def _method(metrics):
    methods = dict.fromkeys(
        figure["method"] for figure in metrics.values() if isinstance(figure, dict) and "method" in figure
    )
    return (
        f"<p>All intervals are 95 %. Several photographs of one patient are never taken for independent: the bootstrap draws "
        f"patients ({metrics['bootstrap_samples']:,} bootstrap_samples, seed {metrics['seed']}, percentiles, not stratified); Obuchowski’s variance "
        "clusters AUROC by patient. With one photograph a patient, proportions have Wilson’s interval and AUROC DeLong’s "
        "variance on the logit. Calibration errors are corrected for the noise of their bins, which counts as error whatever "
        f"its sign.</p><p class='quiet'>Methods on this page: {text('; '.join(methods))}.</p>"
    )


def _pictures(drawn, *names):
    figures = "".join(_figure(drawn, name) for name in names if name in drawn)
    return f'<div class="pair">{figures}</div>' if figures else ""


def _figure(drawn, name):
    figure, caption = drawn[name]
    return f'<figure><img alt="{text(caption)}" src="{svg(figure)}"><figcaption>{text(caption)}</figcaption></figure>'
