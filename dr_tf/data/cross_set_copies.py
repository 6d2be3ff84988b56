"""Duplicate images across several record sets: copies of a test image of one set are left out of the others.

If two sets hold the same image outside of their test splits, one copy stays: the splits and folds of two sets would
separate the copies.
"""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.data.joined_records import joined_name
from dr_tf.data.records import NO_FOLD, Records
from dr_tf.safe_names import from_csv_cell

LEFT_OUT = "left_out"  # a split that no role takes

Audit = Callable[[Sequence[str], pathlib.Path], object]  # (folders of record sets, csv file to write)

# Kind of a pair in the audit -> relation of an image to the other one.
_KINDS = {"exact": "the same file as", "copy": "a copy of", "same_eye": "likely of the same eye as"}
_TEST, _ELSEWHERE = "a test photograph of another set", "a photograph of a set named before"


def read_audit(folders: Sequence[str], path: str | os.PathLike, audit: Audit) -> list[dict[str, str]]:
    """Return the pairs of matching images across record sets, running the audit unless its result is stored.

    Args:
        folders: folders of the record sets.
        path: csv file that keeps the result.
        audit: function that writes the pairs in these folders to a csv file.
    """
    if not pathlib.Path(path).exists():
        with files.atomic_write(path) as unfinished:
            audit(folders, unfinished)
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: from_csv_cell(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def leave_out_copies(
    records: Records, audit: Audit, path: str | os.PathLike | None = None
) -> tuple[Records, dict[str, int]]:
    """Move the copies among joined record sets to the split LEFT_OUT and out of all folds.

    Args:
        records: several record sets joined into one.
        audit: as `read_audit` takes it.
        path: csv file that keeps the result of the audit; beside the first record set by default.

    Returns:
        The records with new columns, and {reason: number of examples left out}.
    """
    path = path or pathlib.Path(records.directory) / "audits" / f"{records.fingerprint[:16]}.csv"
    pairs = _pairs_of_rows(records, read_audit([part.directory for part in records.parts], path, audit))
    reasons = _reasons(records, pairs)
    counts = {reason: int((reasons == reason).sum()) for reason in dict.fromkeys(reasons.tolist()) if reason}
    _log_counts(records, counts, pairs)
    columns = {
        "split": np.where(reasons == "", records.columns["split"], LEFT_OUT),
        "fold": np.where(reasons == "", records.columns["fold"], NO_FOLD),
    }
    return dataclasses.replace(records, columns=records.columns | columns), counts


def _pairs_of_rows(records, pairs):
    """(kind, row, later row) of each pair, in the order of the audit: the surest kinds first."""
    columns = [records.columns[f"{eye}/image_id" if eye else "image_id"].tolist() for eye in records.eyes]
    row_of = {name: row for names in columns for row, name in enumerate(names)}
    part_of = {"/".join(pathlib.Path(part.directory).parts[-3:]): part for part in records.parts}
    return [
        (pair["kind"], *sorted(row_of[joined_name(part_of[pair[f"set_{s}"]], pair[f"image_{s}"])] for s in "ab"))
        for pair in pairs
    ]


def _reasons(records, pairs):
    """Why each example is left out, text [n]; empty if it stays."""
    reasons, is_test = {}, records.columns["split"] == "test"
    for kind, *rows in pairs:
        if is_test[rows].sum() == 1:
            reasons.setdefault(rows[int(is_test[rows[0]])], f"{_KINDS[kind]} {_TEST}")
    for kind, first, later in pairs:
        if not is_test[[first, later]].any() and not {first, later} & set(reasons):
            reasons[later] = f"{_KINDS[kind]} {_ELSEWHERE}"
    return np.array([reasons.get(row, "") for row in range(len(records))])


def _log_counts(records, counts, pairs):
    is_test = records.columns["split"] == "test"
    both_test = sum(bool(is_test[[first, later]].all()) for _, first, later in pairs)
    text = ", ".join(f"{count} ({reason})" for reason, count in counts.items()) or "none"
    if both_test:
        text += f"; {both_test} pairs are in the test splits of both sets and stay there"
    logging.info("examples of %s left out: %s", records.name, text)
