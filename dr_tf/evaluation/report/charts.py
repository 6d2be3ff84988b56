"""Curves as matplotlib figures, drawn without a display and without pyplot's global state."""

import base64
import io

import numpy as np

from dr_tf.evaluation.metrics.calibration_error import reliability, top_label
from dr_tf.evaluation.report.display_names import NAMES, thresholds
from dr_tf.evaluation.report.style import ACCENT, ALARM, INK, LINE, QUIET, SECOND
from dr_tf.evaluation.statistics.proportions import wilson

COLOURS = (ACCENT, SECOND, "#5b7f3b", "#7a4f9a", QUIET)
_RC = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": QUIET, "axes.labelcolor": INK,
    "xtick.color": QUIET, "ytick.color": QUIET, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": LINE, "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8.5,
    "svg.hashsalt": "dr_tf", "axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold",
}  # fmt: skip


def _drawing(draw):
    """A chart is a function of (axes, …); this gives it a square of paper of the report's look."""

    def drawn(*arguments, **options):
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(_RC):
            figure = Figure(figsize=(4.6, 4.1), layout="constrained")
            draw(figure.add_subplot(), *arguments, **options)
        return figure

    return drawn


def svg(figure):
    """As a data URI; the same figure gives the same bytes."""
    import matplotlib

    held = io.BytesIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(held, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(held.getvalue()).decode()}"


def _unit_square(axes, x, y):
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)
    axes.set_box_aspect(1)


def _thinned(x, y, points=800):
    """Ten thousand steps of a curve make a heavy page and no finer a line."""
    keep = np.unique(np.linspace(0, len(x) - 1, points).round().astype(int))
    return x[keep], y[keep]


def _operating_point(axes, x, y, *, label):
    """A cross whose arms are the 95 % intervals of two figures; `x` may be turned round (1 - specificity)."""
    for horizontal, figure in ((True, x), (False, y)):
        if figure["low"] is not None:
            line = (figure["low"], figure["high"])
            across = (y["value"],) * 2 if horizontal else (x["value"],) * 2
            axes.plot(*((line, across) if horizontal else (across, line)), color=ALARM, lw=1.4, zorder=4)
    axes.plot(x["value"], y["value"], "o", color=ALARM, ms=6, label=label, zorder=5)


def _turned(figure):
    ends = {"value": figure["value"], "low": figure["high"], "high": figure["low"]}
    return {key: None if value is None else 1 - value for key, value in ends.items()}


@_drawing
def roc(axes, p, metrics):
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(p.truth_positive, p.p_positive, drop_intermediate=True)
    axes.plot([0, 1], [0, 1], color=LINE, lw=1)
    axes.plot(*_thinned(false, true), color=ACCENT, lw=1.8, label=f"AUROC {metrics['auroc']['value']:.3f}")
    label = f"operating point, threshold {thresholds(p.thresholds)}"
    _operating_point(axes, _turned(metrics["specificity"]), metrics["sensitivity"], label=label)
    _unit_square(axes, "1 − specificity", "sensitivity")
    axes.legend(loc="lower right")


@_drawing
def precision_recall(axes, p, metrics):
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(p.truth_positive, p.p_positive, drop_intermediate=True)
    share = p.truth_positive.mean()
    axes.axhline(share, color=LINE, lw=1)
    axes.annotate(f"chance {share:.2f}", (0.01, share), xytext=(0, 3), textcoords="offset points", color=QUIET, size=8)
    label = f"average precision {metrics['average_precision']['value']:.3f}"
    axes.plot(*_thinned(recall, precision), color=ACCENT, lw=1.8, label=label)
    if metrics["ppv"]["value"] is not None:
        _operating_point(axes, metrics["sensitivity"], metrics["ppv"], label="operating point")
    _unit_square(axes, "sensitivity (recall)", "PPV (precision)")
    axes.legend(loc="lower left")


@_drawing
def histogram(axes, p):
    edges = np.linspace(0, 1, 31)
    for value, name, colour in ((0, "negative", "#9fb4c3"), (1, "positive", ACCENT)):
        scores = p.p_positive[p.truth_positive == value]
        axes.hist(scores, edges, histtype="stepfilled", alpha=0.75, color=colour, label=f"{name} ({len(scores):,})")
    low, high = p.thresholds[0], p.thresholds[-1]
    mark = {"color": ALARM, "label": f"threshold {thresholds([low, high])}"}
    if low == high:
        axes.axvline(low, lw=1.4, **mark)
    else:  # of folds
        axes.axvspan(low, high, alpha=0.3, lw=0, **mark)
    axes.set(xlim=(0, 1), xlabel="stated probability", ylabel="photographs")
    axes.set_box_aspect(1)
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.2, handlelength=1.2)


@_drawing
def reliability_diagram(axes, series):
    """`series`: name -> (probabilities, outcomes), the last as it is in use. Each point is a bin: probability stated,
    share that happened, as large as it is full, with the 95 % interval of that share for the last."""
    axes.plot([0, 1], [0, 1], color=QUIET, lw=1, ls=(0, (4, 3)))
    for (name, values), colour in zip(series.items(), (SECOND, ACCENT)[-len(series) :], strict=True):
        stated, happened, n = reliability(*values)
        axes.plot(stated, happened, color=colour, lw=1.2, label=name)
        axes.scatter(stated, happened, 6 + 60 * n / n.max(), color=colour, zorder=3)
    ends = np.array([wilson(share * k, k) for share, k in zip(happened, n, strict=True)])
    axes.vlines(stated, *ends.T, color=ACCENT, lw=1, alpha=0.6)
    _unit_square(axes, "stated probability", "share that happened")
    axes.legend(loc="upper left")


def _before_and_after(before, after, outcomes):
    """`outcomes` may depend on the probabilities."""
    series = {} if before is None else {"before calibration": outcomes(before)}
    return reliability_diagram(series | {"as stated" if before is None else "after calibration": outcomes(after)})


@_drawing
def referral(axes, curves, name):
    for i, (score, points) in enumerate(curves.items()):
        known = [point for point in points if point.get(name, {}).get("value") is not None]
        shares = [100 * point["share"] for point in known]
        if i == 0:
            sure = [point for point in known if point[name]["low"] is not None]
            low, high = ([point[name][end] for point in sure] for end in ("low", "high"))
            axes.fill_between([100 * point["share"] for point in sure], low, high, color=ACCENT, alpha=0.13, lw=0)
        values = [point[name]["value"] for point in known]
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(shares, values, "o-", ms=3.5, lw=1.6, color=colour, label=score.replace("_", " "))
    axes.set(xlabel="share referred to a person, %", ylabel=f"{NAMES[name][0].lower()} of the rest")
    axes.set_box_aspect(1)
    axes.legend(loc="best")


def charts(p, metrics):
    """name -> (figure, caption), of what the predictions allow."""
    found = {}
    known = p.take(p.known_positive) if p.known_positive.any() else None
    if known and metrics["auroc"]["value"] is not None:
        found["roc"] = roc(known, metrics), "ROC. The cross's arms are 95 % intervals."
        found["precision_recall"] = precision_recall(known, metrics), "Precision and recall, as common as in this set."
    if known:
        found["histogram"] = histogram(known), "Stated probability of the positive, by truth."
        pair = known.p_positive_uncalibrated, known.p_positive
        drawn = _before_and_after(*pair, lambda stated: (stated, known.truth_positive))
        found["reliability"] = (
            drawn,
            "The decision's probability. Dots grow with the number of photographs; arms are Wilson intervals of each dot.",
        )
    return found | _reliability_of_classes(p) | _referral(metrics)


def _reliability_of_classes(p):
    if p.multi_label or len(p.classes) == 2 or not p.labelled.any():
        return {}  # of two classes the decision's own diagram says it
    known = p.take(p.labelled)
    pair = known.uncalibrated, known.probabilities
    drawn = _before_and_after(*pair, lambda probabilities: top_label(probabilities, known.truth))
    return {"reliability_classes": (drawn, "The likeliest class's probability, and how often it is right.")}


def _referral(metrics):
    curves, found = metrics["referral_curves"], {}
    for name in ("accuracy", "f1_micro", "quadratic_kappa", "sensitivity", "specificity"):
        if any(point.get(name, {}).get("value") is not None for points in curves.values() for point in points):
            found[f"referral_{name}"] = referral(curves, name), f"{NAMES[name][0]} of those that are not referred."
    return found
