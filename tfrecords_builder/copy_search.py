"""Find copies and images of the same eye: index image signatures, search candidate pairs, and verify each pair."""

import collections
import functools
import itertools
import pathlib
from collections.abc import Hashable, Iterator
from typing import Any, Self

import numpy as np

from tfrecords_builder.audit import ImagePair
from tfrecords_builder.candidate_pairs import find_candidates
from tfrecords_builder.descriptors import DESCRIPTOR_LENGTH, ORIENTATIONS, VIEW_SIDE, ImageSignature, reorient_view
from tfrecords_builder.image_registration import compare_views
from tfrecords_builder.workers import map_in_order

_BATCH = 64  # pairs per call of a worker: enough that the pairs cost more than the call
_MANY_EQUAL_FILES = 30  # beyond which each equal file is paired with the first one only
_KIND_ORDER = {"exact": 0, "copy": 1, "same_eye": 2}


class SignatureIndex:
    """The signatures of many images, searched for pairs.

    Descriptors are kept in memory (0.3 KB per image), views in one file (9 KB per image).

    Args:
        path: The file for the views.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115
        self._keys: list[Any] = []
        self._sha256: list[str] = []
        self._sets: list[str] = []
        self._descriptors: list[np.ndarray] = []
        self._view_counts: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, key: Hashable, signature: ImageSignature, *, set_name: str = "") -> None:
        """Add an image.

        Args:
            key: Names the image in the pairs.
            signature: Its signature.
            set_name: The record set that it belongs to, for searches across record sets.
        """
        self._file.write(signature.views.tobytes())
        self._keys.append(key)
        self._sha256.append(signature.sha256)
        self._sets.append(set_name)
        self._descriptors.append(signature.descriptors)
        self._view_counts.append(len(signature.views))

    def find_pairs(self, *, workers: int, across_sets: bool = False) -> list[ImagePair]:
        """Find all pairs: exact copies first, then near copies and images of the same eye by increasing distance.

        Equal files are found by their digests, and only one of them is compared with other images.

        Args:
            workers: Number of worker processes.
            across_sets: Whether to look only for pairs between different record sets.
        """
        self._file.flush()
        keys = [(sha, self._sets[i]) if across_sets else sha for i, sha in enumerate(self._sha256)]
        first_of: dict[Any, int] = {}
        equal = collections.defaultdict(list)
        for i, key in enumerate(keys):
            equal[first_of.setdefault(key, i)].append(i)
        pairs: list[tuple] = [(a, b, "exact", 0.0, "") for a, b in self._exact_copies(across_sets)]
        for a, b, kind, distance, transform in self._similar_images(sorted(equal), workers, across_sets):
            members = itertools.product(equal[a][:_MANY_EQUAL_FILES], equal[b][:_MANY_EQUAL_FILES])
            pairs += [(*sorted(pair), kind, distance, transform) for pair in members]
        pairs.sort(key=lambda p: (_KIND_ORDER[p[2]], p[3], p[0], p[1]))
        return [ImagePair(self._keys[a], self._keys[b], *rest) for a, b, *rest in pairs]

    def _exact_copies(self, across_sets: bool) -> Iterator[tuple[int, int]]:
        files = collections.defaultdict(list)
        for i, sha in enumerate(self._sha256):
            files[sha].append(i)
        for members in files.values():
            is_few = len(members) <= _MANY_EQUAL_FILES
            for a, b in itertools.combinations(members, 2) if is_few else ((members[0], b) for b in members[1:]):
                if not across_sets or self._sets[a] != self._sets[b]:
                    yield a, b

    def _similar_images(self, chosen, workers, across_sets):
        """Yield (image, image, kind, distance, transform) among the images with the indices `chosen`."""
        starts = np.concatenate([[0], np.cumsum(self._view_counts)]).astype(np.int64)
        images = np.repeat(np.array(chosen, np.int64), [self._view_counts[i] for i in chosen])
        rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in chosen]) if chosen else []
        parts = [self._descriptors[i] for i in chosen]
        descriptors = np.concatenate(parts) if parts else np.zeros((0, DESCRIPTOR_LENGTH), np.float16)
        candidates = find_candidates(descriptors, images, sets=self._sets if across_sets else None)
        batches = [tuple((int(rows[a]), int(rows[b]), int(v)) for a, b, v in part) for part in _batches(candidates)]
        image_of_view = np.repeat(np.arange(len(self._view_counts)), self._view_counts)
        compare = functools.partial(_compare_batch, str(self._path))
        # If a worker crashes, this process compares the batch itself: a skipped pair could be an unnoticed leak.
        results = map_in_order(compare, batches, workers=workers, on_crash=compare)
        for batch, similarities in zip(batches, results, strict=True):
            for (view_a, view_b, orientation), (kind, residual) in zip(batch, similarities, strict=True):
                a, b = int(image_of_view[view_a]), int(image_of_view[view_b])
                if kind and self._sha256[a] != self._sha256[b]:
                    yield a, b, kind, residual / 255, list(ORIENTATIONS.values())[orientation]


def _batches(candidates):
    return [candidates[i : i + _BATCH] for i in range(0, len(candidates), _BATCH)]


def _compare_batch(path, batch):
    """(kind, residual) of each (view, view, orientation) of the views in a file."""
    views = np.memmap(path, np.uint8, "r").reshape(-1, VIEW_SIDE, VIEW_SIDE)
    return [_compare(views[a], views[b], orientation) for a, b, orientation in batch]


def _compare(a, b, orientation):
    similarity = compare_views(np.array(a), reorient_view(b, list(ORIENTATIONS)[orientation]))
    # A second image of an eye is taken upright. Allowing eight orientations would multiply the false pairs by eight.
    kind = "" if orientation and similarity.kind == "same_eye" else similarity.kind
    return kind, round(similarity.residual, 3)
