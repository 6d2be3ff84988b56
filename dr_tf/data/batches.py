"""Photographs, targets and an order of rows become batches in a `tf.data.Dataset`.

A few threads decode and change the photographs of a batch with OpenCV (which runs without Python's lock) straight into
the batch, so that TensorFlow makes one call into Python a batch and copies nothing.
"""

import functools
import itertools

import cv2
import numpy as np

from dr_tf.data.prefetch import Ahead

_ALIGNMENT = 64  # bytes: TensorFlow copies an array that does not begin at such an address


def training_batches(
    photographs,
    targets,
    *,
    rows,
    order,
    first_epoch=0,
    epochs=1,
    seed=0,
    augmentation=None,
    weights=None,
    shard=(0, 1),
    threads=None,
    views=None,
):
    """Epochs first_epoch..epochs-1 as one dataset, so that nothing is built anew between them.

    `order` gives positions in `rows`; `targets` and `weights`, arrays or {output: array}, have an entry an example of the
    record set. Of each batch
    shard (i, n) takes every n-th example from i on: n workers together see the batches that one would see.
    Elements are (x, y) or (x, y, weight); x is uint8 [batch, size, size, 3], for pairs a dict of left, right,
    left_present and right_present. What an example looks like follows from (seed, epoch, example, how often it came
    before in the epoch), whatever the number of threads; with `views`, a Views, from (seed, example, view) alone.
    """
    filling = _Filling(photographs, targets, weights, augmentation)
    draws = Draws(rows, order, shard)

    def begin(step):
        epoch, drawn, before = draws.at(step)
        if views is None:
            return filling.begin(drawn, lambda i, side: _stream(seed, epoch, int(drawn[i]), int(before[i]), side))
        return filling.begin(drawn, views.streams(seed, drawn, views.shown(epoch, drawn, before)))

    return dataset(draws.steps(first_epoch, epochs), begin, filling.signature(draws.size), threads)


def ordered_batches(photographs, targets, *, rows, batch_size, weights=None, threads=None):
    """Every row once, in order, unchanged; the last batch holds what is left."""
    filling = _Filling(photographs, targets, weights, None)
    return _in_order(filling, len(rows), batch_size, threads, lambda part: (np.asarray(rows)[part], None))


def view_batches(photographs, *, rows, numbers, views, seed, augmentation, batch_size, threads=None):
    """Of each row the view of that number, in order; elements are (x, row)."""
    filling = _Filling(photographs, np.arange(len(photographs.records)), None, augmentation)
    rows, numbers = np.asarray(rows), np.asarray(numbers)

    def of(part):
        return rows[part], views.streams(seed, rows[part], numbers[part])

    return _in_order(filling, len(rows), batch_size, threads, of)


def _in_order(filling, count, batch_size, threads, of):
    def begin(step):
        return filling.begin(*of(slice(step * batch_size, (step + 1) * batch_size)))

    size = batch_size if count % batch_size == 0 else None
    return dataset(range(-(-count // batch_size)), begin, filling.signature(size), threads)


class Draws:
    """Which rows a step holds; of each batch a worker takes every n-th."""

    def __init__(self, rows, order, shard=(0, 1)):
        self._rows, self._order, (self._worker, self._workers) = np.asarray(rows), order, shard
        self.size = len(range(self._worker, order.batch_size, self._workers))
        self._epoch = functools.lru_cache(maxsize=2)(self._epoch)

    def steps(self, first_epoch, epochs):
        return range(first_epoch * self._order.steps, epochs * self._order.steps)

    def at(self, step):
        """(epoch, rows, how often each came before in the epoch)."""
        epoch, place = divmod(step, self._order.steps)
        return epoch, *(part[place, self._worker :: self._workers] for part in self._epoch(epoch))

    def _epoch(self, number):
        drawn = self._rows[self._order.epoch(number)]
        return drawn, _times_before(drawn.ravel()).reshape(drawn.shape)


def dataset(steps, begin, signature, threads):
    import tensorflow as tf

    specs = tf.nest.flatten(signature)
    ahead = Ahead(begin, steps.stop, threads)

    def element(step):
        # "stateful" would make TensorFlow run it alone and in sequence wherever it is asked to be deterministic.
        flat = tf.numpy_function(lambda step: ahead(int(step)), [step], [spec.dtype for spec in specs], stateful=False)
        flat = [tf.ensure_shape(part, spec.shape) for part, spec in zip(flat, specs, strict=True)]
        return tf.nest.pack_sequence_as(signature, flat)

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF  # `shard` does it
    options.autotune.enabled = False  # there is nothing to tune, and its thread costs
    return tf.data.Dataset.range(steps.start, max(steps.start, steps.stop)).map(element).with_options(options)


class Labels:
    """Targets and, if there are any, weights of rows, as the end of a batch; each is an array or {output: array}."""

    def __init__(self, targets, weights=None):
        self._parts = [_arrays(targets)] if weights is None else [_arrays(targets), _arrays(weights, np.float32)]

    def signature(self, size):
        import tensorflow as tf

        def spec(values):
            return tf.TensorSpec((size, *values.shape[1:]), tf.as_dtype(values.dtype))

        return tuple(tf.nest.map_structure(spec, part) for part in self._parts)

    def of(self, rows):
        """The arrays, in the order of `signature` flattened."""
        return [values[rows] for part in self._parts for values in _sorted(part)]


def _arrays(part, dtype=None):
    return (
        {name: np.asarray(of, dtype) for name, of in part.items()}
        if isinstance(part, dict)
        else np.asarray(part, dtype)
    )


def _sorted(part):
    """As TensorFlow flattens it."""
    return [part[name] for name in sorted(part)] if isinstance(part, dict) else [part]


class _Filling:
    """Rows -> the arrays of a batch, in the order of `signature` flattened."""

    def __init__(self, photographs, targets, weights, augmentation):
        cv2.setNumThreads(
            1
        )  # a photograph is one thread's work; OpenCV's own threads would only get in each other's way
        self._photographs, self._augmentation = photographs, augmentation
        self._labels = Labels(targets, weights)
        self._paired = len(photographs.eyes) > 1
        self._shared = augmentation is not None and augmentation.same_for_both_eyes

    def signature(self, size):
        import tensorflow as tf

        side = self._photographs.image_size
        x = tf.TensorSpec((size, side, side, 3), tf.uint8)
        if self._paired:
            eyes = self._photographs.eyes
            x = dict.fromkeys(eyes, x) | {f"{eye}_present": tf.TensorSpec((size,), tf.bool) for eye in eyes}
        return (x, *self._labels.signature(size))

    def begin(self, rows, stream):
        """Arrays whose photographs are still to come, what brings one, and the list of those to bring."""
        eyes, side = self._photographs.eyes, self._photographs.image_size
        images = {eye: _aligned((len(rows), side, side, 3)) for eye in eyes}
        present = {eye: self._photographs.present(eye)[rows] for eye in eyes}

        def fill(i, eye):
            rng = stream and stream(i, 0 if self._shared else eyes.index(eye))
            images[eye][i] = self._image(int(rows[i]), eye, rng) if present[eye][i] else 0

        x = images | {f"{eye}_present": present[eye] for eye in eyes if self._paired}
        x = [x[name] for name in (sorted(x) if self._paired else x)]  # as TensorFlow flattens a dict
        return [*x, *self._labels.of(rows)], fill, list(itertools.product(range(len(rows)), eyes))

    def _image(self, row, eye, rng):
        pixels = self._photographs.read(row, eye)
        return pixels if self._augmentation is None or rng is None else self._augmentation.augment(pixels, rng)


def _stream(seed, epoch, row, before, side):
    """Random numbers of one photograph: a counter of its own in the generator of (seed, epoch)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, side, before, row]))


def _times_before(rows):
    """[2, 5, 2, 2] -> [0, 0, 1, 2]"""
    by_row = np.argsort(rows, kind="stable")
    starts = np.flatnonzero(np.diff(rows[by_row], prepend=-1))
    result = np.empty(len(rows), int)
    result[by_row] = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    return result


def _aligned(shape):
    size = int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)
