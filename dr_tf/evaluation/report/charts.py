"""Charts of the evaluation report: ROC and precision-recall curves, reliability diagrams, selective prediction.

They are matplotlib figures, drawn without a display and without pyplot's global state.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import numpy as np

from dr_tf.evaluation.metrics.calibration_error import reliability, top_label
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.report.display_names import NAMES, thresholds
from dr_tf.evaluation.statistics.proportions import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_P = ParamSpec("_P")

# The colours of templates/style.css.
INK, QUIET, LINE, ACCENT, ALARM = "#1c2430", "#5c6675", "#d9dee5", "#14597f", "#b3261e"
SECOND, NEGATIVE = "#c77700", "#9fb4c3"
COLOURS = (ACCENT, SECOND, "#5b7f3b", "#7a4f9a", QUIET)
_RC: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": QUIET, "axes.labelcolor": INK,
    "xtick.color": QUIET, "ytick.color": QUIET, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": LINE, "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8.5,
    "svg.hashsalt": "dr_tf", "axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold",
}  # fmt: skip

SELECTIVE_METRICS = ("accuracy", "f1_micro", "quadratic_kappa", "sensitivity", "specificity")


def _chart(draw: Callable[Concatenate[Axes, _P], None]) -> Callable[_P, Figure]:
    """Decorate a function that draws on axes, so that it returns a new figure in the report's style."""

    @functools.wraps(draw)
    def draw_figure(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(_RC):
            figure = Figure(figsize=(4.6, 4.1), layout="constrained")
            draw(figure.add_subplot(), *args, **kwargs)
        return figure

    return draw_figure


def svg_data_uri(figure: Figure) -> str:
    """Return a figure as the data URI of an SVG file; equal figures give equal bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)
    axes.set_box_aspect(1)


def _thinned(x: np.ndarray, y: np.ndarray, points: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points of a curve: more make a heavy page and no finer a line."""
    keep = np.unique(np.linspace(0, len(x) - 1, points).round().astype(int))
    return x[keep], y[keep]


def _operating_point(axes: Axes, x: Mapping[str, Any], y: Mapping[str, Any], *, label: str) -> None:
    """Draw a dot with the 95 % confidence intervals of two metrics as arms."""
    for is_horizontal, metric in ((True, x), (False, y)):
        if metric["low"] is not None:
            ends = (metric["low"], metric["high"])
            fixed = (y["value"],) * 2 if is_horizontal else (x["value"],) * 2
            axes.plot(*((ends, fixed) if is_horizontal else (fixed, ends)), color=ALARM, lw=1.4, zorder=4)
    axes.plot(x["value"], y["value"], "o", color=ALARM, ms=6, label=label, zorder=5)


def _one_minus(metric: Mapping[str, Any]) -> dict[str, float | None]:
    ends = {"value": metric["value"], "low": metric["high"], "high": metric["low"]}
    return {key: None if value is None else 1 - value for key, value in ends.items()}


@_chart
def roc(axes: Axes, predictions: Predictions, metrics: Mapping[str, Any]) -> None:
    """Draw the ROC curve of the decision, with its operating point."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(predictions.truth_positive, predictions.p_positive, drop_intermediate=True)
    axes.plot([0, 1], [0, 1], color=LINE, lw=1)
    axes.plot(*_thinned(false, true), color=ACCENT, lw=1.8, label=f"AUROC {metrics['auroc']['value']:.3f}")
    label = f"operating point, threshold {thresholds(predictions.thresholds)}"
    _operating_point(axes, _one_minus(metrics["specificity"]), metrics["sensitivity"], label=label)
    _unit_square(axes, "1 − specificity", "sensitivity")
    axes.legend(loc="lower right")


@_chart
def precision_recall(axes: Axes, predictions: Predictions, metrics: Mapping[str, Any]) -> None:
    """Draw the precision-recall curve of the decision, with its operating point."""
    from sklearn.metrics import precision_recall_curve

    truth, probability = predictions.truth_positive, predictions.p_positive
    precision, recall, _ = precision_recall_curve(truth, probability, drop_intermediate=True)
    chance = truth.mean()
    axes.axhline(chance, color=LINE, lw=1)
    axes.annotate(
        f"chance {chance:.2f}", (0.01, chance), xytext=(0, 3), textcoords="offset points", color=QUIET, size=8
    )
    label = f"average precision {metrics['average_precision']['value']:.3f}"
    axes.plot(*_thinned(recall, precision), color=ACCENT, lw=1.8, label=label)
    if metrics["ppv"]["value"] is not None:
        _operating_point(axes, metrics["sensitivity"], metrics["ppv"], label="operating point")
    _unit_square(axes, "sensitivity (recall)", "PPV (precision)")
    axes.legend(loc="lower left")


@_chart
def histogram(axes: Axes, predictions: Predictions) -> None:
    """Draw the predicted probabilities of positive and negative cases as histograms."""
    edges = np.linspace(0, 1, 31).tolist()
    for value, name, colour in ((0, "negative", NEGATIVE), (1, "positive", ACCENT)):
        scores = predictions.p_positive[predictions.truth_positive == value]
        axes.hist(scores, edges, histtype="stepfilled", alpha=0.75, color=colour, label=f"{name} ({len(scores):,})")
    low, high = predictions.thresholds[0], predictions.thresholds[-1]
    mark: dict[str, Any] = {"color": ALARM, "label": f"threshold {thresholds([low, high])}"}
    if low == high:
        axes.axvline(low, lw=1.4, **mark)
    else:  # each fold has its own
        axes.axvspan(low, high, alpha=0.3, lw=0, **mark)
    axes.set(xlim=(0, 1), xlabel="predicted probability", ylabel="cases")
    axes.set_box_aspect(1)
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.2, handlelength=1.2)


@_chart
def reliability_diagram(axes: Axes, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw the observed frequency of bins over their predicted probability.

    Args:
        axes: The axes to draw on.
        series: Name -> (predicted probabilities, outcomes 0 or 1). Only the bins of the last have confidence intervals.
    """
    axes.plot([0, 1], [0, 1], color=QUIET, lw=1, ls=(0, (4, 3)))
    for (name, values), colour in zip(series.items(), (SECOND, ACCENT)[-len(series) :], strict=True):
        predicted, observed, n = reliability(*values)
        axes.plot(predicted, observed, color=colour, lw=1.2, label=name)
        axes.scatter(predicted, observed, 6 + 60 * n / n.max(), color=colour, zorder=3)
    ends = np.array([wilson(share * k, k) for share, k in zip(observed, n, strict=True)])
    axes.vlines(predicted, *ends.T, color=ACCENT, lw=1, alpha=0.6)
    _unit_square(axes, "predicted probability", "observed frequency")
    axes.legend(loc="upper left")


def _before_and_after(
    before: np.ndarray | None, after: np.ndarray, outcomes: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """The diagram of probabilities before and after calibration; `outcomes` may depend on the probabilities."""
    if before is None:
        return reliability_diagram({"predicted": outcomes(after)})
    return reliability_diagram({"before calibration": outcomes(before), "after calibration": outcomes(after)})


@_chart
def selective_prediction(axes: Axes, curves: Mapping[str, list[Mapping[str, Any]]], name: str) -> None:
    """Draw a metric of the cases that remain over the share of the most uncertain ones that are referred.

    Args:
        axes: The axes to draw on.
        curves: Uncertainty score -> its points. Only the first curve has its confidence intervals drawn, as a band.
        name: The metric.
    """
    for i, (score, points) in enumerate(curves.items()):
        defined = [point for point in points if point.get(name, {}).get("value") is not None]
        if i == 0:
            band = [point for point in defined if point[name]["low"] is not None]
            low, high = ([point[name][end] for point in band] for end in ("low", "high"))
            axes.fill_between([100 * point["share"] for point in band], low, high, color=ACCENT, alpha=0.13, lw=0)
        shares, values = [100 * point["share"] for point in defined], [point[name]["value"] for point in defined]
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(shares, values, "o-", ms=3.5, lw=1.6, color=colour, label=score.replace("_", " "))
    axes.set(xlabel="share referred to a reader, %", ylabel=f"{NAMES[name][0].lower()} of the rest")
    axes.set_box_aspect(1)
    axes.legend(loc="best")


def charts(predictions: Predictions, metrics: Mapping[str, Any]) -> dict[str, tuple[Figure, str]]:
    """Draw the charts that the predictions allow.

    Args:
        predictions: The predictions that were evaluated.
        metrics: Their metrics, as `measure` returns them.

    Returns:
        {name: (figure, caption)}.
    """
    drawn = {}
    known = predictions.take(predictions.known_positive) if predictions.known_positive.any() else None
    if known and metrics["auroc"]["value"] is not None:
        drawn["roc"] = roc(known, metrics), "ROC curve. Arms: 95 % confidence intervals."
        caption = "Precision-recall curve, at the prevalence of this set."
        drawn["precision_recall"] = precision_recall(known, metrics), caption
    if known:
        drawn["histogram"] = histogram(known), "Predicted probability of positive and negative cases."
        before, after = known.p_positive_uncalibrated, known.p_positive
        figure = _before_and_after(before, after, lambda probabilities: (probabilities, known.truth_positive))
        drawn["reliability"] = (
            figure,
            "Reliability diagram of the decision. Larger dots: more cases. Lines: Wilson confidence intervals.",
        )
    return drawn | _reliability_of_classes(predictions) | _selective_prediction(metrics)


def _reliability_of_classes(predictions: Predictions) -> dict[str, tuple[Figure, str]]:
    if predictions.multi_label or len(predictions.classes) == 2 or not predictions.labelled.any():
        return {}  # with two classes, the diagram of the decision shows the same
    known = predictions.take(predictions.labelled)
    before, after = known.uncalibrated, known.probabilities
    figure = _before_and_after(before, after, lambda probabilities: top_label(probabilities, known.truth))
    return {"reliability_classes": (figure, "Reliability diagram of the most probable class.")}


def _selective_prediction(metrics: Mapping[str, Any]) -> dict[str, tuple[Figure, str]]:
    curves, drawn = metrics["referral_curves"], {}
    for name in SELECTIVE_METRICS:
        if any(point.get(name, {}).get("value") is not None for points in curves.values() for point in points):
            drawn[f"referral_{name}"] = (
                selective_prediction(curves, name),
                f"{NAMES[name][0]} of the cases not referred.",
            )
    return drawn
