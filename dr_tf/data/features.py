"""Storage of a frozen network's features in a file (float16), and batches of them in place of images."""

from __future__ import annotations

import itertools
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.batches import BatchRows, ByOutput, Labels, Rows, aligned, dataset_of_steps
from dr_tf.data.cache import DiskCache

if TYPE_CHECKING:
    import tensorflow as tf

    from dr_tf.data.augmented_views import AugmentedViews
    from dr_tf.data.sampling import Order


class FeatureStore:
    """Stores the features of each view of each image: one or several arrays, such as maps of several strides.

    If the process is killed while it fills the store, the next one goes on from there and computes half-written entries
    again. Only what is reserved takes disk space.

    Args:
        rows: number of examples.
        augmented: number of augmented views of an image; view 0 is the unchanged image.
        shapes: shape of each array of one view.
        directory: folder of the file.
        key: everything that the features depend on.
        eyes: the eyes of an example, each with features of its own; None for the eye of single images.
    """

    def __init__(
        self,
        rows: int,
        augmented: int,
        shapes: Sequence[tuple[int, ...]],
        *,
        directory: str | os.PathLike,
        key: Hashable,
        eyes: Sequence[str | None] = (None,),
    ) -> None:
        self.shapes, self._views, self.eyes = [tuple(shape) for shape in shapes], augmented + 1, tuple(eyes)
        self._sizes = [int(np.prod(shape)) for shape in self.shapes]
        self.view_bytes, count = 2 * sum(self._sizes), rows * len(self.eyes) * self._views
        self._cache = DiskCache(
            count, (self.view_bytes,), directory=directory, key=(key, augmented, self.shapes), reserved=False
        )

    def reserve(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        """Reserve the disk space of each (row, view number). Raises UserError if there is not enough."""
        self._cache.reserve([place for eye in self.eyes for place in self._places(rows, numbers, eye)])

    def missing(self, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
        """Return for each (row, view number) whether its features are missing for any eye, bool [n]."""
        places = zip(*(self._places(rows, numbers, eye) for eye in self.eyes), strict=True)
        return np.array([any(self._cache.get(place) is None for place in of_eyes) for of_eyes in places], bool)

    def put(self, row: int, number: int, values: np.ndarray, eye: str | None = None) -> None:
        """Store the features of a view, flat and one array after the other. Reserve them first.

        Raises:
            UserError: they are not finite in float16.
        """
        with np.errstate(over="ignore"):
            half = np.asarray(values, np.float16)
        if not np.isfinite(half).all():
            raise UserError(
                "the backbone's features are out of the range of the feature bank (float16, up to 65,504): "
                "train without train.feature_bank"
            )
        (place,) = self._places([row], number, eye)
        self._cache.put(place, half.reshape(-1).view(np.uint8))

    def read(self, row: int, number: int, eye: str | None = None) -> list[np.ndarray]:
        """Return the arrays of a view, float16. They are the cache's memory: do not write to them."""
        (place,) = self._places([row], number, eye)
        stored = self._cache.get(place)
        assert stored is not None, "read before it was stored"
        parts = np.split(stored.view(np.float16), np.cumsum(self._sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def _places(self, rows, numbers, eye):
        images = np.asarray(rows, int) * len(self.eyes) + self.eyes.index(eye)
        return (images * self._views + numbers).tolist()


def training_feature_batches(
    features: FeatureStore,
    targets: ByOutput,
    *,
    rows: Rows,
    order: Order,
    views: AugmentedViews,
    first_epoch: int = 0,
    epochs: int = 1,
    seed: int = 0,
    weights: ByOutput | None = None,
    patient: Mapping[str, np.ndarray] | None = None,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Return the batches of `training_batches` with the features of each view as x.

    x is a float16 array [batch, *shape], or a tuple of them if a view has several. Of pairs it is a dict, as for images,
    with the values in `patient`, {name: of every example of the record set}.
    """
    builder = _FeatureBatchBuilder(features, targets, weights, patient)
    sampler = BatchRows(rows, order, shard)

    def begin(step):
        epoch, drawn, repeats = sampler.of_step(step)
        numbers = views.view_numbers(epoch, drawn, repeats)
        return builder.begin(drawn, numbers, views.random_streams(seed, drawn, numbers))

    return dataset_of_steps(sampler.steps(first_epoch, epochs), begin, builder.signature(sampler.size), None)


def ordered_feature_batches(
    features: FeatureStore,
    targets: ByOutput,
    *,
    rows: Rows,
    batch_size: int,
    weights: ByOutput | None = None,
    patient: Mapping[str, np.ndarray] | None = None,
) -> tf.data.Dataset:
    """Return the batches of `ordered_batches` with the features of the unchanged images as x."""
    builder, rows = _FeatureBatchBuilder(features, targets, weights, patient), np.asarray(rows)

    def begin(step):
        return builder.begin(rows[step * batch_size : (step + 1) * batch_size], 0)

    size = batch_size if len(rows) % batch_size == 0 else None
    return dataset_of_steps(range(-(-len(rows) // batch_size)), begin, builder.signature(size), None)


class _FeatureBatchBuilder:
    """Makes the arrays of a batch from row and view numbers, in the order of the flattened signature.

    Features stay float16: TensorFlow converts them in parallel where the network takes them.
    """

    def __init__(self, features, targets, weights, patient):
        self._features, self._labels, self._patient = features, Labels(targets, weights), patient or {}

    def signature(self, size):
        import tensorflow as tf

        x = tuple(tf.TensorSpec((size, *shape), tf.float16) for shape in self._features.shapes)
        x = x if len(x) > 1 else x[0]
        if self._patient:
            x = dict.fromkeys(self._features.eyes, x) | {
                name: tf.TensorSpec((size,), tf.as_dtype(values.dtype)) for name, values in self._patient.items()
            }
        return (x, *self._labels.signature(size))

    def begin(self, rows, numbers, stream=None):
        """A batch whose features are still empty, a function that fills in one view, and its list of arguments.

        `stream` returns the generators that augmented the images of the views.
        """
        numbers = np.broadcast_to(numbers, len(rows))
        arrays = {
            eye: [aligned((len(rows), *shape), np.float16) for shape in self._features.shapes]
            for eye in self._features.eyes
        }

        def fill(i, eye):
            for array, values in zip(arrays[eye], self._features.read(rows[i], numbers[i], eye), strict=True):
                array[i] = values

        by_name = arrays | {name: [values[rows]] for name, values in self._patient.items()}
        flat = [array for name in (sorted(by_name) if self._patient else by_name) for array in by_name[name]]
        return [*flat, *self._labels.flat(rows, stream)], fill, list(itertools.product(range(len(rows)), arrays))
