"""The evaluation set: which rows of which record set are evaluated, and what is left out for which reason."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import JOIN, Records, open_records
from dr_tf.evaluation.protocol.external import leave_out_shared, open_training_records, shared_images
from dr_tf.grades import ABSENT
from dr_tf.inference.preparation import Preparation
from dr_tf.models.heads.head import positive_labels

if TYPE_CHECKING:
    from dr_tf.data.cross_set_copies import Audit
    from dr_tf.models.heads.head import Head

ALL = "all"
EXTERNAL = "external validation, nothing refitted"


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationSet:
    """The evaluated rows of a record set.

    Attributes:
        records: the evaluated record set.
        split: name of the split, or "all".
        rows: the evaluated rows. None if no label is known and only maps are to be scored.
        map_rows: the rows whose maps are scored: also those without a label.
        excluded: {reason: number of images that are left out}.
        training_records: the run's own record set; None where it is not available.
        shared: {image shared with the training data: why it is left out}; None where no audit was made.
        caveats: what a reader of the metrics has to know about this set.
    """

    records: Records
    split: str
    rows: np.ndarray
    map_rows: np.ndarray
    excluded: dict[str, int]
    training_records: Records | None
    shared: dict[str, str] | None = None
    caveats: tuple[str, ...] = ()

    @property
    def external(self) -> bool:
        """Whether this is another data set than the run's own."""
        return self.training_records is not self.records

    @property
    def protocol(self) -> str:
        """How the predictions are independent of training, where the split does not make it plain."""
        return EXTERNAL if self.external else ""


def open_evaluation_set(
    run_dir: str | os.PathLike,
    root: str | os.PathLike,
    head: Head,
    preparation: Preparation,
    *,
    dataset: str | None,
    split: str,
    audit: Audit | None,
    maps: bool = False,
    other_heads: Collection[Head] = (),
) -> EvaluationSet:
    """Open the record set to evaluate and choose its rows.

    Args:
        run_dir: of the evaluated run.
        root: folder of all record sets.
        head: the head that decides.
        preparation: of the run.
        dataset: NAME/CONFIG of another record set than the run's own; None: its own.
        split: name of the split, or of several as in "train+validation"; "all" for every split of another data set.
        audit: finds images shared by several record sets; None: no audit is made.
        maps: whether maps are scored, for which no label is needed.
        other_heads: the heads that do not decide. Where no label is known for the one that decides, the rows with a label
            for one of these are chosen.

    Raises:
        UserError: if the records were prepared in another way, or no row can be evaluated.
    """
    records = open_records(root, dataset or preparation.records)
    records_preparation = _check_enhancement(records, preparation)
    training_records = open_training_records(root, preparation.records, records)
    map_rows = _split_rows(records, split, training_records)
    caveats: tuple[str, ...] = ()
    try:
        rows, excluded = labelled_rows(records, map_rows, head, split=split)
    except UserError:
        rows, excluded = _labelled_for_any(other_heads, records, map_rows), {}
        if not len(rows) and not maps:
            raise
        if len(rows):
            caveats = (f"No label determines whether a case is {head.positive}: only the other outputs are measured.",)
    if training_records is records:
        return EvaluationSet(records, split, rows, map_rows, excluded, training_records, caveats=caveats)
    shared = shared_images(run_dir, training_records, records, audit)
    map_rows, left_out = leave_out_shared(shared, records, map_rows, {})
    rows, excluded = leave_out_shared(shared, records, rows, excluded) if len(rows) else (rows, left_out)
    caveats += tuple(_preparation_caveat(records_preparation, preparation))
    return EvaluationSet(records, split, rows, map_rows, excluded, training_records, shared, caveats)


def _labelled_for_any(heads: Collection[Head], records: Records, rows: np.ndarray) -> np.ndarray:
    known = [head.has_label(records.columns)[rows] for head in heads]
    return rows[np.any(known, axis=0)] if known else rows[:0]


def labelled_rows(records: Records, rows: np.ndarray, head: Head, *, split: str) -> tuple[np.ndarray, dict[str, int]]:
    """Select the rows with a known true label.

    Args:
        records: the evaluated record set.
        rows: the rows of the split.
        head: the head that decides.
        split: name of the split, for messages.

    Returns:
        (rows, {reason: number of images that are left out}).

    Raises:
        UserError: if no label determines positives, or if they determine only positives or only negatives beside
            unknowns.
    """
    labels = positive_labels(head.positive, records.columns)[rows]
    known = (labels != ABSENT) | head.has_label(records.columns)[rows]
    if not known.any():
        raise UserError(
            f"no label of {records.name}, {split}, determines whether a photograph is {head.positive}; with --explain, "
            "maps are scored without labels"
        )
    if len(values := set(labels.tolist())) == 2 and ABSENT in values:
        missing = "not " if 1 in values else ""
        raise UserError(
            f"no label of {records.name}, {split}, determines that a photograph is {missing}{head.positive}"
        )
    unknown = int((~known).sum())
    return rows[known], {f"the label does not determine whether it is {head.positive}": unknown} if unknown else {}


def _preparation_caveat(records_preparation: Preparation, preparation: Preparation) -> Iterator[str]:
    made, expected = (f"{each.size} pixels, JPEG quality {each.quality}" for each in (records_preparation, preparation))
    if made != expected:
        yield (
            f"These records were made at {made}; the run prepares original images at {expected}, so that its "
            "predictions on the originals may differ."
        )


def _check_enhancement(records: Records, preparation: Preparation) -> Preparation:
    """Return the Preparation of the records; refuse another enhancement than the run's."""
    records_preparation = Preparation.from_records_name(records.name, preparation.image_size)
    if records_preparation.enhancement != preparation.enhancement:
        raise UserError(
            f"{records.name} has photographs enhanced by {records_preparation.enhancement!r}, the run was trained on "
            f"{preparation.enhancement!r}: build the records the same way"
        )
    return records_preparation


def _split_rows(records: Records, split: str, training_records: Records | None) -> np.ndarray:
    if "test" in (names := split.split(JOIN)) and len(names) > 1:
        raise UserError(f"--split {split}: a test split is evaluated by itself")
    if split != ALL:
        return records.rows(split)
    if training_records is records:
        raise UserError(f"--split {ALL} is for another data set than {records.name}, on which the run was trained")
    return np.arange(len(records))
