"""Find candidate pairs of similar images: nearest descriptors in all eight orientations, by blocked matrix products."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tfrecords_builder.descriptors import ORIENTATIONS, reorient_descriptors

_LIKELY = 0.8  # cosine from which every pair is a candidate
_POSSIBLE = 0.6  # cosine from which the nearest few of each image are candidates: images of the same eye
_NEAREST = 4
_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 8192  # a block of 32 MB fits the cache better than larger ones


def find_candidates(
    descriptors: npt.ArrayLike, images: npt.ArrayLike, *, sets: Sequence[str] | None = None
) -> np.ndarray:
    """Find the pairs of images that are similar enough to be compared in full.

    Args:
        descriptors: [views, DESCRIPTOR_LENGTH]
        images: [views]: the image of each view, in ascending order.
        sets: The record set of each image. If given, only pairs between different record sets are candidates.

    Returns:
        [pairs, 3]: view a, view b, and the index of the orientation of b. Each pair of images has one row, with its
        best pair of views and orientation.
    """
    images = np.asarray(images, np.int64)
    if not len(images):
        return np.zeros((0, 3), np.int64)
    set_of_view = None if sets is None else np.unique(np.asarray(sets), return_inverse=True)[1][images]
    best: tuple[np.ndarray, ...] = (np.zeros(0, np.int64),) * 3 + (np.zeros(0, np.float32),)
    for block in _similar_views(_whitened(np.asarray(descriptors, np.float32))):
        a, b, *_ = block
        keep = images[a] < images[b]
        if set_of_view is not None:
            keep &= set_of_view[a] != set_of_view[b]
        block = [column[keep] for column in block]
        # Reduced after each block, because memory cannot hold all similar views of a large set from one camera.
        a, b, orientation, cosine = (np.concatenate(columns) for columns in zip(best, block, strict=True))
        best = _best_pairs(a, b, orientation, cosine, images)
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


def _whitened(descriptors):
    """Divide each coefficient by its standard deviation, so that what all retinas share has less weight.

    The variance is shrunk towards the mean variance, because a small set estimates it poorly.
    """
    variance = np.mean([np.square(reorient_descriptors(descriptors, o)).mean(0) for o in ORIENTATIONS], 0)
    count = len(descriptors)
    variance = (count * variance + 50 * variance.mean()) / (count + 50)
    descriptors = descriptors / np.sqrt(variance + 1e-12).astype(np.float32)
    return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)


def _similar_views(descriptors: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yield arrays (a, b, orientation, cosine) of all views a < b that are possibly similar, a block at a time."""
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


def _is_among_nearest(image, cosine):
    """Whether each pair is among the nearest few of its image."""
    order = np.lexsort((-cosine, image))
    starts = np.r_[True, np.diff(image[order]) != 0] if len(order) else np.zeros(0, bool)
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    is_near = np.zeros(len(order), bool)
    is_near[order] = rank < _NEAREST
    return is_near
