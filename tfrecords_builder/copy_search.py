"""Traces of all photographs, and the pairs among them: retrieval here, a closer look in worker processes."""

import collections
import functools
import itertools

import numpy as np

from tfrecords_builder.audit import Pair
from tfrecords_builder.candidate_pairs import candidates
from tfrecords_builder.descriptors import LENGTH, SIDE, VARIANTS, varied
from tfrecords_builder.image_registration import compare
from tfrecords_builder.workers import map_in_order

_AT_ONCE = 64  # pairs a call: less is spent on calls than on pairs
_MANY = 30  # equal files beyond which each is paired with the first only


class Traces:
    """Descriptors in memory (0.3 KB a photograph), views in one file (9 KB)."""

    def __init__(self, path):
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115
        self._names, self._sha, self._sets, self._descriptors, self._counts = [], [], [], [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def append(self, name, trace, *, set_of=""):
        self._file.write(trace.views.tobytes())
        self._names.append(name)
        self._sha.append(trace.sha256)
        self._sets.append(set_of)
        self._descriptors.append(trace.descriptors)
        self._counts.append(len(trace.views))

    def pairs(self, *, workers, across_sets=False):
        """All pairs, the surest first. Equal files are known by their digests; of each, one is looked at."""
        self._file.flush()
        keys = [(sha, self._sets[i]) if across_sets else sha for i, sha in enumerate(self._sha)]
        first, equal = {}, collections.defaultdict(list)
        for i, key in enumerate(keys):
            equal[first.setdefault(key, i)].append(i)
        found = [(a, b, "exact", 0.0, "") for a, b in self._exact(across_sets)]
        for a, b, kind, distance, transform in self._near(sorted(equal), workers, across_sets):
            members = itertools.product(equal[a][:_MANY], equal[b][:_MANY])
            found += [(*sorted(pair), kind, distance, transform) for pair in members]
        order = {"exact": 0, "copy": 1, "same_eye": 2}
        found.sort(key=lambda f: (order[f[2]], f[3], f[0], f[1]))
        return [Pair(self._names[a], self._names[b], *rest) for a, b, *rest in found]

    def _exact(self, across_sets):
        files = collections.defaultdict(list)
        for i, sha in enumerate(self._sha):
            files[sha].append(i)
        for members in files.values():
            pairs = itertools.combinations(members, 2)
            for a, b in pairs if len(members) <= _MANY else ((members[0], b) for b in members[1:]):
                if not across_sets or self._sets[a] != self._sets[b]:
                    yield a, b

    def _near(self, chosen, workers, across_sets):
        starts = np.concatenate([[0], np.cumsum(self._counts)]).astype(np.int64)
        owners = np.repeat(np.array(chosen, np.int64), [self._counts[i] for i in chosen])
        rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in chosen]) if chosen else []
        described = [self._descriptors[i] for i in chosen]
        descriptors = np.concatenate(described) if described else np.zeros((0, LENGTH), np.float16)
        pairs = candidates(descriptors, owners, sets=self._sets if across_sets else None)
        jobs = [tuple((int(rows[a]), int(rows[b]), int(v)) for a, b, v in part) for part in _parts(pairs)]
        owner = np.repeat(np.arange(len(self._counts)), self._counts)
        look = functools.partial(_look, str(self._path))
        # Where a worker dies, this process looks itself: a pair that nobody saw is a leak that nobody hears of.
        for job, likenesses in zip(jobs, map_in_order(look, jobs, workers=workers, on_death=look), strict=True):
            for (a, b, variant), (kind, difference) in zip(job, likenesses, strict=True):
                if kind and self._sha[owner[a]] != self._sha[owner[b]]:
                    yield int(owner[a]), int(owner[b]), kind, difference / 255, list(VARIANTS.values())[variant]


def _parts(pairs):
    return [pairs[i : i + _AT_ONCE] for i in range(0, len(pairs), _AT_ONCE)]


def _look(path, job):
    """(kind, difference) of each pair of views in the file."""
    views = np.memmap(path, np.uint8, "r").reshape(-1, SIDE, SIDE)
    return [_kind(views[a], views[b], variant) for a, b, variant in job]


def _kind(a, b, variant):
    likeness = compare(np.array(a), varied(b, list(VARIANTS)[variant]))
    # A second photograph of an eye is taken upright; allowing eight variants would only add eight times the chances.
    return ("" if variant and likeness.kind == "same_eye" else likeness.kind), round(likeness.difference, 3)
