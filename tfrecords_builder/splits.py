"""Who goes where: splits and folds by patient, balanced by grade, the same for the same seed."""

import dataclasses
import hashlib
import math

import numpy as np

from dr_tf.console import UserError
from tfrecords_builder.samples import SPLITS, Rejection

_OVERALL = 2  # what the whole of a split weighs beside a grade: both then keep to their share within two or three


def parse_shares(text):
    """'train=70,validation=10,calibration=10,test=10' as {split: share of 1}."""
    try:
        pairs = [(name.strip(), float(value)) for name, value in (part.split("=") for part in text.split(","))]
    except ValueError:
        raise UserError(f"--shares {text!r} is not of the form train=70,validation=10,calibration=10,test=10") from None
    shares = dict(pairs)
    if len(shares) < len(pairs):
        raise UserError(f"--shares {text!r} names a split twice")
    unknown = set(shares) - set(SPLITS)
    # Written so that "nan" and "inf", which float() understands, are refused too.
    if unknown or not all(0 <= share < math.inf for share in shares.values()) or not any(shares.values()):
        raise UserError(f"--shares {text!r}: name {', '.join(SPLITS)} with shares of at least 0")
    total = sum(shares.values())
    return {split: shares.get(split, 0.0) / total for split in SPLITS}


def assign_splits(samples, shares, seed, groups=None):
    """Every sample with a split, and the rejections that this needed.

    `groups` maps image_id to what must stay together; where it says nothing, a patient does.

    Published splits stay. Splits that were not published are cut from the published `train`, or from everything where
    nothing was published. A patient of a published test split is nowhere else.
    """
    samples, rejections = _one_role_a_patient(samples)
    group = _grouping(groups)
    samples = _beside_published(samples, group)
    published = {s.split for s in samples if s.split}
    open_splits = [s for s in SPLITS if s not in published or s == "train"]
    free = [s for s in samples if s.split in ("", "train")]
    chosen = _deal(free, {s: shares[s] for s in open_splits}, seed, group)
    return [s if s.split not in ("", "train") else _in_split(s, chosen[group(s)]) for s in samples], rejections


def assign_folds(samples, count, seed, groups=None):
    """{image_id: fold} of everything that is not test."""
    fitted = [s for s in samples if s.split != "test"]
    group = _grouping(groups)
    fold = _deal(fitted, dict.fromkeys(range(count), 1 / count), seed, group)
    return {s.image_id: fold[group(s)] for s in fitted}


def _grouping(groups):
    groups = groups or {}
    return lambda sample: groups.get(sample.image_id, sample.group)


def _beside_published(samples, group):
    """A sample without a split goes where its group was published, were it not for training."""
    role = {group(s): s.split for s in samples if s.split in ("validation", "calibration")}
    return [_in_split(s, role[group(s)]) if s.split == "" and group(s) in role else s for s in samples]


def _in_split(sample, split):
    return dataclasses.replace(sample, split=split)


def _one_role_a_patient(samples):
    """The role that is looked at last wins: test, then calibration, then validation."""
    role = {}
    for sample in samples:
        if sample.split:
            role[sample.group] = max(role.get(sample.group, ""), sample.split, key=("", *SPLITS).index)
    kept, rejections = [], []
    for sample in samples:
        own = role.get(sample.group, "")
        if sample.split == own:
            kept.append(sample)
        elif sample.split == "":
            kept.append(_in_split(sample, own))
        else:
            reason = f"published in {sample.split}, but its patient {sample.group} is also in {own}"
            rejections.append(Rejection(sample.image_id, str(sample.path), reason))
    return kept, rejections


def _deal(samples, shares, seed, group_of):
    """{group: part}: each group goes where its strata are emptiest for their share; large and rare groups first.

    How full a part is counts half of the group to come, as Webster's rule for seats does: without it each small part
    gets a photograph of every rare grade before `train` gets its second. The sum over all grades has a say, too, as
    else what is left over of each grade lies in the same part. Where there are several sources, each source's grades
    are strata beside those of all: every source is dealt by the shares, and so is every grade.
    """
    parts = [part for part, share in shares.items() if share > 0]
    if not parts:
        raise UserError("--shares leaves no split for the photographs that have none")
    weights = np.array([shares[part] for part in parts])
    weights = weights / weights.sum()
    several = len({s.source for s in samples}) > 1
    strata = {name: i for i, name in enumerate(sorted({name for s in samples for name in s.strata(several)}))}
    counts = {}
    for sample in samples:
        count = counts.setdefault(group_of(sample), np.zeros(len(strata)))
        count[[strata[name] for name in sample.strata(several)]] += 1
    totals = np.sum(list(counts.values()), axis=0) if counts else np.zeros(0)
    dealt = np.zeros((len(parts), len(strata)))
    result = {}
    for group in sorted(counts, key=lambda g: (-counts[g].sum(), min(totals[counts[g] > 0]), _draw(seed, g))):
        count = counts[group]
        fill = (dealt + count / 2) / weights[:, None]
        fullness = fill @ (count / totals) + _OVERALL * fill.sum(1) * (count.sum() / totals.sum())
        best = int(np.argmin(fullness.round(9)))
        result[group] = parts[best]
        dealt[best] += count
    return result


def _draw(seed, group):
    """A random order that neither the order of rows nor the Python version moves."""
    return hashlib.sha256(f"{seed}:{group}".encode()).digest()
