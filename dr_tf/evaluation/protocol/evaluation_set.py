"""Who is evaluated: which rows of which records, and what was left out of them for which reason."""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.evaluation.decisions import known_rows
from dr_tf.evaluation.protocol.external import own_records, shared_photographs, without
from dr_tf.inference.preparation import Preparation

ALL = "all"
EXTERNAL = "external validation, nothing refitted"


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationSet:
    records: object
    split: str
    rows: np.ndarray
    excluded: dict  # reason -> number of photographs
    own: object  # the run's own records; None where they are not at hand
    shared: dict | None = None  # with what was fitted, as external.shared_photographs gives it
    caveats: tuple[str, ...] = ()

    @property
    def external(self):
        return self.own is not self.records

    @property
    def protocol(self):
        return EXTERNAL if self.external else ""


def open_evaluation_set(run_dir, root, head, preparation, *, dataset, split, audit):
    """`audit` as `evaluate` takes it."""
    records = open_records(root, dataset or preparation.records)
    made = _check(records, preparation)
    own = own_records(root, preparation.records, records)
    rows, excluded = known_rows(records, _rows(records, split, own), head, where=split)
    if own is records:
        return EvaluationSet(records, split, rows, excluded, own)
    shared = shared_photographs(run_dir, own, records, audit)
    return EvaluationSet(
        records, split, *without(shared, records, rows, excluded), own, shared, tuple(_unlike(made, preparation))
    )


def _unlike(made, preparation):
    """What the records were made by that the run does not do to originals."""
    said = [f"{one.size} pixels, JPEG quality {one.quality}" for one in (made, preparation)]
    if said[0] != said[1]:
        yield (
            f"These records were made at {said[0]}; the run prepares originals at {said[1]}, so what it would say of the "
            "originals may differ."
        )


def _check(records, preparation):
    """The Preparation that the records had."""
    made = Preparation.from_records_name(records.name, preparation.image_size)
    if made.enhancement != preparation.enhancement:
        raise UserError(
            f"{records.name} holds photographs enhanced by {made.enhancement!r}, the run learned from "
            f"{preparation.enhancement!r}: build the records the same way"
        )
    return made


def _rows(records, split, own):
    if split != ALL:
        return records.rows(split)
    if own is records:
        raise UserError(f"--split {ALL} is for another data set than {records.name}, on which the run was fitted")
    return np.arange(len(records))
