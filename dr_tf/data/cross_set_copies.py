"""Photographs that several record sets share: what stands in the test split of one set is left out of the others.

Of a photograph that two sets hold outside of their test splits one stays, as their splits and folds tear it apart.
"""

import csv
import dataclasses
import pathlib

import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.data.joined_records import name_in
from dr_tf.data.records import NO_FOLD

LEFT_OUT = "left_out"  # a split that no role takes

# Kind of a pair in the audit -> what a photograph is beside the other one.
_KINDS = {"exact": "the same file as", "copy": "a copy of", "same_eye": "likely of the same eye as"}
_TEST, _ELSEWHERE = "a test photograph of another set", "a photograph of a set named before"


def audited(folders, path, audit):
    """The pairs, a dictionary each, that `audit` finds across the record sets in `folders`.

    `audit(folders, path)` writes them. They are kept at `path`, so that it is asked once.
    """
    if not pathlib.Path(path).exists():
        with files.appearing(path) as unfinished:
            audit(folders, unfinished)
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_shared(records, audit, path=None):
    """(`records`, {reason: how many examples of them are in split LEFT_OUT and no fold now}).

    `audit` and `path` as `audited` takes them; `path` is beside the first record set where it is not given.
    """
    path = path or pathlib.Path(records.directory) / "audits" / f"{records.fingerprint[:16]}.csv"
    pairs = _by_rows(records, audited([part.directory for part in records.parts], path, audit))
    reasons = _reasons(records, pairs)
    counts = {reason: int((reasons == reason).sum()) for reason in dict.fromkeys(reasons.tolist()) if reason}
    _tell(records, counts, pairs)
    columns = {
        "split": np.where(reasons == "", records.columns["split"], LEFT_OUT),
        "fold": np.where(reasons == "", records.columns["fold"], NO_FOLD),
    }
    return dataclasses.replace(records, columns=records.columns | columns), counts


def _by_rows(records, pairs):
    """(kind, row, later row) of each pair, the surest kinds first, as the audit has them."""
    columns = [records.columns[f"{eye}/image_id" if eye else "image_id"].tolist() for eye in records.eyes]
    row_of = {name: row for names in columns for row, name in enumerate(names)}
    part_of = {"/".join(pathlib.Path(part.directory).parts[-3:]): part for part in records.parts}
    return [
        (pair["kind"], *sorted(row_of[name_in(part_of[pair[f"set_{s}"]], pair[f"image_{s}"])] for s in "ab"))
        for pair in pairs
    ]


def _reasons(records, pairs):
    """Text [n]: why an example is left out, empty where it stays."""
    found, test = {}, records.columns["split"] == "test"
    for kind, *rows in pairs:
        if test[rows].sum() == 1:
            found.setdefault(rows[int(test[rows[0]])], f"{_KINDS[kind]} {_TEST}")
    for kind, first, later in pairs:
        if not test[[first, later]].any() and not {first, later} & set(found):
            found[later] = f"{_KINDS[kind]} {_ELSEWHERE}"
    return np.array([found.get(row, "") for row in range(len(records))])


def _tell(records, counts, pairs):
    test = records.columns["split"] == "test"
    twice = sum(bool(test[[first, later]].all()) for _, first, later in pairs)
    said = ", ".join(f"{count} ({reason})" for reason, count in counts.items()) or "none"
    if twice:
        said += f"; {twice} pairs stand in the test splits of both sets, and stay there"
    logging.info("examples of %s that are left out: %s", records.name, said)
