"""k-nearest neighbours over training features: labels give a prediction, distances an out-of-distribution score.

Features take two bytes each on disk (float16) and four in memory. The search is exact: one float32 matrix product
proposes candidates, and only these are measured in float64. A bound on the rounding error of the product determines the
candidates, so the result equals a float64 search over the stored features.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from dr_tf.archives import UNREADABLE, check_archive
from dr_tf.console import UserError
from dr_tf.files import atomic_write

K = 10
_VERSION = 1
_QUERIES_PER_PRODUCT = 32
_MAX_STORED = 2.0**14  # float16 is still fine-grained here; it ends at 65504
_FORMER_NAME = "bank.npz"


@dataclasses.dataclass(frozen=True)
class Vote:
    """How neighbours vote.

    Attributes:
        weights: maps distances [queries, k] to weights.
        prior: how many neighbours the class distribution of the whole training set counts as.
    """

    weights: Callable[[np.ndarray], np.ndarray]
    prior: float


def _inverse_distance(distances):
    # Bounded from below: a copy of the image in the training set must not outvote all other neighbours.
    minimum = 1e-3 * distances[:, -1:] + 1e-12
    return 1 / np.maximum(distances, minimum)


# majority: the published baseline. ordinal: neighbours are weighted by inverse distance, and the class distribution of
# the training set counts as one more neighbour, because ten neighbours cannot estimate rare classes.
VOTES = {
    "majority": Vote(np.ones_like, prior=0),
    "ordinal": Vote(_inverse_distance, prior=1),
}


class Neighbours:
    """Training features and labels for nearest-neighbour search.

    Args:
        stored: float16 [n, features]: (feature - mean) * scale.
        one_hot_labels: 0/1 [n, classes or labels].
        mean: [features].
        scale: a power of two.
    """

    def __init__(self, stored: np.ndarray, one_hot_labels: np.ndarray, mean: np.ndarray, scale: float):
        if (
            stored.ndim != 2
            or not len(stored)
            or one_hot_labels.shape[:1] != stored.shape[:1]
            or one_hot_labels.ndim != 2
        ):
            raise ValueError("neighbours need features [n, d] and one-hot labels [n, classes], n at least 1")
        if mean.shape != stored.shape[1:] or not (np.isfinite(mean).all() and np.isfinite(scale) and scale > 0):
            raise ValueError("neighbours need one finite mean for each feature and a positive scale")
        self._stored = np.ascontiguousarray(stored, np.float32)
        self._squared_norms = np.einsum("nd,nd->n", self._stored, self._stored)
        if not np.isfinite(self._squared_norms).all():
            raise ValueError("the features of neighbours must be finite")
        self.one_hot_labels, self.mean, self.scale = one_hot_labels, mean, float(scale)

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def resident_bytes(self) -> int:
        """The memory that the features take."""
        return self._stored.nbytes + self._squared_norms.nbytes

    def nearest(self, features: ArrayLike, k: int = K) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest training images of each query.

        Args:
            features: queries [queries, features], finite.
            k: the number of neighbours.

        Returns:
            (Euclidean distances [queries, k], rows [queries, k]) in order of distance, then row.

        Raises:
            ValueError: a feature is not finite.
        """
        queries = (np.asarray(features, np.float64) - self.mean) * self.scale
        if not np.isfinite(queries).all():
            raise ValueError("the features of a query must be finite")
        results = []
        for start in range(0, len(queries), _QUERIES_PER_PRODUCT):
            block = queries[start : start + _QUERIES_PER_PRODUCT]
            approximate = self._approximate(block)
            results += [
                self._exact(query, row, min(k, len(self))) for query, row in zip(block, approximate, strict=True)
            ]
        distances, rows = (np.array(part) for part in zip(*results, strict=True))
        return distances / self.scale, rows

    def _approximate(self, queries):
        """float32 squared distances [queries, n], less the squared norm of the query."""
        queries = (-2 * queries).astype(np.float32)
        # A matrix-vector product reads the features once, at memory bandwidth. One with a one-row matrix does not.
        products = (self._stored @ queries[0])[None] if len(queries) == 1 else queries @ self._stored.T
        products += self._squared_norms
        return products

    def _exact(self, query, approximate, k):
        first = np.flatnonzero(approximate <= _bound_on_kth(approximate, k))
        kth = np.sqrt(np.partition(self._squared_distances(first, query), k - 1)[k - 1])
        # All k nearest lie within `kth` of the query, so their norm is at most `reach`. It bounds the rounding error.
        norm = np.sqrt(query @ query)
        reach = norm + kth
        rounding = (len(query) + 8) * 2.0**-24 * (reach**2 + 2 * reach * norm)
        rows = np.flatnonzero(approximate <= kth**2 - norm**2 + rounding)
        squared = self._squared_distances(rows, query)
        order = np.argsort(squared, kind="stable")[:k]
        return np.sqrt(squared[order]), rows[order]

    def _squared_distances(self, rows, query):
        return ((self._stored[rows] - query) ** 2).sum(axis=1)

    def vote_probabilities(self, distances: np.ndarray, rows: np.ndarray, vote: str = "ordinal") -> np.ndarray:
        """Compute the class probabilities that neighbours vote for.

        Args:
            distances: of the neighbours [queries, k].
            rows: of the neighbours [queries, k].
            vote: a name in VOTES.

        Returns:
            [queries, classes], or the weighted share that has each label [queries, labels].

        Raises:
            UserError: the vote is unknown.
        """
        if vote not in VOTES:
            raise UserError(f"unknown vote {vote!r}; known: {', '.join(VOTES)}")
        weights = VOTES[vote].weights(distances)
        prior_weight = VOTES[vote].prior * weights.mean(axis=1, keepdims=True)
        votes = np.einsum("qk,qkc->qc", weights, self.one_hot_labels[rows])
        votes = votes + prior_weight * self.one_hot_labels.mean(axis=0)
        return votes / (weights.sum(axis=1, keepdims=True) + prior_weight)

    def save(self, path: str | os.PathLike) -> None:
        """Write the features and labels to an .npz file."""
        with atomic_write(pathlib.Path(path)) as unfinished, open(unfinished, "wb") as file:
            stored = self._stored.astype(np.float16)
            # "ballots" is what version 1 of this file calls the one-hot labels.
            np.savez(
                file, version=_VERSION, stored=stored, ballots=self.one_hot_labels, mean=self.mean, scale=self.scale
            )


def _bound_on_kth(values, k):
    """An upper bound on the k-th smallest value at a tenth of the cost: the k-th smallest minimum of 64 values."""
    groups = len(values) // 64
    if groups >= k:
        values = values[: 64 * groups].reshape(64, groups).min(axis=0)
    return np.partition(values, k - 1)[k - 1]


def build_neighbours(features: ArrayLike, labels: ArrayLike, classes: int) -> Neighbours:
    """Quantize training features for nearest-neighbour search.

    Args:
        features: [n, features], finite.
        labels: the true class of each training image [n], or 0/1 of each label [n, labels] (-1 counts as 0).
        classes: the number of classes.
    """
    features, labels = np.asarray(features, np.float32), np.asarray(labels)
    if not np.isfinite(features).all():
        raise ValueError("the features of neighbours must be finite")
    one_hot = labels == 1 if labels.ndim == 2 else labels[:, None] == np.arange(classes)
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    largest = max(float(np.abs(features - mean).max(initial=0)), 1e-30)
    scale = 2.0 ** np.floor(np.log2(_MAX_STORED / largest))
    stored = ((features - mean) * np.float32(scale)).astype(np.float16)
    return Neighbours(stored, one_hot.astype(np.uint8), mean, scale)


def load_neighbours(path: str | os.PathLike) -> Neighbours:
    """Read neighbours that `Neighbours.save` wrote. Files of unknown origin are safe: pickled objects are refused.

    Raises:
        UserError: the file cannot be read.
    """
    path = pathlib.Path(path)
    if not path.exists() and (former := path.with_name(_FORMER_NAME)).exists():
        raise UserError(f"{former} is called {path.name} since this version: rename it, or train the run again")
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            if int(file["version"]) != _VERSION:
                raise UserError(f"{path} has version {int(file['version'])} of the neighbours; known: {_VERSION}")
            return Neighbours(file["stored"], file["ballots"], file["mean"], file["scale"])
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as nearest neighbours: {error}") from error
