"""Render HTML pages from the Jinja2 templates in dr_tf/templates, always with autoescape.

Python prepares plain data: strings, numbers, and the dataclasses below, which the macros of `macros.html` print. Only
the templates contain markup, and everything that they insert is escaped.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jinja2

MISSING = "–"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric with its 95 % confidence interval, ready to print.

    Args:
        title: The metric's name.
        value: The point estimate; None where it is undefined.
        low: Lower end of the confidence interval; None where there is none.
        high: Upper end of the confidence interval; None where there is none.
        description: What the metric means, in a few words.
        n: The number of cases behind the metric.
        method: How the confidence interval was computed.
        is_percent: Whether it is printed as a percentage.
        has_bar: Whether it lies between 0 and 1, so that its confidence interval can be drawn as a bar.
        digits: Decimals, where it is not a percentage.
        remark: A remark printed below the confidence interval.
        tag: A short verdict printed beside the value.
        is_alarming: Whether the tag is printed in the warning colour.
    """

    title: str
    value: float | None
    low: float | None = None
    high: float | None = None
    description: str = ""
    n: int | None = None
    method: str = ""
    is_percent: bool = False
    has_bar: bool = False
    digits: int = 3
    remark: str = ""
    tag: str = ""
    is_alarming: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """A table row: its heading, and one cell for each column, either a metric, a text, or None for an empty cell."""

    name: str
    cells: tuple[Metric | str | None, ...]
    description: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column holds the names of its rows.

    Args:
        first: Heading of the first column.
        columns: Headings of the other columns.
        rows: The rows, each with as many cells as there are `columns`.
        caption: The table's caption.
        has_bars: Whether the confidence intervals of its metrics are drawn as bars, too.
    """

    first: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    has_bars: bool = False


@dataclasses.dataclass(frozen=True)
class ConfusionMatrix:
    """Counts [true class][predicted class] with the names of both.

    Args:
        counts: One row for each true class.
        rows: Names of the true classes.
        columns: Names of the predicted classes or actions.
        caption: The table's caption.
        outlines_diagonal: Whether the diagonal holds the correct predictions, and is outlined.
    """

    counts: list[list[int]]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    caption: str
    outlines_diagonal: bool = True


def render(template: str, **context: Any) -> str:
    """Render a template of dr_tf/templates.

    Args:
        template: File name of the template.
        **context: The variables of the template. A variable that the template uses and the context lacks is an error.

    Returns:
        The page, ending in a line feed.
    """
    return _environment().get_template(template).render(**context)


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share as a percentage: 0.8125 as "81.3 %"."""
    return MISSING if share is None else f"{100 * share:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with so many decimals and a true minus sign."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def count(n: int, noun: str) -> str:
    """Format a count with its noun in the singular or plural: "1 image", "2,000 images"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def point_estimate(metric: Metric) -> str:
    """Format the value of a metric."""
    return percent(metric.value) if metric.is_percent else number(metric.value, metric.digits)


def interval(metric: Metric) -> str:
    """Format the confidence interval of a metric; empty where it has none."""
    if metric.low is None or metric.high is None:
        return ""
    if metric.is_percent:
        return f"{100 * metric.low:.1f} – {percent(metric.high)}"
    return f"{number(metric.low, metric.digits)} – {number(metric.high, metric.digits)}"


def position(value: float) -> str:
    """Format a number between 0 and 1 as a CSS length; numbers beyond are clipped."""
    return f"{100 * min(max(value, 0), 1):.2f}%"


FILTERS = {
    "percent": percent,
    "number": number,
    "count": count,
    "point_estimate": point_estimate,
    "interval": interval,
    "position": position,
}


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dr_tf", "templates"),
        autoescape=True,  # for every template, whatever its file name ends in
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment
