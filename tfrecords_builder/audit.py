"""The leak audit: decide what happens to images that are copies of each other or show the same eye.

Rules:
- A published test split stays complete. A test image that has a copy elsewhere is flagged (`test_copy`), and its copies
  outside the test split are rejected.
- Among other copies, one image stays. If their labels contradict each other, none stays.
- Two images of the same eye both stay, and stay together in the same split and fold.
"""

import collections
import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from dr_tf.console import UserError
from dr_tf.grades import ABSENT
from dr_tf.safe_names import printable
from tfrecords_builder.samples import SPLITS, Rejection, Sample

# The columns of audit.csv.
COLUMNS = ("image_a", "image_b", "kind", "distance", "transform", "split_a", "split_b", "label_a", "label_b", "action")
_SPLIT_A, _SPLIT_B = COLUMNS.index("split_a"), COLUMNS.index("split_b")
_LABELS = ("grade", "dme", "any_dr")
_COPY_KINDS = ("exact", "copy")


@dataclasses.dataclass(frozen=True)
class ImagePair:
    """Two images that are copies of each other or show the same eye.

    Attributes:
        a: The key of the image that was listed first: its image_id, or (record set, image_id) between record sets.
        b: The key of the other image.
        kind: "exact" for equal files, "copy" for near copies, or "same_eye".
        distance: What remains of the difference after registration, as a share of the full scale; 0 for equal files.
        transform: How `b` was made from `a`: "", "mirror", "turn90", …
    """

    a: Any
    b: Any
    kind: str
    distance: float
    transform: str = ""


@dataclasses.dataclass(frozen=True)
class AuditResult:
    """The decisions of the leak audit.

    Attributes:
        samples: The samples that stay.
        rejections: The other samples, with the reasons.
        groups: Maps an image_id to its group, where images of several patients must stay together.
        rows: A row of audit.csv for each pair.
        counts: The number of pairs of each kind, as `count_pairs` returns it.
    """

    samples: list[Sample]
    rejections: list[Rejection]
    groups: dict[str, str]
    rows: list[tuple]
    counts: dict[str, int]

    @property
    def rows_across_splits(self) -> list[tuple]:
        """The rows whose two images are in different published splits."""
        return [row for row in self.rows if _are_different_splits(row[_SPLIT_A], row[_SPLIT_B])]


def refuse_pairs_across_splits(result: AuditResult) -> None:
    """Raise a UserError that names the first pairs whose images are in different published splits, if there are any."""
    if rows := result.rows_across_splits:
        pairs = "; ".join(
            f"{printable(r[0])} ({r[_SPLIT_A]}) and {printable(r[1])} ({r[_SPLIT_B]}): {r[2]}" for r in rows[:3]
        )
        more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
        raise UserError(f"--audit strict: {len(rows)} pairs cross the published splits: {pairs}{more}")


class DisjointSets:
    """Union-find. The representative of a set is its least member, whatever the order of joining."""

    def __init__(self) -> None:
        self._parent: dict[Any, Any] = {}

    def find(self, member: Hashable) -> Any:
        """Return the representative of the set that contains `member`."""
        root = member
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while member != root:
            self._parent[member], member = root, self._parent.get(member, member)
        return root

    def join(self, a: Hashable, b: Hashable) -> None:
        """Merge the sets that contain `a` and `b`."""
        a, b = sorted((self.find(a), self.find(b)))
        self._parent[b] = a

    def sets_of(self, members: Iterable[Hashable]) -> dict[Any, list[Any]]:
        """Return {representative: members} of the sets with at least two of `members`, in their order."""
        sets = collections.defaultdict(list)
        for member in members:
            sets[self.find(member)].append(member)
        return {root: group for root, group in sets.items() if len(group) > 1}


def resolve_pairs(
    samples: Sequence[Sample], gradability: Mapping[str, float], pairs: Sequence[ImagePair]
) -> AuditResult:
    """Decide which images stay, are flagged, are rejected, or must stay together.

    Args:
        samples: Samples with their published splits.
        gradability: Maps image_id to the gradability score. The most gradable of several copies stays.
        pairs: The pairs among the samples.
    """
    by_id = {s.image_id: s for s in samples}
    copies = DisjointSets()
    for pair in pairs:
        if pair.kind in _COPY_KINDS:
            copies.join(pair.a, pair.b)
    outcomes: dict[str, _Outcome] = {}
    for members in copies.sets_of(by_id).values():
        outcomes |= _resolve_copies([by_id[m] for m in members], gradability, _copies_of(members, pairs))
    kept, rejections = [], []
    for sample in samples:
        outcome = outcomes.get(sample.image_id)
        if outcome is None:
            kept.append(sample)
        elif outcome.rejection:
            rejections.append(Rejection(sample.image_id, str(sample.path), outcome.rejection))
        else:
            kept.append(dataclasses.replace(sample, test_copy=outcome.test_copy))
    rows = [(*pair_columns(p, by_id[p.a], by_id[p.b]), _action(p, by_id[p.a], by_id[p.b], outcomes)) for p in pairs]
    return AuditResult(kept, rejections, _groups(samples, pairs), rows, count_pairs(pairs, by_id))


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What happens to an image that has copies."""

    rejection: str = ""  # the reason for rejecting it, or ""
    test_copy: str = ""  # for an image of a test split: the image that it is a copy of


def _resolve_copies(members, gradability, copies_of):
    """{image_id: _Outcome} of images that are all copies of each other."""
    test = [s for s in members if s.split == "test"]
    others = [s for s in members if s.split != "test"]
    if test:
        return _resolve_copies_of_test(test, others, copies_of)
    if any(conflicting_labels(a, b) for a, b in itertools.combinations(others, 2)):
        return {s.image_id: _Outcome(_contradiction(s, others)) for s in others}
    # The score is rounded, because JPEG noise must not decide which patient's image of a copied pair of eyes stays.
    best = min(others, key=lambda s: (-_split_rank(s.split), -round(gradability[s.image_id], 2), s.image_id))
    return {s.image_id: _Outcome(f"copy of {best.image_id}, which is kept") for s in others if s is not best}


def _resolve_copies_of_test(test, others, copies_of):
    outcomes = {}
    first = min(s.image_id for s in test)
    other_ids = {s.image_id for s in others}
    for sample in test:
        outside = sorted(copies_of[sample.image_id] & other_ids) or sorted(other_ids)
        test_copy = outside[0] if outside else first if sample.image_id != first else ""
        outcomes[sample.image_id] = _Outcome(test_copy=test_copy)
    test_by_id = {s.image_id: s for s in test}
    for sample in others:
        name = (sorted(copies_of[sample.image_id] & set(test_by_id)) or sorted(test_by_id))[0]
        conflicts = conflicting_labels(sample, test_by_id[name])
        reason = f"copy of {name} in the published test split"
        if conflicts:
            reason += f", with a different label: {_difference(sample, test_by_id[name], conflicts)}"
        outcomes[sample.image_id] = _Outcome(reason)
    return outcomes


def _contradiction(sample, members):
    for other in members:
        if conflicts := conflicting_labels(sample, other):
            return f"copy of {other.image_id}, with a different label: {_difference(sample, other, conflicts)}"
    others = ", ".join(sorted(m.image_id for m in members if m is not sample))
    return f"copy of {others}, whose labels contradict each other"


def _difference(sample, other, names):
    return ", ".join(f"{name} {getattr(sample, name)} here, {getattr(other, name)} there" for name in names)


def conflicting_labels(a: Sample, b: Sample) -> list[str]:
    """Return the names of the labels that are known for both images and differ."""
    return [n for n in _LABELS if ABSENT not in (getattr(a, n), getattr(b, n)) and getattr(a, n) != getattr(b, n)]


def _copies_of(members, pairs):
    """{image_id: the images that are paired with it as copies} of the members."""
    members = set(members)
    copies_of = collections.defaultdict(set)
    for pair in pairs:
        if pair.kind in _COPY_KINDS and pair.a in members:
            copies_of[pair.a].add(pair.b)
            copies_of[pair.b].add(pair.a)
    return copies_of


def _groups(samples, pairs):
    """{image_id: group} of images outside the published test split that must stay together across patients."""
    free = {s.image_id: s for s in samples if s.split != "test"}
    sets = DisjointSets()
    for sample in free.values():
        sets.join(("image", sample.image_id), ("group", sample.group))
    linked = [pair for pair in pairs if pair.a in free and pair.b in free]
    for pair in linked:
        sets.join(("image", pair.a), ("image", pair.b))
    linked_roots = {sets.find(("image", pair.a)) for pair in linked}
    roots = {name: sets.find(("image", name)) for name in free}
    return {name: root[1] for name, root in roots.items() if root in linked_roots}


def count_pairs(pairs: Iterable[ImagePair], by_id: Mapping[Any, Sample]) -> dict[str, int]:
    """Count the pairs of each kind, the pairs across published splits, and the copies whose labels differ."""
    pairs = list(pairs)
    kinds = collections.Counter(pair.kind for pair in pairs)
    return {
        "exact": kinds["exact"],
        "near": kinds["copy"],
        "same eye": kinds["same_eye"],
        "across splits": sum(_are_different_splits(by_id[p.a].split, by_id[p.b].split) for p in pairs),
        "label conflicts": sum(
            p.kind in _COPY_KINDS and bool(conflicting_labels(by_id[p.a], by_id[p.b])) for p in pairs
        ),
    }


def with_assigned_splits(rows: Iterable[tuple], samples: Iterable[Sample]) -> list[tuple]:
    """Replace the published splits in rows of audit.csv by the assigned ones, for the images that stayed."""
    split_of = {s.image_id: s.split for s in samples}
    return [
        (*r[:_SPLIT_A], split_of.get(r[0], r[_SPLIT_A]), split_of.get(r[1], r[_SPLIT_B]), *r[_SPLIT_B + 1 :])
        for r in rows
    ]


def pair_columns(pair: ImagePair, a: Sample, b: Sample) -> tuple:
    """Return the columns of a row of audit.csv, except for the last one, the action."""
    labels = (" ".join(f"{n}={getattr(s, n)}" for n in _LABELS if getattr(s, n) != ABSENT) for s in (a, b))
    return (pair.a, pair.b, pair.kind, f"{pair.distance:.4f}", pair.transform, a.split, b.split, *labels)


def _action(pair, a, b, outcomes):
    if pair.kind == "same_eye":
        if "test" in (a.split, b.split) or _are_different_splits(a.split, b.split):
            return "kept as published"
        return "kept together"
    rejected = [s.image_id for s in (a, b) if s.image_id in outcomes and outcomes[s.image_id].rejection]
    flagged = [s.image_id for s in (a, b) if s.image_id in outcomes and outcomes[s.image_id].test_copy]
    actions = (("rejected", rejected), ("flagged", flagged))
    return "; ".join(f"{verb} {' and '.join(names)}" for verb, names in actions if names)


def _are_different_splits(a, b):
    return bool(a and b and a != b)


def _split_rank(split):
    """Of copies, the one whose split is used later in an evaluation stays: calibration, validation, then train."""
    return ("", *SPLITS).index(split)
