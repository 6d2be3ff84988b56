"""Features instead of photographs: what a frozen network makes of each view, computed once, in float16, in a file."""

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.batches import Draws, Labels, dataset
from dr_tf.data.cache import DiskCache


class Features:
    """Of `rows` examples and views 0 to `changed`, each of `shape`. `key` names everything that they follow from.

    Killed while it is filled, it goes on where it was; what was half written is computed again. `present`, {eye: bool
    [rows]}, makes of each example a pair, whose eyes have features of their own.
    """

    def __init__(self, rows, changed, shape, *, directory, key, present=None):
        self.shape, self._each, self._present = tuple(shape), changed + 1, present or {}
        self.eyes = tuple(self._present) or (None,)
        size, count = 2 * int(np.prod(shape)), rows * len(self.eyes) * self._each
        self._stored = DiskCache(count, (size,), directory=directory, key=(key, changed, self.shape))

    def missing(self, rows, numbers):
        """Bool [n]: the views that are not there, or not of every eye."""
        places = zip(*(self._places(rows, numbers, eye) for eye in self.eyes), strict=True)
        return np.array([any(self._stored.get(place) is None for place in of) for of in places], bool)

    def put(self, row, number, values, eye=None):
        with np.errstate(over="ignore"):
            half = np.asarray(values, np.float16)
        if not np.isfinite(half).all():
            raise UserError("the network's features are beyond what a feature bank holds (float16, up to 65,504)")
        (place,) = self._places([row], number, eye)
        self._stored.put(place, half.reshape(-1).view(np.uint8))

    def read(self, rows, numbers):
        """float32 [n, *shape]; of pairs {eye: that}, and such as "left_present": bool [n]."""
        if not self._present:
            return self._read(rows, numbers, None)
        there = {f"{eye}_present": of[rows] for eye, of in self._present.items()}
        return {eye: self._read(rows, numbers, eye) for eye in self.eyes} | there

    def signature(self, size):
        """Of what `read` gives."""
        import tensorflow as tf

        x = tf.TensorSpec((size, *self.shape), tf.float32)
        if not self._present:
            return x
        return dict.fromkeys(self.eyes, x) | {f"{eye}_present": tf.TensorSpec((size,), tf.bool) for eye in self.eyes}

    def _read(self, rows, numbers, eye):
        stored = np.stack([self._stored.get(place) for place in self._places(rows, numbers, eye)])
        return stored.view(np.float16).reshape(-1, *self.shape).astype(np.float32)

    def _places(self, rows, numbers, eye):
        photographs = np.asarray(rows, int) * len(self.eyes) + self.eyes.index(eye)
        return (photographs * self._each + numbers).tolist()


def training_features(features, targets, *, rows, order, views, first_epoch=0, epochs=1, weights=None, shard=(0, 1)):
    """As `training_batches` with these views, but for a photograph x has its features, float32 [batch, *shape]."""
    gathering, draws = _Gathering(features, targets, weights), Draws(rows, order, shard)

    def begin(step):
        epoch, drawn, before = draws.at(step)
        return gathering.begin(drawn, views.shown(epoch, drawn, before))

    return dataset(draws.steps(first_epoch, epochs), begin, gathering.signature(draws.size), threads=1)


def ordered_features(features, targets, *, rows, batch_size, weights=None):
    """As `ordered_batches`: every row once, in order, of the photograph as it is."""
    gathering, rows = _Gathering(features, targets, weights), np.asarray(rows)

    def begin(step):
        return gathering.begin(rows[step * batch_size : (step + 1) * batch_size], 0)

    size = batch_size if len(rows) % batch_size == 0 else None
    return dataset(range(-(-len(rows) // batch_size)), begin, gathering.signature(size), threads=1)


class _Gathering:
    def __init__(self, features, targets, weights):
        self._features, self._labels = features, Labels(targets, weights)

    def signature(self, size):
        return (self._features.signature(size), *self._labels.signature(size))

    def begin(self, rows, numbers):
        """A whole batch, and nothing that is still to be filled."""
        import tensorflow as tf

        return [*tf.nest.flatten(self._features.read(rows, numbers)), *self._labels.of(rows)], None, []
