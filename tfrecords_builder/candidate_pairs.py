"""Find candidate pairs of similar images: nearest descriptors in all eight orientations.

Small sets are searched by blocked matrix products, which find every pair. Their time grows with the square of the number of
images, so that large sets are searched in an inverted file index of faiss: the descriptors are divided into cells, and each is
compared with those of the nearest cells only.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrecords_builder.descriptors import ORIENTATIONS, reorient_descriptors

_LIKELY = 0.8  # cosine from which every pair is a candidate
_POSSIBLE = 0.6  # cosine from which the nearest few of each image are candidates: images of the same eye
_NEAREST = 4
_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 8192  # a block of 32 MB fits the cache better than larger ones
# Of large sets. Among very many images, every one has others that are possibly similar by chance.
_MANY = 50_000  # views from which on they are
_PAIRS_PER_IMAGE = 1  # of those that are possibly, and not likely, copies
_QUERIES = 65_536  # views searched at once: 29 MB
_NEAREST_VIEWS = 16  # found for each view and orientation
_CELLS_PER_ROOT, _SEARCHED_CELLS, _TRAINING_VIEWS = 4, 48, 40  # cells per square root of views; of them; per cell
_SAMPLE = 65_536  # views that estimate the variance of the coefficients
# The orientation of a as seen from b, for each of b as seen from a: only quarter turns differ.
_INVERSE = np.array([list(ORIENTATIONS.values()).index({"turn90": "turn270", "turn270": "turn90"}.get(name, name))
                     for name in ORIENTATIONS.values()])  # fmt: skip


def find_candidates(
    descriptors: npt.ArrayLike, images: npt.ArrayLike, *, sets: Sequence[str] | None = None
) -> np.ndarray:
    """Find the pairs of images that are similar enough to be compared in full.

    Beyond 50,000 views the search is approximate, and of the pairs that are not likely copies as many as there are images
    are kept.

    Args:
        descriptors: [views, DESCRIPTOR_LENGTH]
        images: [views]: the image of each view, in ascending order.
        sets: The record set of each image. If given, only pairs between different record sets are candidates.

    Returns:
        [pairs, 3]: view a, view b, and the index of the orientation of b. Each pair of images has one row, with its
        best pair of views and orientation.
    """
    images, descriptors = np.asarray(images, np.int64), np.asarray(descriptors)
    if not len(images):
        return np.zeros((0, 3), np.int64)
    are_many = len(images) > _MANY
    set_of_view = None if sets is None else np.unique(np.asarray(sets), return_inverse=True)[1][images]
    best: tuple[np.ndarray, ...] = (np.zeros(0, np.int64),) * 3 + (np.zeros(0, np.float32),)
    for block in (_similar_views_by_index if are_many else _similar_views)(Whitening(descriptors)):
        a, b, *_ = block
        keep = images[a] < images[b]
        if set_of_view is not None:
            keep &= set_of_view[a] != set_of_view[b]
        block = [column[keep] for column in block]
        # Reduced after each block, because memory cannot hold all similar views of a large set from one camera.
        a, b, orientation, cosine = (np.concatenate(columns) for columns in zip(best, block, strict=True))
        best = _best_pairs(a, b, orientation, cosine, images)
    if are_many:
        best = _most_similar(*best, count=_PAIRS_PER_IMAGE * (images[-1] + 1))
    return np.stack(best[:3], 1)


def _best_pairs(a, b, orientation, cosine, images):
    """The best views and orientation of each pair of images that is likely, or among the nearest of either image."""
    if not len(a):
        return a, b, orientation, cosine
    pair = images[a] * (images[-1] + 1) + images[b]
    order = np.lexsort((orientation, b, a, -cosine, pair))
    best = order[np.r_[True, np.diff(pair[order]) != 0]]
    a, b, orientation, cosine = a[best], b[best], orientation[best], cosine[best]
    keep = (cosine >= _LIKELY) | _is_among_nearest(images[a], cosine) | _is_among_nearest(images[b], cosine)
    return a[keep], b[keep], orientation[keep], cosine[keep]


def _most_similar(a, b, orientation, cosine, *, count):
    """The likely pairs, and as many of the others as `count`: the most similar ones, of which some may be one eye."""
    others = np.flatnonzero(cosine < _LIKELY)
    dropped = others[np.lexsort((b[others], a[others], -cosine[others]))[count:]]
    keep = np.ones(len(a), bool)
    keep[dropped] = False
    return a[keep], b[keep], orientation[keep], cosine[keep]


class Whitening:
    """Descriptors divided by the standard deviation of each coefficient, so that what all retinas share has less weight.

    The variance is shrunk towards the mean variance, because a small set estimates it poorly.

    Attributes:
        scale: standard deviation of each coefficient.
    """

    def __init__(self, descriptors: np.ndarray) -> None:
        self._descriptors = descriptors
        sample = descriptors[:: -(-len(descriptors) // _SAMPLE)].astype(np.float32)
        variance = np.mean([np.square(reorient_descriptors(sample, o)).mean(0) for o in ORIENTATIONS], 0)
        variance = (len(sample) * variance + 50 * variance.mean()) / (len(sample) + 50)
        self.scale = np.sqrt(variance + 1e-12).astype(np.float32)

    def __len__(self) -> int:
        return len(self._descriptors)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The whitened descriptors of some views, float32 of length 1."""
        descriptors = self._descriptors[rows].astype(np.float32) / self.scale
        return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)


def _similar_views(whitening: Whitening) -> Iterator[list[np.ndarray]]:
    """Yield arrays (a, b, orientation, cosine) of all views a < b that are possibly similar, a block at a time."""
    descriptors = whitening[:]
    for start in range(0, len(descriptors), _BLOCK_COLUMNS):
        columns = descriptors[start : start + _BLOCK_COLUMNS]
        parts = []
        for index, orientation in enumerate(ORIENTATIONS):
            reoriented = np.ascontiguousarray(reorient_descriptors(columns, orientation).T)
            for first in range(0, start + len(columns), _BLOCK_ROWS):
                cosine = descriptors[first : first + _BLOCK_ROWS] @ reoriented
                position = np.flatnonzero(cosine >= _POSSIBLE)
                row, column = np.divmod(position, cosine.shape[1])
                # Rounded, so that ties do not depend on the last bits of a product, which differ between blocks.
                values = cosine.ravel()[position].round(4)
                is_above_diagonal = row + first < column + start
                row, column = row[is_above_diagonal] + first, column[is_above_diagonal] + start
                parts.append((row, column, np.full(len(row), index), values[is_above_diagonal]))
        yield [np.concatenate(part) for part in zip(*parts, strict=True)]


def _similar_views_by_index(whitening: Whitening) -> Iterator[list[np.ndarray]]:
    """Yield what `_similar_views` does for nearly all views: each is searched from both of a pair."""
    index = _build_index(whitening)
    for start in range(0, len(whitening), _QUERIES):
        queries, parts = whitening[start : start + _QUERIES], []
        for number, orientation in enumerate(ORIENTATIONS):
            reoriented = np.ascontiguousarray(reorient_descriptors(queries, orientation))
            cosine, found = index.search(reoriented, _NEAREST_VIEWS)
            row, column = np.nonzero((cosine >= _POSSIBLE) & (found >= 0))
            a, b = found[row, column], start + row
            numbers = np.where(a < b, number, _INVERSE[number])  # b as seen from a
            parts.append((np.minimum(a, b), np.maximum(a, b), numbers, cosine[row, column].round(4)))
        yield [np.concatenate(part) for part in zip(*parts, strict=True)]


def _build_index(whitening: Whitening) -> Any:
    import faiss

    count, length = len(whitening), whitening[:1].shape[1]
    cells = int(_CELLS_PER_ROOT * np.sqrt(count))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(length), length, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.train(whitening[np.linspace(0, count - 1, min(count, _TRAINING_VIEWS * cells)).astype(int)])
    for start in range(0, count, _QUERIES):
        index.add(whitening[start : start + _QUERIES])
    index.nprobe = _SEARCHED_CELLS
    return index


def _is_among_nearest(image, cosine):
    """Whether each pair is among the nearest few of its image."""
    order = np.lexsort((-cosine, image))
    starts = np.r_[True, np.diff(image[order]) != 0] if len(order) else np.zeros(0, bool)
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    is_near = np.zeros(len(order), bool)
    is_near[order] = rank < _NEAREST
    return is_near
