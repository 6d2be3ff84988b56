"""The table of sources of a cross-site protocol: for the report, for the terminal, and as sources.csv."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from typing import Any

from dr_tf.evaluation.metrics.cross_site import METRICS
from dr_tf.evaluation.report.display_names import NAMES, displayed
from dr_tf.rendering import Metric, Row, Table
from dr_tf.safe_names import csv_cell, printable

SOURCES_CSV = "sources.csv"
MEAN = "mean"
_CASES = "Cases"

Sources = Mapping[str, Any]  # what metrics.json has under "sources"
Entry = Mapping[str, Any]  # of a metric: value, low, high


def target_sources(sources: Sources) -> list[str]:
    """Return the sources that the runs are evaluated on, in the order of the columns."""
    return sorted({target for row in sources["rows"] for target in row["targets"]})


def table_entries(sources: Sources) -> Iterator[tuple[str, str, list[Entry | None]]]:
    """Yield (metric, what was trained on, entries) of each row of the table: one entry per target source, and their mean."""
    targets = target_sources(sources)
    for name in METRICS:
        for row in sources["rows"]:
            entries = [row["targets"].get(target, {}).get(name) for target in targets]
            if any(entries):
                yield name, row["trained_on"], [*entries, row["mean"].get(name)]


def write_sources_csv(path: str | os.PathLike, sources: Sources) -> None:
    """Write the table with a line for each metric and training source, and three columns for each target source.

    The lines of several runs can stand in one table: each begins with the name of its run.
    """
    columns = [*target_sources(sources), MEAN]
    header = ["run", "trained_on", "metric", *(f"{name}{end}" for name in columns for end in ("", " low", " high"))]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(csv_cell, header))
        for name, trained_on, entries in table_entries(sources):
            numbers = [(entry or {}).get(key) for entry in entries for key in ("value", "low", "high")]
            cells = (sources["run"], trained_on, name, *("" if number is None else number for number in numbers))
            writer.writerow(map(csv_cell, cells))


def source_tables(sources: Sources) -> list[Table]:
    """Return the tables of the report: all metrics in one if it has a row each, else a table for each metric."""
    columns = (*target_sources(sources), MEAN)
    by_metric: dict[str, list[Row]] = {}
    for name, trained_on, entries in table_entries(sources):
        cells = tuple(_cell(name, entry) for entry in entries)
        by_metric.setdefault(name, []).append(Row(trained_on, cells))
    cases = [Row(row["trained_on"], _counts(row, columns)) for row in sources["rows"]]
    titles = {name: f"{title}: {text}" if text else title for name, (title, text) in NAMES.items()}
    if len(cases) > 1:
        tables = {_CASES: cases} | {titles[name]: rows for name, rows in by_metric.items()}
        return [Table("Trained on", columns, tuple(rows), caption, has_bars=True) for caption, rows in tables.items()]
    rows = [Row(_CASES, cases[0].cells), *(Row(NAMES[n][0], r.cells, NAMES[n][1]) for n, (r, *_) in by_metric.items())]
    return [Table("Metric", columns, tuple(rows), has_bars=True)]


def _cell(name: str, entry: Entry | None) -> Metric | None:
    return None if entry is None else displayed(name, entry)


def _counts(row: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[str | None, ...]:
    counts = (row["targets"].get(target, {}).get("n") for target in columns[:-1])
    return (*(None if n is None else f"{n:,}" for n in counts), None)


def terminal_lines(sources: Sources) -> Iterator[str]:
    """Yield the lines of the table for a terminal: a line for each metric and training source."""
    has_several, columns = len(sources["rows"]) > 1, [*target_sources(sources), MEAN]
    lines = [
        [f"{name}, trained on {printable(trained_on)}" if has_several else name, *map(_text, entries)]
        for name, trained_on, entries in table_entries(sources)
    ]
    lines = [["", *map(printable, columns)], *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _text(entry: Entry | None) -> str:
    if entry is None or entry["value"] is None:
        return "-"
    interval = "" if entry["low"] is None else f" ({entry['low']:.3f} to {entry['high']:.3f})"
    return f"{entry['value']:.3f}{interval}"
