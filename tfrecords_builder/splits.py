"""Assign images to splits and folds: grouped by patient, stratified by grade, reproducible by seed."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from dr_tf.console import UserError
from tfrecords_builder.samples import SPLITS, Rejection, Sample

Part = TypeVar("Part", bound=Hashable)  # a split or a fold

# Weight of a part's total size beside one stratum. With it, both the sizes of the parts and the counts of each grade
# stay within two or three images of their shares.
_SIZE_WEIGHT = 2


def parse_shares(text: str) -> dict[str, float]:
    """Parse 'train=70,validation=10,calibration=10,test=10' as {split: share}. The shares are scaled to sum to 1.

    Raises:
        UserError: The text is malformed, names an unknown split, or has no positive share.
    """
    try:
        pairs = [(name.strip(), float(value)) for name, value in (part.split("=") for part in text.split(","))]
    except ValueError:
        example = "train=70,validation=10,calibration=10,test=10"
        raise UserError(f"--shares {text!r} does not have the form {example}") from None
    shares = dict(pairs)
    if len(shares) < len(pairs):
        raise UserError(f"--shares {text!r} names a split twice")
    unknown = set(shares) - set(SPLITS)
    # Written so that "nan" and "inf", which float() accepts, are refused too.
    if unknown or not all(0 <= share < math.inf for share in shares.values()) or not any(shares.values()):
        raise UserError(f"--shares {text!r}: name {', '.join(SPLITS)} with shares of at least 0")
    total = sum(shares.values())
    return {split: shares.get(split, 0.0) / total for split in SPLITS}


def assign_splits(
    samples: Iterable[Sample], shares: Mapping[str, float], seed: int, groups: Mapping[str, str] | None = None
) -> tuple[list[Sample], list[Rejection]]:
    """Assign a split to every sample.

    Published splits stay. The other splits are taken from the published `train` split, or from all samples where no
    split is published. A patient of a published test split is in no other split.

    Args:
        samples: Samples with their published splits.
        shares: The share of each split.
        seed: Determines the order of equally large groups.
        groups: Maps an image_id to a group that must not be divided. The group of other images is their patient.

    Returns:
        The samples with their splits, and a rejection for each image whose patient is published in two splits.
    """
    kept, rejections = _one_split_per_patient(samples)
    group_of = _group_lookup(groups)
    kept = _join_published_groups(kept, group_of)
    published = {s.split for s in kept if s.split}
    open_splits = [s for s in SPLITS if s not in published or s == "train"]
    free = [s for s in kept if s.split in ("", "train")]
    split_of = _allocate(free, {s: shares[s] for s in open_splits}, seed, group_of)
    return [s if s.split not in ("", "train") else _with_split(s, split_of[group_of(s)]) for s in kept], rejections


def assign_folds(
    samples: Iterable[Sample], count: int, seed: int, groups: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Assign a cross-validation fold to every sample outside the test split.

    Args:
        samples: Samples with their splits.
        count: Number of folds.
        seed: Determines the order of equally large groups.
        groups: Maps an image_id to a group that must not be divided. The group of other images is their patient.

    Returns:
        {image_id: fold}
    """
    not_test = [s for s in samples if s.split != "test"]
    group_of = _group_lookup(groups)
    fold_of = _allocate(not_test, dict.fromkeys(range(count), 1 / count), seed, group_of)
    return {s.image_id: fold_of[group_of(s)] for s in not_test}


def _group_lookup(groups):
    groups = groups or {}
    return lambda sample: groups.get(sample.image_id, sample.group)


def _join_published_groups(samples, group_of):
    """Put each sample without a split into the published validation or calibration split of its group, if any."""
    split_of = {group_of(s): s.split for s in samples if s.split in ("validation", "calibration")}
    return [_with_split(s, split_of[group_of(s)]) if s.split == "" and group_of(s) in split_of else s for s in samples]


def _with_split(sample, split):
    return dataclasses.replace(sample, split=split)


def _one_split_per_patient(samples):
    """Keep each patient in one published split: test before calibration, validation and train."""
    samples = list(samples)
    split_of = {}
    for sample in samples:
        if sample.split:
            split_of[sample.group] = max(split_of.get(sample.group, ""), sample.split, key=("", *SPLITS).index)
    kept, rejections = [], []
    for sample in samples:
        split = split_of.get(sample.group, "")
        if sample.split == split:
            kept.append(sample)
        elif sample.split == "":
            kept.append(_with_split(sample, split))
        else:
            reason = f"published in {sample.split}, but its patient {sample.group} is also in {split}"
            rejections.append(Rejection(sample.image_id, str(sample.path), reason))
    return kept, rejections


def _allocate(
    samples: Sequence[Sample], shares: Mapping[Part, float], seed: int, group_of: Callable[[Sample], str]
) -> dict[str, Part]:
    """Allocate groups to parts (splits or folds) greedily, so that every stratum is divided by the shares.

    Groups are allocated one at a time, large and rare ones first. Each goes to the part that is least full, relative to
    its share, in the strata of that group. Where there are several sources, the grades of each source are strata too.

    Half of the group to be allocated counts as part of the filling, as in Webster's method of apportionment. Otherwise
    each small part would get an image of every rare grade before `train` got its second. The total size of a part has
    a weight too; otherwise the remainders of all grades would collect in the same part.

    Returns:
        {group: part}
    """
    parts = [part for part, share in shares.items() if share > 0]
    if not parts:
        raise UserError("--shares leaves no split for the images without a published split")
    weights = np.array([shares[part] for part in parts])
    weights = weights / weights.sum()
    by_source = len({s.source for s in samples}) > 1
    names = sorted({name for s in samples for name in s.strata(by_source=by_source)})
    strata = {name: i for i, name in enumerate(names)}
    counts: dict[str, np.ndarray] = {}
    for sample in samples:
        count = counts.setdefault(group_of(sample), np.zeros(len(strata)))
        count[[strata[name] for name in sample.strata(by_source=by_source)]] += 1
    totals = np.sum(list(counts.values()), axis=0) if counts else np.zeros(0)
    allocated = np.zeros((len(parts), len(strata)))
    part_of = {}
    for group in sorted(counts, key=lambda g: (-counts[g].sum(), min(totals[counts[g] > 0]), _random_key(seed, g))):
        count = counts[group]
        fill = (allocated + count / 2) / weights[:, None]
        fullness = fill @ (count / totals) + _SIZE_WEIGHT * fill.sum(1) * (count.sum() / totals.sum())
        emptiest = int(np.argmin(fullness.round(9)))
        part_of[group] = parts[emptiest]
        allocated[emptiest] += count
    return part_of


def _random_key(seed, group):
    """A sort key for a random order that depends neither on the order of rows nor on the Python version."""
    return hashlib.sha256(f"{seed}:{group}".encode()).digest()
