"""What a run remembers of its epochs, and what follows from it. Pure functions: a resumed run decides as before."""

import csv
import io

import numpy as np

_BETTER = {"max": np.argmax, "min": np.argmin}


def best_epoch(history, monitor):
    """Index of the epoch with the best figure, the first of equals; `monitor` is a (name, "max" or "min")."""
    name, direction = monitor
    worst = -np.inf if direction == "max" else np.inf
    figures = np.array([row[name] for row in history], float)
    return int(_BETTER[direction](np.where(np.isnan(figures), worst, figures)))


def out_of_patience(history, monitor, patience):
    """Whether `patience` epochs have gone by without a better figure; never where patience is None."""
    return patience is not None and len(history) - 1 - best_epoch(history, monitor) >= patience


def as_csv(history):
    table = io.StringIO()
    writer = csv.DictWriter(table, ["epoch", *history[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"epoch": number, **row} for number, row in enumerate(history, start=1))
    return table.getvalue()
