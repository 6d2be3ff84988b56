"""Features instead of photographs: what a frozen network makes of each view, computed once, in float16, in a file."""

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.batches import Draws, Labels, dataset
from dr_tf.data.cache import DiskCache


class Features:
    """Of `rows` examples and views 0 to `changed`, each of `shape`. `key` names everything that they follow from.

    Killed while it is filled, it goes on where it was; what was half written is computed again.
    """

    def __init__(self, rows, changed, shape, *, directory, key):
        self.shape, self._each = tuple(shape), changed + 1
        size = 2 * int(np.prod(shape))
        self._stored = DiskCache(rows * self._each, (size,), directory=directory, key=(key, changed, self.shape))

    def missing(self, rows, numbers):
        return np.array([self._stored.get(place) is None for place in self._places(rows, numbers)], bool)

    def put(self, row, number, values):
        with np.errstate(over="ignore"):
            half = np.asarray(values, np.float16)
        if not np.isfinite(half).all():
            raise UserError("the network's features are beyond what a feature bank holds (float16, up to 65,504)")
        self._stored.put(row * self._each + number, half.reshape(-1).view(np.uint8))

    def read(self, rows, numbers):
        """float32 [n, *shape]."""
        stored = np.stack([self._stored.get(place) for place in self._places(rows, numbers)])
        return stored.view(np.float16).reshape(-1, *self.shape).astype(np.float32)

    def _places(self, rows, numbers):
        return (np.asarray(rows, int) * self._each + numbers).tolist()


def training_features(features, targets, *, rows, order, views, first_epoch=0, epochs=1, weights=None, shard=(0, 1)):
    """As `training_batches` with these views, but x is float32 [batch, *shape]."""
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
        import tensorflow as tf

        return (tf.TensorSpec((size, *self._features.shape), tf.float32), *self._labels.signature(size))

    def begin(self, rows, numbers):
        """A whole batch, and nothing that is still to be filled."""
        return [self._features.read(rows, numbers), *self._labels.of(rows)], None, []
