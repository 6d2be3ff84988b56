"""Which photographs might be copies: nearest descriptors by blocked matrix products, all eight variants of each."""

import numpy as np

from tfrecords_builder.descriptors import VARIANTS, varied_descriptors

_LIKELY = 0.8  # cosine from which every pair is looked at
_POSSIBLE = 0.6  # cosine from which the nearest few of each photograph are looked at: second photographs of an eye
_NEAREST = 4
_ROWS, _COLUMNS = 1024, 8192  # a block of 32 MB stays in the cache better than larger ones


def candidates(descriptors, owners, *, sets=None):
    """Rows (view a, view b, index of variant) of pairs worth a closer look, best view and variant of each pair only.

    `owners` says whose each descriptor is, in ascending order. Where `sets` says which set each owner is of, only pairs
    across sets count.
    """
    owners = np.asarray(owners, np.int64)
    sets = None if sets is None else np.unique(np.asarray(sets), return_inverse=True)[1][owners]
    chosen = (np.zeros(0, np.int64),) * 3 + (np.zeros(0, np.float32),)
    for found in _pairs(_whitened(np.asarray(descriptors, np.float32))):
        a, b, *_ = found
        keep = owners[a] < owners[b]
        if sets is not None:
            keep &= sets[a] != sets[b]
        found = [part[keep] for part in found]
        # Chosen from after each block: of what lies near each other in a set of one camera, memory could not hold all.
        chosen = _choose(*(np.concatenate(parts) for parts in zip(chosen, found, strict=True)), owners)
    return np.stack(chosen[:3], 1)


def _choose(a, b, variant, cosine, owners):
    """The best view and variant of each pair, of pairs that are likely or among the nearest few of one of their two."""
    if not len(a):
        return a, b, variant, cosine
    pair = owners[a] * (owners[-1] + 1) + owners[b]
    order = np.lexsort((variant, b, a, -cosine, pair))
    best = order[np.r_[True, np.diff(pair[order]) != 0]]
    a, b, variant, cosine = a[best], b[best], variant[best], cosine[best]
    near = (cosine >= _LIKELY) | _nearest(owners[a], cosine) | _nearest(owners[b], cosine)
    return a[near], b[near], variant[near], cosine[near]


def _whitened(descriptors):
    """Each coefficient by its spread: what all retinas share counts less. A small set knows little of its spread."""
    spread = np.mean([np.square(varied_descriptors(descriptors, v)).mean(0) for v in VARIANTS], 0)
    count = len(descriptors)
    spread = (count * spread + 50 * spread.mean()) / (count + 50)
    descriptors = descriptors / np.sqrt(spread + 1e-12).astype(np.float32)
    return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)


def _pairs(descriptors):
    """For each block of columns (a, b, variant, cosine) arrays of all a < b that are possible."""
    for start in range(0, len(descriptors), _COLUMNS):
        columns = descriptors[start : start + _COLUMNS]
        found = []
        for index, variant in enumerate(VARIANTS):
            turned = np.ascontiguousarray(varied_descriptors(columns, variant).T)
            for first in range(0, start + len(columns), _ROWS):
                cosine = descriptors[first : first + _ROWS] @ turned
                place = np.flatnonzero(cosine >= _POSSIBLE)
                row, column = np.divmod(place, cosine.shape[1])
                # Rounded, so that the last bits of a product in another block do not choose between equals.
                values = cosine.ravel()[place].round(4)
                above = row + first < column + start
                row, column, values = row[above] + first, column[above] + start, values[above]
                found.append((row, column, np.full(len(row), index), values))
        yield [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _nearest(owner, cosine):
    """Which pairs are among the nearest few of their owner."""
    order = np.lexsort((-cosine, owner))
    starts = np.r_[True, np.diff(owner[order]) != 0] if len(order) else np.zeros(0, bool)
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    near = np.zeros(len(order), bool)
    near[order] = rank < _NEAREST
    return near
