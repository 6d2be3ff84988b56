"""TensorBoard images and text of a run: training images, the confusion matrix, the config and class-activation maps."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tf.data.batches import image_batches
from dr_tf.data.images import ImageLoader
from dr_tf.explain.captions import describe_colours, target_name
from dr_tf.explain.crop_maps import explain_crops, stack_eyes
from dr_tf.explain.explainer import Explainer
from dr_tf.explain.pictures import side_by_side
from dr_tf.fundus.prepare import resize_square
from dr_tf.grades import EYES
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.rule import Rule
from dr_tf.models.heads.head import positive_labels

_PER_TRUTH, _SIDE = 4, 256  # explained images that are positive, as many negative ones; pixels of one


class TensorBoardImages(keras.callbacks.Callback):
    """Writes the config and some training images at the start, and the confusion matrix after every epoch.

    Args:
        folder: TensorBoard folder of the run. If None nothing is written, but the confusion matrix is read all the same,
            for which all machines of a run have to meet.
        config: text of the config.
        sample_images: function that returns the training images to show, uint8 [n, h, w, 3].
        confusion_matrix: variable of the metric that counts the validation split's confusion matrix; None if there is no
            such metric.
        classes: names of the classes.
    """

    def __init__(
        self,
        folder: pathlib.Path | None,
        *,
        config: str,
        sample_images: Callable[[], np.ndarray],
        confusion_matrix: keras.Variable | None,
        classes: Sequence[str],
    ) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder / "pictures")) if folder else None
        self._config, self._sample_images = config, sample_images
        self._confusion_matrix, self._classes = confusion_matrix, classes

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Write the config and some training images."""
        if not self._writer:
            return
        with self._writer.as_default(step=0):
            tf.summary.text("config", "\n".join(f"    {line}" for line in self._config.splitlines()))
            tf.summary.image("training images", self._sample_images(), max_outputs=8)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the confusion matrix of the validation split."""
        if self._confusion_matrix is None:
            return
        matrix = keras.ops.convert_to_numpy(self._confusion_matrix)
        if self._writer:
            with self._writer.as_default(step=epoch):
                tf.summary.image("confusion matrix", draw_confusion_matrix(matrix, self._classes)[None])

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the event file."""
        if self._writer:
            self._writer.close()


def write_explanations(
    folder: pathlib.Path,
    explainer: Explainer,
    rule: Rule,
    *,
    images: ImageLoader,
    rows: np.ndarray,
    step: int,
    scale: dict[str, Any] | None = None,
    batch_size: int = 32,
) -> None:
    """Write class-activation maps of a few positive and a few negative images; nothing if there are none.

    Args:
        folder: TensorBoard folder of the run.
        explainer: explainer of the run's model.
        rule: the run's rule.
        images: images of the record set at the model's size.
        rows: row numbers to choose from, those of the validation split.
        step: epoch to write them at.
        scale: colour scale of the run; None to stretch each map to its own maximum.
        batch_size: images per batch.
    """
    rows, is_positive = _some_of_each(rows, positive_labels(rule.head.positive, images.records.columns))
    if not len(rows):
        return
    batches = [x for x, _ in image_batches(images, rows=rows, batch_size=batch_size)]
    explained = explain_crops(explainer, batches, scale)
    p_positive = rule.head.p_positive(rule.probabilities({PLAIN: explained.outputs[rule.decides]}))
    pictures = [
        _picture(rule, crops, maps, *labels)
        for crops, maps, labels in zip(
            _crops(batches), explained.maps, zip(is_positive, p_positive, strict=True), strict=True
        )
    ]
    with tf.summary.create_file_writer(str(folder / "pictures")).as_default(step=step):
        name = target_name("positive", rule.head.positive)
        description = f"Evidence for {name}. {describe_colours(explained.full_colour, name)}"
        tf.summary.image(
            "class-activation maps", np.stack(pictures), max_outputs=len(pictures), description=description
        )


def _some_of_each(rows, is_positive):
    """The first few positive rows, then the first few negative ones; and whether each is positive."""
    chosen = np.concatenate([rows[is_positive[rows] == truth][:_PER_TRUTH] for truth in (1, 0)])
    return chosen, is_positive[chosen]


def _crops(batches):
    """{eye: uint8 RGB} of each example; the eye of a single image is None."""
    for x in batches:
        eyes = {eye: x[eye].numpy() for eye in EYES} if isinstance(x, dict) else {None: x.numpy()}
        yield from (dict(zip(eyes, example, strict=True)) for example in zip(*eyes.values(), strict=True))


def _picture(rule, crops, maps, is_positive, p):
    crops = {eye: resize_square(crop, _SIDE) for eye, crop in crops.items()}
    name, threshold = rule.head.positive.replace("_", " "), rule.operating_point().threshold
    truth = f"truly {'' if is_positive else 'not '}{name}"
    decision = f"p {p:.3f}: {'referred' if p >= threshold else 'not referred'}"
    return side_by_side([stack_eyes(crops), stack_eyes(crops, maps)], [f"{truth}, {decision}"], size=0.6)


def draw_confusion_matrix(matrix: np.ndarray, classes: Sequence[str]) -> tf.Tensor:
    """Draw a confusion matrix as an image, uint8 [h, w, 3].

    Args:
        matrix: counts [true class, predicted class]. A cell shows its count, and its share of the row as a colour.
        classes: names of the classes.
    """
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
