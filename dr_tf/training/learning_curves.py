"""A run's history as a picture, for those who do not open TensorBoard."""

import numpy as np

from dr_tf import files
from dr_tf.training.history import best_epoch


def draw_curves(path, history, monitor=None):
    """One panel a figure, training beside validation; a line at the epoch whose weights were kept."""
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
    with files.appearing(path) as unfinished:
        FigureCanvasAgg(figure).print_png(str(unfinished))


def _panel(axes, history, name):
    epochs = np.arange(1, len(history) + 1)
    for column, label in ((name, "training"), (f"val_{name}", "validation")):
        if column in history[0]:
            axes.plot(epochs, [row[column] for row in history], label=label)
    axes.set_title(name.replace("_", " "), fontsize=10)
    axes.set_xlabel("epoch")
    axes.spines[["top", "right"]].set_visible(False)
