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
    for name in NAMES:
        if (metric := metrics.get(name)) and metric["value"] is not None:
            yield f"{name:20} {metric['value']:.3f}  {format_interval(metric)}"
    if metrics.get("sources"):
        yield from ("", *terminal_lines(metrics["sources"]), "")
    yield from metrics["caveats"]


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
