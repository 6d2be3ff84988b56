"""What TensorBoard shows besides curves: photographs as they are fed, the confusion matrix, the config, and why."""

import io

import keras
import numpy as np
import tensorflow as tf

from dr_tf.explain.captions import about_colours, plain_target
from dr_tf.explain.crop_maps import explain_crops, stacked
from dr_tf.explain.pictures import side_by_side
from dr_tf.fundus.prepare import resized
from dr_tf.grades import EYES
from dr_tf.inference.modes import PLAIN
from dr_tf.models.heads.head import positives

_SHOWN, _SIDE = 4, 256  # photographs of each truth, and pixels of one


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


def write_reasons(folder, explainer, data, rule, *, step, fitted=None):
    """Of a few photographs of the validation split: what speaks for positive, to the network that the run keeps.

    `fitted`: the run's scale of colours; without it each is stretched to its own strongest place. Nothing is written where
    there is no such split.
    """
    rows, truth = _of_each_truth(data.roles.select, positives(rule.head.positive, data.records.columns))
    batches = [element[0] for element in data.ordered(rows)] if len(rows) else []
    if not batches:
        return
    found = explain_crops(explainer, batches, fitted)
    said = zip(truth, rule.head.p_positive(rule.probabilities({PLAIN: found.outputs[rule.decides]})), strict=True)
    drawn = [_reason(rule, *parts) for parts in zip(_crops(batches), found.maps, said, strict=True)]
    with tf.summary.create_file_writer(str(folder / "pictures")).as_default(step=step):
        name = plain_target("positive", rule.head.positive)
        told = f"What speaks for {name}. {about_colours(found.full, name)}"
        tf.summary.image("why", np.stack(drawn), max_outputs=len(drawn), description=told)


def _of_each_truth(rows, positive):
    """The first few rows that are positive, then the first few that are not; and what is true of each."""
    chosen = np.concatenate([rows[positive[rows] == truth][:_SHOWN] for truth in (1, 0)])
    return chosen, positive[chosen]


def _crops(batches):
    """Of each example {eye: uint8 RGB}; the one eye of a single photograph is called None."""
    for x in batches:
        eyes = {eye: x[eye].numpy() for eye in EYES} if isinstance(x, dict) else {None: x.numpy()}
        yield from (dict(zip(eyes, one, strict=True)) for one in zip(*eyes.values(), strict=True))


def _reason(rule, crops, maps, said):
    truth, p = said
    crops = {eye: resized(crop, _SIDE) for eye, crop in crops.items()}
    name, threshold = rule.head.positive.replace("_", " "), rule.operating_point().threshold
    lines = f"truly {'' if truth else 'not '}{name}", f"p {p:.3f}: {'referred' if p >= threshold else 'not referred'}"
    return side_by_side([stacked(crops), stacked(crops, maps)], [", ".join(lines)], size=0.6)


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
