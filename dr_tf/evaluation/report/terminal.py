"""Summaries of an evaluation and of a comparison, as lines for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from dr_tf.evaluation.report.cross_site import terminal_lines

NAMES = (
    "balanced_accuracy",
    "accuracy",
    "joint_accuracy",
    "quadratic_kappa",
    "auroc",
    "sensitivity",
    "specificity",
    "sensitivity_deployed",
    "specificity_deployed",
    "retake_rate",
    "ece",
)
MULTI_LABEL_NAMES = ("odir_score", "f1_macro", "auroc_macro", *NAMES)


def summary(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the main metrics and the caveats of an evaluation.

    Args:
        metrics: the content of metrics.json.
    """
    protocol = metrics["protocol"] and f" ({metrics['protocol']})"
    examples = f"{metrics['n']} {metrics['unit']}s"
    if metrics["unit"] != "patient":
        examples += f" of {metrics['patients']} patients" if metrics["patients_known"] else " of unknown patients"
    yield f"{metrics['dataset']}, {metrics['split']}{protocol}: {examples}"
    for name in _names(metrics):
        if (metric := metrics.get(name)) and metric["value"] is not None:
            yield f"{name:20} {metric['value']:.3f}  {format_interval(metric)}"
    if metrics.get("sources"):
        yield from ("", *terminal_lines(metrics["sources"]), "")
    yield from metrics["caveats"]


def side_by_side(by_mode: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of the main metrics of several modes on the same examples.

    Args:
        by_mode: {mode: the content of its metrics.json}.
    """
    names = [
        name
        for name in _names(*by_mode.values())
        if any((metrics.get(name) or {}).get("value") is not None for metrics in by_mode.values())
    ]
    width = max(map(len, by_mode))
    yield " ".join(["mode".ljust(width), *(f"{name:>{max(len(name), 5)}}" for name in names)])
    for mode, metrics in by_mode.items():
        values = [(metrics.get(name) or {}).get("value") for name in names]
        cells = ["" if value is None else f"{value:.3f}" for value in values]
        yield " ".join(
            [mode.ljust(width), *(f"{cell:>{max(len(name), 5)}}" for cell, name in zip(cells, names, strict=True))]
        )
    yield "The same examples. `evaluate --compare` has paired differences of two modes. Choose before the test split is used."


def _names(*metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """The main metrics: of several labels those over all labels first."""
    return MULTI_LABEL_NAMES if any("odir_score" in each for each in metrics) else NAMES


def differences(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Yield the metrics of two runs and their differences.

    Args:
        comparison: what `compare` returned.
    """
    yield f"{comparison['n']} cases of {comparison['patients']} patients; the difference is second minus first"
    for name, count in comparison["left_out"].items():
        if count:
            yield f"left out because only the {name} run has them: {count}"
    for name, metric in comparison["metrics"].items():
        if metric["value"] is not None:
            both = f"{metric['first']:7.3f} {metric['second']:7.3f}"
            yield f"{name:28} {both} {metric['value']:+7.3f}  {format_interval(metric, '+.3f')}"


def format_interval(metric: Mapping[str, Any], form: str = ".3f") -> str:
    """Return the confidence interval and its method in brackets."""
    if metric["low"] is None:
        return f"(no confidence interval: {metric['method']})"
    return f"({metric['low']:{form}} to {metric['high']:{form}}, {metric['method']})"
