"""Sources of a record set in the cross-site protocols: which examples are of a source, and which of the others.

A source is what the publisher names (`Records.sources`), or the record set where it names none.
"""

import csv
import pathlib
from collections.abc import Iterable

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.joined_records import joined_name
from dr_tf.data.records import Records
from dr_tf.safe_names import file_stem, from_csv_cell

SPLITS, LEAVE_ONE_OUT, TRAIN_ON_ONE = "splits", "leave_one_source_out", "train_on_one_source"  # train.protocol
FITTED_SPLITS = ("train", "validation", "calibration")  # no test split is used in a cross-site protocol

_FOLDER = "source-"
_FOLDER_BYTES = 100


def source_names(records: Records, usable: np.ndarray) -> list[str]:
    """Return the sources that have usable examples outside of the test split, in alphabetical order.

    Args:
        records: the record set.
        usable: which examples have a label, bool [n].
    """
    return np.unique(records.sources[usable & _not_test(records)]).tolist()


def source_folders(sources: Iterable[str]) -> dict[str, str]:
    """Return {source: name of the folder of its run}.

    Raises:
        UserError: two names differ only in what a folder name cannot show.
    """
    folders: dict[str, str] = {}
    for source in sources:
        folder = _FOLDER + file_stem(source, _FOLDER_BYTES)
        if other := next((name for name, taken in folders.items() if taken.casefold() == folder.casefold()), None):
            raise UserError(f"the sources {other!r} and {source!r} would share the folder {folder}: rename one of them")
        folders[source] = folder
    return folders


def has_source_runs(run_dir: pathlib.Path) -> bool:
    """Return whether a folder holds the runs of a cross-site protocol."""
    return any(run_dir.glob(f"{_FOLDER}*/"))


def divide_by_source(records: Records, usable: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which examples are of a source, and which are of the others.

    One of them is for training and the other is held out. Test examples are in neither. Examples of other sources are in
    neither if the source has the same patient, a copy, or another image of the same eye.

    Args:
        records: the record set.
        usable: which examples have a label, bool [n].
        source: name of the source.

    Returns:
        (bool [n], bool [n]).
    """
    included, is_of_source = usable & _not_test(records), records.sources == source
    of_source = included & is_of_source
    return of_source, included & ~is_of_source & ~_related(records, of_source)


def _not_test(records):
    return np.isin(records.columns["split"], FITTED_SPLITS)


def _related(records, chosen):
    """Which examples show a patient of the chosen ones, or an eye of them by the leak audit of their record set."""
    patients = records.columns["patient_id"]
    related = np.isin(patients, patients[chosen])
    for first, second in _audited_pairs(records):
        related[first] |= chosen[second]
        related[second] |= chosen[first]
    return related


def _audited_pairs(records):
    """Yield the pairs of rows that the audits of the record sets found, where both are in the records.

    The pairs across joined record sets are not among them: `leave_out_copies` leaves out one of each.
    """
    columns = [records.columns[f"{eye}/image_id" if eye else "image_id"].tolist() for eye in records.eyes]
    row_of = {name: row for names in columns for row, name in enumerate(names)}
    for part in records.parts:
        for names in _read_pairs(pathlib.Path(part.directory) / "audit.csv"):
            keys = [joined_name(part, name) if len(records.parts) > 1 else name for name in names]
            if all(key in row_of for key in keys):
                yield tuple(row_of[key] for key in keys)


def _read_pairs(path):
    if not path.exists():  # built with --audit off
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [[from_csv_cell(line[name]) for name in ("image_a", "image_b")] for line in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
