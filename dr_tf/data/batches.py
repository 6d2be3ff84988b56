"""tf.data input pipeline: batches of images, targets and sample weights, loaded and augmented in threads.

A few threads decode and augment the images of a batch with OpenCV, which releases Python's lock, straight into the
batch's memory. TensorFlow makes one call into Python per batch and copies nothing.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from dr_tf.data.mask_targets import MaskTargets, Stream
from dr_tf.data.prefetch import BatchPrefetcher, PendingBatch

if TYPE_CHECKING:
    import tensorflow as tf

    from dr_tf.data.augmentation import Augmentation
    from dr_tf.data.augmented_views import AugmentedViews
    from dr_tf.data.images import ImageLoader
    from dr_tf.data.sampling import Order

Rows = Sequence[int] | np.ndarray
# An array with an entry per example, or {output: such an array, or masks}.
ByOutput = np.ndarray | Mapping[str, np.ndarray | MaskTargets]

_ALIGNMENT = 64  # bytes: TensorFlow copies an array that does not begin at such an address


def training_batches(
    images: ImageLoader,
    targets: ByOutput,
    *,
    rows: Rows,
    order: Order,
    first_epoch: int = 0,
    epochs: int = 1,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    weights: ByOutput | None = None,
    shard: tuple[int, int] = (0, 1),
    threads: int | None = None,
    views: AugmentedViews | None = None,
) -> tf.data.Dataset:
    """Return the batches of epochs `first_epoch` to `epochs` - 1 as one dataset, so that nothing is rebuilt in between.

    The augmentation of an example depends on (seed, epoch, row, how often the row came earlier in the epoch) only,
    whatever the number of threads; with `views` on (seed, row, view) only.

    Args:
        images: images of the record set.
        targets: targets of every example of the record set.
        rows: row numbers of the training examples in the record set.
        order: order of the epochs, as positions in `rows`.
        first_epoch: number of the first epoch, from 0.
        epochs: number of epochs of the whole training.
        seed: seed of the augmentation.
        augmentation: augmentation of each image; None for unchanged images.
        weights: sample weights of every example of the record set.
        shard: (i, n) takes every n-th example of each batch from the i-th on, so that n workers share the batches.
        threads: number of threads; the number of available cores by default.
        views: a fixed number of augmented views per image in place of a new augmentation in every epoch.

    Returns:
        A dataset of (x, y) or (x, y, weight). x is uint8 [batch, size, size, 3]; for pairs it is a dict with such images
        as left and right, and with the values in `images.patient`.
    """
    builder = _BatchBuilder(images, targets, weights, augmentation)
    sampler = BatchRows(rows, order, shard)

    def begin(step):
        epoch, drawn, repeats = sampler.of_step(step)
        if views is None:
            return builder.begin(drawn, lambda i, eye: _stream(seed, epoch, int(drawn[i]), int(repeats[i]), eye))
        return builder.begin(drawn, views.random_streams(seed, drawn, views.view_numbers(epoch, drawn, repeats)))

    return dataset_of_steps(sampler.steps(first_epoch, epochs), begin, builder.signature(sampler.size), threads)


def ordered_batches(
    images: ImageLoader,
    targets: ByOutput,
    *,
    rows: Rows,
    batch_size: int,
    weights: ByOutput | None = None,
    threads: int | None = None,
) -> tf.data.Dataset:
    """Return every row once, in order, without augmentation; the last batch may be smaller."""
    builder = _BatchBuilder(images, targets, weights, None)
    return _in_order(builder, len(rows), batch_size, threads, lambda part: (np.asarray(rows)[part], None))


def image_batches(images: ImageLoader, *, rows: Rows, batch_size: int) -> tf.data.Dataset:
    """Return the image of every row once, in order, without augmentation, as a dataset of (x, rows)."""
    return ordered_batches(images, np.arange(len(images.records)), rows=rows, batch_size=batch_size)


def view_batches(
    images: ImageLoader,
    *,
    rows: Rows,
    numbers: Rows,
    views: AugmentedViews,
    seed: int,
    augmentation: Augmentation | None,
    batch_size: int,
    threads: int | None = None,
) -> tf.data.Dataset:
    """Return view `numbers[i]` of row `rows[i]` for each i, in order, as a dataset of (x, rows)."""
    builder = _BatchBuilder(images, np.arange(len(images.records)), None, augmentation)
    rows, numbers = np.asarray(rows), np.asarray(numbers)

    def part_of_batch(part):
        return rows[part], views.random_streams(seed, rows[part], numbers[part])

    return _in_order(builder, len(rows), batch_size, threads, part_of_batch)


def _in_order(builder, count, batch_size, threads, part_of_batch):
    def begin(step):
        return builder.begin(*part_of_batch(slice(step * batch_size, (step + 1) * batch_size)))

    size = batch_size if count % batch_size == 0 else None
    return dataset_of_steps(range(-(-count // batch_size)), begin, builder.signature(size), threads)


class BatchRows:
    """Rows of the record set that each training step holds.

    Args:
        rows: row numbers of the training examples.
        order: order of the epochs, as positions in `rows`.
        shard: (worker, workers); each worker takes every n-th example of a batch.
    """

    def __init__(self, rows: Rows, order: Order, shard: tuple[int, int] = (0, 1)) -> None:
        self._rows, self._order, (self._worker, self._workers) = np.asarray(rows), order, shard
        self.size = len(range(self._worker, order.batch_size, self._workers))
        self._cached_epoch = functools.lru_cache(maxsize=2)(self._epoch)

    def steps(self, first_epoch: int, epochs: int) -> range:
        """Return the numbers of the steps of epochs `first_epoch` to `epochs` - 1."""
        return range(first_epoch * self._order.steps, epochs * self._order.steps)

    def of_step(self, step: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Return (epoch, rows of the batch, how often each row came earlier in the epoch)."""
        epoch, place = divmod(step, self._order.steps)
        drawn, repeats = (part[place, self._worker :: self._workers] for part in self._cached_epoch(epoch))
        return epoch, drawn, repeats

    def _epoch(self, number):
        drawn = self._rows[self._order.epoch(number)]
        return drawn, _earlier_occurrences(drawn.ravel()).reshape(drawn.shape)


def dataset_of_steps(
    steps: range, begin: Callable[[int], PendingBatch], signature: Any, threads: int | None
) -> tf.data.Dataset:
    """Return a tf.data.Dataset of one element per step, prefetched by threads.

    Args:
        steps: numbers of the steps.
        begin: as `BatchPrefetcher` takes it; the batch is a flat list of arrays.
        signature: nested structure of tf.TensorSpec of an element.
        threads: number of threads; the number of available cores if None.
    """
    import tensorflow as tf

    specs = tf.nest.flatten(signature)
    prefetcher = BatchPrefetcher(begin, steps.stop, threads)

    def element(step):
        # "stateful" would make TensorFlow run it alone and in sequence wherever op determinism is enabled.
        flat = tf.numpy_function(
            lambda step: prefetcher(int(step)), [step], [spec.dtype for spec in specs], stateful=False
        )
        flat = [tf.ensure_shape(part, spec.shape) for part, spec in zip(flat, specs, strict=True)]
        return tf.nest.pack_sequence_as(signature, flat)

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF  # `shard` does it
    options.autotune.enabled = False  # there is nothing to tune, and its thread costs time
    return tf.data.Dataset.range(steps.start, max(steps.start, steps.stop)).map(element).with_options(options)


class Labels:
    """Targets and optional sample weights, which follow the images in a batch."""

    def __init__(self, targets: ByOutput, weights: ByOutput | None = None) -> None:
        self._parts = [_arrays(targets)] if weights is None else [_arrays(targets), _arrays(weights, np.float32)]

    def signature(self, size: int | None) -> tuple[Any, ...]:
        """Return the tf.TensorSpec of the targets and of the weights, if there are any."""
        import tensorflow as tf

        def spec(values):
            return tf.TensorSpec((size, *values.shape[1:]), tf.as_dtype(values.dtype))

        return tuple(tf.nest.map_structure(spec, part) for part in self._parts)

    def flat(self, rows: Rows, stream: Stream | None = None) -> list[np.ndarray]:
        """Return the arrays of these rows in the order of the flattened signature.

        Args:
            rows: row numbers.
            stream: the generators that augment the images of the batch; None for unchanged images.
        """
        return [
            values.of_batch(rows, stream) if isinstance(values, MaskTargets) else values[rows]
            for part in self._parts
            for values in _in_key_order(part)
        ]


def _arrays(part, dtype=None):
    if isinstance(part, Mapping):
        return {name: _arrays(values, dtype) for name, values in part.items()}
    return part if isinstance(part, MaskTargets) else np.asarray(part, dtype)


def _in_key_order(part):
    """The values of a dict in the order in which TensorFlow flattens it."""
    return [part[name] for name in sorted(part)] if isinstance(part, dict) else [part]


class _BatchBuilder:
    """Makes the arrays of a batch from row numbers, in the order of the flattened signature."""

    def __init__(self, images, targets, weights, augmentation):
        # Each image is the work of one thread; OpenCV's own threads would only get in the way.
        cv2.setNumThreads(1)
        self._images, self._augmentation = images, augmentation
        self._labels = Labels(targets, weights)
        self._paired = len(images.eyes) > 1
        self._same_for_both_eyes = augmentation is not None and augmentation.same_for_both_eyes

    def signature(self, size):
        import tensorflow as tf

        side = self._images.image_size
        x = tf.TensorSpec((size, side, side, 3), tf.uint8)
        if self._paired:
            x = dict.fromkeys(self._images.eyes, x) | {
                name: tf.TensorSpec((size,), tf.as_dtype(values.dtype)) for name, values in self._images.patient.items()
            }
        return (x, *self._labels.signature(size))

    def begin(self, rows, stream):
        """Arrays whose images are still empty, a function that fills in one image, and its list of arguments."""
        eyes, side = self._images.eyes, self._images.image_size
        pixels = {eye: aligned((len(rows), side, side, 3)) for eye in eyes}
        present = {eye: self._images.present(eye)[rows] for eye in eyes}

        def fill(i, eye):
            rng = stream and stream(i, 0 if self._same_for_both_eyes else eyes.index(eye))
            pixels[eye][i] = self._augmented(int(rows[i]), eye, rng) if present[eye][i] else 0

        x = pixels | {name: values[rows] for name, values in self._images.patient.items()}
        flat = [x[name] for name in (sorted(x) if self._paired else x)]  # in the order TensorFlow flattens a dict
        labels = self._labels.flat(rows, stream if self._augmentation else None)
        return [*flat, *labels], fill, list(itertools.product(range(len(rows)), eyes))

    def _augmented(self, row, eye, rng):
        image = self._images.read(row, eye)
        return image if self._augmentation is None or rng is None else self._augmentation.augment(image, rng)


def _stream(seed, epoch, row, repeats, eye):
    """Random numbers of one image: its own counter in the generator of (seed, epoch)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, eye, repeats, row]))


def _earlier_occurrences(rows):
    """How often each row came earlier: [2, 5, 2, 2] -> [0, 0, 1, 2]."""
    by_row = np.argsort(rows, kind="stable")
    starts = np.flatnonzero(np.diff(rows[by_row], prepend=-1))
    result = np.empty(len(rows), int)
    result[by_row] = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    return result


def aligned(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    """Return an empty array that TensorFlow takes without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
