"""Training history: the best epoch, early stopping, and the history as CSV.

Decisions are pure functions of the history, so that a resumed run decides as an uninterrupted one.
"""

import csv
import io
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

History = Sequence[Mapping[str, float]]  # {metric: value} of each epoch
Monitor = tuple[str, str]  # (metric, "max" or "min")

_BEST = {"max": np.argmax, "min": np.argmin}


def best_epoch(history: History, monitor: Monitor) -> int:
    """Return the index of the epoch with the best value of the metric, the first of equals; NaN is never best."""
    name, direction = monitor
    worst = -np.inf if direction == "max" else np.inf
    values = np.array([row[name] for row in history], float)
    return int(_BEST[direction](np.where(np.isnan(values), worst, values)))


def is_out_of_patience(history: History, monitor: Monitor, patience: int | None) -> bool:
    """Return whether `patience` epochs have passed since the best one; never if patience is None."""
    return patience is not None and len(history) - 1 - best_epoch(history, monitor) >= patience


def history_csv(history: History) -> str:
    """Return the history as CSV with a row per epoch."""
    table = io.StringIO()
    writer = csv.DictWriter(table, ["epoch", *history[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"epoch": number, **row} for number, row in enumerate(history, start=1))
    return table.getvalue()


def read_history(run_dir: str | os.PathLike) -> list[dict[str, float]]:
    """Return {metric: value} of each epoch from a run's history.csv; [] if it has none."""
    path = pathlib.Path(run_dir) / "history.csv"
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return [{name: float(value) for name, value in row.items() if name != "epoch"} for row in rows]
