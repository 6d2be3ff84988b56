"""What TensorBoard shows besides curves: the photographs as they are fed, the confusion matrix, the config."""

import io

import keras
import numpy as np
import tensorflow as tf


class Pictures(keras.callbacks.Callback):
    """`sample` gives the photographs to show, uint8 [n, h, w, 3]; `matrix` is the confusion matrix's variable, or None.

    After an epoch's validation it holds the counts of the validation split. `folder` None: nothing is written, but the
    matrix is read, for which all machines of a run must come together.
    """

    def __init__(self, folder, *, config, sample, matrix, classes):
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder / "pictures")) if folder else None
        self._config, self._sample, self._matrix, self._classes = config, sample, matrix, classes

    def on_train_begin(self, logs=None):
        if not self._writer:
            return
        with self._writer.as_default(step=0):
            tf.summary.text("config", "\n".join(f"    {line}" for line in self._config.splitlines()))
            tf.summary.image("photographs as they are fed", self._sample(), max_outputs=8)

    def on_epoch_end(self, epoch, logs=None):
        if self._matrix is None:
            return
        matrix = keras.ops.convert_to_numpy(self._matrix)
        if self._writer:
            with self._writer.as_default(step=epoch):
                tf.summary.image("confusion matrix", draw_confusion(matrix, self._classes)[None])

    def on_train_end(self, logs=None):
        if self._writer:
            self._writer.close()


def draw_confusion(matrix, classes):
    """Rows: what is true. Each cell says its count and is as dark as its share of the row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix, float)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.5 + 0.8 * len(classes), 1.3 + 0.7 * len(classes)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count:g}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return tf.io.decode_png(png.getvalue(), channels=3)
