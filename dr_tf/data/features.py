"""Storage of a frozen network's features in a file (float16), and batches of them in place of images."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.batches import BatchRows, ByOutput, Labels, Rows, dataset_of_steps
from dr_tf.data.cache import DiskCache

if TYPE_CHECKING:
    import tensorflow as tf

    from dr_tf.data.augmented_views import AugmentedViews
    from dr_tf.data.sampling import Order


class FeatureStore:
    """Stores the features of each view of each image.

    If the process is killed while it fills the store, the next one goes on from there and computes half-written entries
    again.

    Args:
        rows: number of examples.
        augmented: number of augmented views of an image; view 0 is the unchanged image.
        shape: shape of the features of one view.
        directory: folder of the file.
        key: everything that the features depend on.
        present: {eye: whether each example has an image of it, bool [rows]} for pairs, whose eyes have features of
            their own; None for single images.
    """

    def __init__(
        self,
        rows: int,
        augmented: int,
        shape: tuple[int, ...],
        *,
        directory: str | os.PathLike,
        key: Hashable,
        present: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.shape, self._views, self._present = tuple(shape), augmented + 1, present or {}
        self.eyes: tuple[str | None, ...] = tuple(self._present) or (None,)
        size, count = 2 * int(np.prod(shape)), rows * len(self.eyes) * self._views
        self._cache = DiskCache(count, (size,), directory=directory, key=(key, augmented, self.shape))

    def missing(self, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
        """Return for each (row, view number) whether its features are missing for any eye, bool [n]."""
        places = zip(*(self._places(rows, numbers, eye) for eye in self.eyes), strict=True)
        return np.array([any(self._cache.get(place) is None for place in of_eyes) for of_eyes in places], bool)

    def put(self, row: int, number: int, values: np.ndarray, eye: str | None = None) -> None:
        """Store the features of a view. Raises UserError if they are not finite in float16."""
        with np.errstate(over="ignore"):
            half = np.asarray(values, np.float16)
        if not np.isfinite(half).all():
            raise UserError(
                "the backbone's features are out of the range of the feature bank (float16, up to 65,504): "
                "train without train.feature_bank"
            )
        (place,) = self._places([row], number, eye)
        self._cache.put(place, half.reshape(-1).view(np.uint8))

    def read(self, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray | dict[str | None, np.ndarray]:
        """Return the features, float32 [n, *shape]; for pairs {eye: features, "left_present": bool [n], ...}."""
        if not self._present:
            return self._read(rows, numbers, None)
        present = {f"{eye}_present": mask[rows] for eye, mask in self._present.items()}
        return {eye: self._read(rows, numbers, eye) for eye in self.eyes} | present

    def signature(self, size: int | None) -> Any:
        """Return the tf.TensorSpec of what `read` returns for a batch of this size."""
        import tensorflow as tf

        x = tf.TensorSpec((size, *self.shape), tf.float32)
        if not self._present:
            return x
        return dict.fromkeys(self.eyes, x) | {f"{eye}_present": tf.TensorSpec((size,), tf.bool) for eye in self.eyes}

    def _read(self, rows, numbers, eye):
        stored = np.stack([self._cache.get(place) for place in self._places(rows, numbers, eye)])
        return stored.view(np.float16).reshape(-1, *self.shape).astype(np.float32)

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
    weights: ByOutput | None = None,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Return the batches of `training_batches` with the features of each view, float32 [batch, *shape], as x."""
    builder, sampler = _FeatureBatchBuilder(features, targets, weights), BatchRows(rows, order, shard)

    def begin(step):
        epoch, drawn, repeats = sampler.of_step(step)
        return builder.begin(drawn, views.view_numbers(epoch, drawn, repeats))

    return dataset_of_steps(sampler.steps(first_epoch, epochs), begin, builder.signature(sampler.size), threads=1)


def ordered_feature_batches(
    features: FeatureStore,
    targets: ByOutput,
    *,
    rows: Rows,
    batch_size: int,
    weights: ByOutput | None = None,
) -> tf.data.Dataset:
    """Return the batches of `ordered_batches` with the features of the unchanged images as x."""
    builder, rows = _FeatureBatchBuilder(features, targets, weights), np.asarray(rows)

    def begin(step):
        return builder.begin(rows[step * batch_size : (step + 1) * batch_size], 0)

    size = batch_size if len(rows) % batch_size == 0 else None
    return dataset_of_steps(range(-(-len(rows) // batch_size)), begin, builder.signature(size), threads=1)


class _FeatureBatchBuilder:
    def __init__(self, features, targets, weights):
        self._features, self._labels = features, Labels(targets, weights)

    def signature(self, size):
        return (self._features.signature(size), *self._labels.signature(size))

    def begin(self, rows, numbers):
        """A complete batch, in the form that `BatchPrefetcher` takes: nothing is left to fill in."""
        import tensorflow as tf

        return [*tf.nest.flatten(self._features.read(rows, numbers)), *self._labels.flat(rows)], None, []
