"""Plot of a run's learning curves as a PNG, for readers without TensorBoard."""

import os

import numpy as np

from dr_tf import files
from dr_tf.training.history import History, Monitor, best_epoch


def draw_learning_curves(path: str | os.PathLike, history: History, monitor: Monitor | None = None) -> None:
    """Draw a panel per metric with its training and validation values; nothing without an epoch.

    Args:
        path: PNG to write.
        history: {metric: value} of each epoch.
        monitor: (metric, direction) that selected the kept epoch, which gets a vertical line; None for no line.
    """
    if not history:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in history[0] if not name.startswith("val_") and name != "learning_rate"]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    for place, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, place)
        _panel(axes, history, name)
        if monitor:
            axes.axvline(best_epoch(history, monitor) + 1, color="0.6", linestyle=":", label="kept")
        if place == 1:
            axes.legend(frameon=False)
    with files.atomic_write(path) as unfinished:
        FigureCanvasAgg(figure).print_png(str(unfinished))


def _panel(axes, history, name):
    epochs = np.arange(1, len(history) + 1)
    for column, label in ((name, "training"), (f"val_{name}", "validation")):
        if column in history[0]:
            axes.plot(epochs, [row[column] for row in history], label=label)
    axes.set_title(name.replace("_", " "), fontsize=10)
    axes.set_xlabel("epoch")
    axes.spines[["top", "right"]].set_visible(False)
