"""The leak audit: which photographs are copies or of one eye, and what follows for splits, folds and fitting.

A published test split is never thinned: its copies are flagged, and what copies it elsewhere is dropped. Elsewhere one
copy stays, or none where their labels contradict each other. Two photographs of one eye both stay, and stay together.
"""

import collections
import dataclasses
import itertools

from dr_tf.console import UserError
from dr_tf.grades import ABSENT
from tfrecords_builder.samples import SPLITS, Rejection

COLUMNS = ("image_a", "image_b", "kind", "distance", "transform", "split_a", "split_b", "label_a", "label_b", "action")
MODES = ("on", "strict", "off")
_LABELS = ("grade", "dme", "any_dr")
_COPIES = ("exact", "copy")


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two photographs by image_id, the first of which was listed first."""

    a: str
    b: str
    kind: str  # exact, copy or same_eye
    distance: float  # share of the full scale by which they differ, one laid on the other; 0 for equal files
    transform: str = ""  # what makes b of a


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the audit decided: samples that stay, why others do not, who stays together, and a row for each pair."""

    samples: list
    rejections: list
    groups: dict  # image_id -> group, where photographs of several patients stay together
    rows: list
    counts: dict

    @property
    def crossing(self):
        """Rows of pairs that published splits tear apart."""
        return [row for row in self.rows if _crosses(row[5], row[6])]


def refuse_crossing(verdict):
    """UserError that names the first pairs which published splits tear apart."""
    if rows := verdict.crossing:
        named = "; ".join(f"{r[0]} ({r[5]}) and {r[1]} ({r[6]}): {r[2]}" for r in rows[:3])
        more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
        raise UserError(f"--audit strict: {len(rows)} pairs cross the published splits: {named}{more}")


class Groups:
    """Union-find; the representative is the least member, whatever the order of joining."""

    def __init__(self):
        self._parent = {}

    def find(self, member):
        root = member
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while member != root:
            self._parent[member], member = root, self._parent.get(member, member)
        return root

    def join(self, a, b):
        a, b = sorted((self.find(a), self.find(b)))
        self._parent[b] = a

    def members(self, of):
        """{representative: members} of those among `of` that are not alone, in their order."""
        groups = collections.defaultdict(list)
        for member in of:
            groups[self.find(member)].append(member)
        return {root: members for root, members in groups.items() if len(members) > 1}


def judge(samples, scores, pairs):
    """The Verdict on samples whose splits are as published; `scores` maps image_id to gradability."""
    by_id = {s.image_id: s for s in samples}
    copies = Groups()
    for pair in pairs:
        if pair.kind in _COPIES:
            copies.join(pair.a, pair.b)
    fates = {}
    for members in copies.members(by_id).values():
        fates |= _fates([by_id[m] for m in members], scores, _partners(members, pairs))
    kept = [
        dataclasses.replace(s, test_copy=fates[s.image_id].copied) if s.image_id in fates else s
        for s in samples
        if s.image_id not in fates or not fates[s.image_id].reason
    ]
    rejections = [
        Rejection(s.image_id, str(s.path), fates[s.image_id].reason)
        for s in samples
        if s.image_id in fates and fates[s.image_id].reason
    ]
    rows = [_row(pair, by_id, fates) for pair in pairs]
    return Verdict(kept, rejections, _together(samples, pairs), rows, count(pairs, by_id))


@dataclasses.dataclass(frozen=True)
class _Fate:
    reason: str = ""  # of its rejection
    copied: str = ""  # the photograph that a test photograph copies


def _fates(members, scores, partners):
    """{image_id: _Fate} of photographs that are all copies of each other."""
    test = [s for s in members if s.split == "test"]
    others = [s for s in members if s.split != "test"]
    if test:
        return _beside_test(test, others, partners)
    if any(conflict(a, b) for a, b in itertools.combinations(others, 2)):
        return {s.image_id: _Fate(_contradiction(s, others)) for s in others}
    # Rounded: what JPEG alone changes must not take one eye from one patient and the other from the next.
    best = min(others, key=lambda s: (-_rank(s.split), -round(scores[s.image_id], 2), s.image_id))
    return {s.image_id: _Fate(f"a copy of {best.image_id}, which is kept") for s in others if s is not best}


def _beside_test(test, others, partners):
    fates = {}
    first = min(s.image_id for s in test)
    outside = {s.image_id for s in others}
    for sample in test:
        found = sorted(partners[sample.image_id] & outside) or sorted(outside)
        copied = found[0] if found else first if sample.image_id != first else ""
        fates[sample.image_id] = _Fate(copied=copied)
    inside = {s.image_id: s for s in test}
    for sample in others:
        name = (sorted(partners[sample.image_id] & set(inside)) or sorted(inside))[0]
        differs = conflict(sample, inside[name])
        other = f" with another label: {_difference(sample, inside[name], differs)}" if differs else ""
        fates[sample.image_id] = _Fate(f"a copy of {name} of the published test split{other}")
    return fates


def _contradiction(sample, members):
    for other in members:
        if differs := conflict(sample, other):
            return f"a copy of {other.image_id} with another label: {_difference(sample, other, differs)}"
    return f"a copy of {', '.join(sorted(m.image_id for m in members if m is not sample))}, whose labels differ"


def _difference(sample, other, names):
    return ", ".join(f"{name} {getattr(sample, name)} here, {getattr(other, name)} there" for name in names)


def conflict(a, b):
    """The labels that are known of both and differ."""
    return [n for n in _LABELS if ABSENT not in (getattr(a, n), getattr(b, n)) and getattr(a, n) != getattr(b, n)]


def _partners(members, pairs):
    members = set(members)
    partners = collections.defaultdict(set)
    for pair in pairs:
        if pair.kind in _COPIES and pair.a in members:
            partners[pair.a].add(pair.b)
            partners[pair.b].add(pair.a)
    return partners


def _together(samples, pairs):
    """{image_id: group} of what is not published test and must not be torn apart although patients differ."""
    free = {s.image_id: s for s in samples if s.split != "test"}
    groups = Groups()
    for sample in free.values():
        groups.join(("photograph", sample.image_id), ("group", sample.group))
    linked = [pair for pair in pairs if pair.a in free and pair.b in free]
    for pair in linked:
        groups.join(("photograph", pair.a), ("photograph", pair.b))
    touched = {groups.find(("photograph", pair.a)) for pair in linked}
    found = {name: groups.find(("photograph", name)) for name in free}
    return {name: root[1] for name, root in found.items() if root in touched}


def count(pairs, by_id):
    """How many pairs of each kind, across published splits, and of copies that contradict each other."""
    kinds = collections.Counter(pair.kind for pair in pairs)
    couples = [(by_id[p.a], by_id[p.b], p.kind) for p in pairs]
    return {
        "exact": kinds["exact"],
        "near": kinds["copy"],
        "same eye": kinds["same_eye"],
        "across splits": sum(_crosses(a.split, b.split) for a, b, _ in couples),
        "label conflicts": sum(kind in _COPIES and bool(conflict(a, b)) for a, b, kind in couples),
    }


def _row(pair, by_id, fates):
    a, b = by_id[pair.a], by_id[pair.b]
    return (*describe(pair, a, b), _action(pair, a, b, fates))


def with_splits(rows, samples):
    """Rows whose photographs, where they stayed, are in the split that they were dealt into."""
    dealt = {s.image_id: s.split for s in samples}
    return [(*r[:5], dealt.get(r[0], r[5]), dealt.get(r[1], r[6]), *r[7:]) for r in rows]


def describe(pair, a, b):
    """The columns of a pair, but for what is done about it."""
    labels = (" ".join(f"{n}={getattr(s, n)}" for n in _LABELS if getattr(s, n) != ABSENT) for s in (a, b))
    return (pair.a, pair.b, pair.kind, f"{pair.distance:.4f}", pair.transform, a.split, b.split, *labels)


def _action(pair, a, b, fates):
    if pair.kind == "same_eye":
        if "test" in (a.split, b.split) or _crosses(a.split, b.split):
            return "kept as published"
        return "kept together"
    dropped = [s.image_id for s in (a, b) if s.image_id in fates and fates[s.image_id].reason]
    flagged = [s.image_id for s in (a, b) if s.image_id in fates and fates[s.image_id].copied]
    done = ([f"rejected {' and '.join(dropped)}"] if dropped else []) + (
        [f"flagged {' and '.join(flagged)}"] if flagged else []
    )
    return "; ".join(done)


def _crosses(a, b):
    return bool(a and b and a != b)


def _rank(split):
    """Photographs of the role that is looked at last are kept."""
    return ("", *SPLITS).index(split)
