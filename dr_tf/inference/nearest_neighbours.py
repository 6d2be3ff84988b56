"""The nearest training photographs in feature space: what they were says what this one is, and how far they are, how
much of what the network learned applies.

A neighbours is two bytes a feature on disk and four in memory. One float32 matrix product finds candidates; only they are
measured in float64. The bound on the product's rounding decides who is a candidate, so that the neighbours are those of
a float64 search over the stored features, and not merely near.
"""

import dataclasses
import zipfile
from collections.abc import Callable

import numpy as np

from dr_tf.console import UserError
from dr_tf.files import appearing

K = 10
_VERSION = 1
_TOGETHER = 32  # queries in one product
_LARGEST = 2.0**14  # where float16 still counts finely: it ends at 65504


@dataclasses.dataclass(frozen=True)
class Vote:
    weights: Callable  # distances [q, k] -> weights
    prior: float  # how many neighbours' worth the whole neighbours weighs in


def _nearer_counts_more(distances):
    least = 1e-3 * distances[:, -1:] + 1e-12  # a copy of the photograph in the neighbours does not outvote all others
    return 1 / np.maximum(distances, least)


# majority: the published baseline. ordinal: each neighbour answers every question "is the grade above k?" by its nearness,
# and the neighbours's own distribution answers for what ten neighbours cannot know.
VOTES = {
    "majority": Vote(np.ones_like, prior=0),
    "ordinal": Vote(_nearer_counts_more, prior=1),
}


class Neighbours:
    """Features as stored: float16 of (feature - mean) * scale, a power of two; ballots are 0/1 [n, classes or labels]."""

    def __init__(self, stored, ballots, mean, scale):
        if stored.ndim != 2 or not len(stored) or ballots.shape[:1] != stored.shape[:1] or ballots.ndim != 2:
            raise ValueError("a neighbours holds features [n, d] and ballots [n, classes], n at least 1")
        if mean.shape != stored.shape[1:] or not (np.isfinite(mean).all() and np.isfinite(scale) and scale > 0):
            raise ValueError("a neighbours's mean has one finite number a feature, its scale is positive")
        self._stored = np.ascontiguousarray(stored, np.float32)
        self._squares = np.einsum("nd,nd->n", self._stored, self._stored)
        if not np.isfinite(self._squares).all():
            raise ValueError("a neighbours's features are finite")
        self.ballots, self.mean, self.scale = ballots, mean, float(scale)

    def __len__(self):
        return len(self._stored)

    @property
    def resident_bytes(self):
        return self._stored.nbytes + self._squares.nbytes

    def nearest(self, features, k=K):
        """(distances [q, k], rows [q, k]) by distance, of equals by row; Euclidean, in the unit of the features."""
        queries = (np.asarray(features, np.float64) - self.mean) * self.scale
        if not np.isfinite(queries).all():
            raise ValueError("features to look up are finite")
        found = []
        for start in range(0, len(queries), _TOGETHER):
            few = queries[start : start + _TOGETHER]
            rough = self._rough(few)
            found += [self._exact(query, row, min(k, len(self))) for query, row in zip(few, rough, strict=True)]
        distances, rows = (np.array(part) for part in zip(*found, strict=True))
        return distances / self.scale, rows

    def _rough(self, queries):
        """float32 squared distances [q, n], less the squared length of the query."""
        queries = (-2 * queries).astype(np.float32)
        # A product with one vector reads the neighbours once, at the speed of memory; a matrix of one row does not.
        products = (self._stored @ queries[0])[None] if len(queries) == 1 else queries @ self._stored.T
        products += self._squares
        return products

    def _exact(self, query, rough, k):
        first = np.flatnonzero(rough <= _no_less_than_kth(rough, k))
        farthest = np.sqrt(np.partition(self._squared(first, query), k - 1)[k - 1])
        # All k nearest lie within `farthest`, so no longer than `reach`, which bounds what rounding did to them.
        length = np.sqrt(query @ query)
        reach = length + farthest
        rounding = (len(query) + 8) * 2.0**-24 * (reach**2 + 2 * reach * length)
        rows = np.flatnonzero(rough <= farthest**2 - length**2 + rounding)
        squared = self._squared(rows, query)
        order = np.argsort(squared, kind="stable")[:k]
        return np.sqrt(squared[order]), rows[order]

    def _squared(self, rows, query):
        return ((self._stored[rows] - query) ** 2).sum(axis=1)

    def shares(self, distances, rows, vote="ordinal"):
        """Class probabilities [q, classes] by the neighbours' votes, or the share that has each label."""
        if vote not in VOTES:
            raise UserError(f"unknown vote {vote!r}; known: {', '.join(VOTES)}")
        weights = VOTES[vote].weights(distances)
        by_bank = VOTES[vote].prior * weights.mean(axis=1, keepdims=True)
        votes = np.einsum("qk,qkc->qc", weights, self.ballots[rows]) + by_bank * self.ballots.mean(axis=0)
        return votes / (weights.sum(axis=1, keepdims=True) + by_bank)

    def save(self, path):
        with appearing(path) as unfinished, open(unfinished, "wb") as file:
            stored = self._stored.astype(np.float16)
            np.savez(file, version=_VERSION, stored=stored, ballots=self.ballots, mean=self.mean, scale=self.scale)


def _no_less_than_kth(values, k):
    """A bound on the k-th smallest that is a tenth of the work of finding it: the k-th smallest of minima of 64 each."""
    groups = len(values) // 64
    if groups >= k:
        values = values[: 64 * groups].reshape(64, groups).min(axis=0)
    return np.partition(values, k - 1)[k - 1]


def build_neighbours(features, strata, classes):
    """`strata`: the class of each training photograph [n], or 0/1 of each label [n, labels] (-1 counts as 0)."""
    features, strata = np.asarray(features, np.float32), np.asarray(strata)
    if not np.isfinite(features).all():
        raise ValueError("a neighbours's features are finite")
    ballots = strata == 1 if strata.ndim == 2 else strata[:, None] == np.arange(classes)
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    largest = max(float(np.abs(features - mean).max(initial=0)), 1e-30)
    scale = 2.0 ** np.floor(np.log2(_LARGEST / largest))
    return Neighbours(((features - mean) * np.float32(scale)).astype(np.float16), ballots.astype(np.uint8), mean, scale)


def load_neighbours(path):
    """Plain arrays: nothing in a stranger's file is run."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["version"]) != _VERSION:
                raise UserError(f"{path} is a feature neighbours of version {int(file['version'])}; known: {_VERSION}")
            return Neighbours(*(file[name] for name in ("stored", "ballots", "mean", "scale")))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no feature neighbours that can be read: {error}") from error
