"""External validation: leave out images shared with the training data, and add the metrics on the own test split."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.data.cross_set_copies import read_audit
from dr_tf.data.find_records import has_records
from dr_tf.data.joined_records import joined_name
from dr_tf.data.records import JOIN, Records, open_records
from dr_tf.evaluation.evaluation_folder import METRICS, evaluation_folder, read_json
from dr_tf.evaluation.predictions import Predictions
from dr_tf.inference.modes import PLAIN

if TYPE_CHECKING:
    from dr_tf.data.cross_set_copies import Audit

# Kind of a pair in the audit -> why its image is left out.
REASONS = {
    "exact": "the same file as one that the run was fitted on",
    "copy": "a copy of a photograph that the run was fitted on",
    "same_eye": "likely another photograph of an eye that the run was fitted on",
}
_DESCRIPTION = (
    "dataset", "split", "n", "patients", "patients_known", "positives", "negatives", "classes", "thresholds",
)  # fmt: skip


def open_training_records(root: str | os.PathLike, name: str, records: Records) -> Records | None:
    """Return the record set that the run was trained on.

    Args:
        root: folder of all record sets.
        name: name of the run's own record set.
        records: the evaluated record set, which is returned where it is the run's own.

    Returns:
        The record set; None where it is not in `root`.
    """
    if records.name == name:
        return records
    available = all(has_records(root, part) for part in name.split(JOIN))
    return open_records(root, name) if available else None


def shared_images(
    run_dir: str | os.PathLike, training_records: Records | None, records: Records, audit: Audit | None
) -> dict[str, str] | None:
    """Find the images that another record set shares with the data that the run was fitted on.

    The result of the audit is stored in the run, so that it is made once for the same two sets.

    Args:
        run_dir: of the evaluated run.
        training_records: the run's own record set.
        records: the evaluated record set.
        audit: finds images shared by several record sets.

    Returns:
        {image_id in `records`: why it is left out}; None where no audit can be made.
    """
    if audit is None or training_records is None:
        return None
    digest = hashlib.sha256(f"{training_records.fingerprint} {records.fingerprint}".encode()).hexdigest()[:8]
    names = (name.replace("/", "-") for name in (training_records.name, records.name))
    path = pathlib.Path(run_dir) / "evaluation" / f"audit-{'-'.join(names)}-{digest}.csv"
    training_names = {part.name for part in training_records.parts}
    new = [part for part in records.parts if part.name not in training_names]
    folders = [part.directory for part in (*training_records.parts, *new)]
    pairs = read_audit(folders, path, audit) if new else []
    return _fitted_images(training_names, records) | _copies_of_fitted(
        pairs, {_short_folder(part): part for part in new}, records
    )


def _short_folder(part: Records) -> str:
    return "/".join(pathlib.Path(part.directory).parts[-3:])


def _fitted_images(training_names: Collection[str], records: Records) -> dict[str, str]:
    """Return all but the test images of record sets that were themselves part of the training data."""
    columns = records.columns
    fitted_images: dict[str, str] = {}
    for part, first in records.parts_with_first_row():
        if part.name in training_names:
            rows = first + np.flatnonzero(part.columns["split"] != "test")
            names = [columns[f"{eye}/image_id" if eye else "image_id"][rows].tolist() for eye in records.eyes]
            fitted_images |= dict.fromkeys((name for of_eye in names for name in of_eye if name), REASONS["exact"])
    return fitted_images


def _copies_of_fitted(
    pairs: Sequence[Mapping[str, str]], new: Mapping[str, Records], records: Records
) -> dict[str, str]:
    """Return the images that match one of the run's data outside of its test split.

    Pairs are sorted by kind, the most certain first, so that the first reason of an image is kept.
    """
    copies: dict[str, str] = {}
    for pair in pairs:
        training, other = ("b", "a") if pair["set_a"] in new else ("a", "b")
        part, name = new.get(pair[f"set_{other}"]), pair[f"image_{other}"]
        if part and pair[f"set_{training}"] not in new and pair[f"split_{training}"] != "test":
            copies.setdefault(name if part is records else joined_name(part, name), REASONS[pair["kind"]])
    return copies


def leave_out_shared(
    shared: Mapping[str, str] | None, records: Records, rows: np.ndarray, excluded: dict[str, int]
) -> tuple[np.ndarray, dict[str, int]]:
    """Leave out the rows whose image is shared with the training data.

    Args:
        shared: what `shared_images` returned.
        records: the evaluated record set.
        rows: rows of it.
        excluded: {reason: number of images} that are left out already.

    Returns:
        (remaining rows, `excluded` with the shared images counted by reason).

    Raises:
        UserError: if no row remains.
    """
    if not shared:
        return rows, excluded
    names = ["image_id"] if not records.paired else [f"{eye}/image_id" for eye in records.eyes]
    by_eye = [[shared.get(name, "") for name in records.columns[column][rows]] for column in names]
    reasons = np.array([next(filter(None, of_row), "") for of_row in zip(*by_eye, strict=True)])
    if reasons.all():
        raise UserError(f"every labelled photograph of {records.name} is one that the run was fitted on")
    counts = {reason: int((reasons == reason).sum()) for reason in REASONS.values() if (reasons == reason).any()}
    return rows[reasons == ""], excluded | counts


def read_own_test_metrics(run_dir: str | os.PathLike, dataset: str, mode: str = PLAIN) -> dict[str, Any] | None:
    """Read the metrics of an earlier evaluation of the run's own test split.

    The test split is not evaluated here, so that an external validation is no further test-set evaluation.

    Args:
        run_dir: of the run.
        dataset: name of its own record set.
        mode: the prediction mode.

    Returns:
        The content of its metrics.json; None where there is none.

    Raises:
        UserError: if it was written by an earlier version.
    """
    path = evaluation_folder(run_dir, dataset, "test", mode) / METRICS
    files.restore(path.parent)
    return read_json(path) if path.exists() else None


def external_validation(
    predictions: Predictions,
    *,
    dataset: str,
    shared: Mapping[str, str] | None,
    own_test: dict[str, Any] | None,
    prior_prevalence: float | None = None,
) -> dict[str, Any]:
    """Return what metrics.json contains about an external validation: the audit, and the metrics on the own test split.

    Args:
        predictions: on the other data set.
        dataset: name of the run's own record set.
        shared: what `shared_images` returned.
        own_test: what `read_own_test_metrics` returned; left out where it is of another threshold or definition.
        prior_prevalence: the prevalence of positives in the class prior that the run's probabilities are calibrated
            for.
    """
    if own_test and (own_test["thresholds"], own_test["positive"]) != (predictions.thresholds, predictions.positive):
        own_test = None
    if own_test:
        metrics = {name: value for name, value in own_test.items() if isinstance(value, dict) and "method" in value}
        own_test = {key: own_test[key] for key in _DESCRIPTION} | {"metrics": metrics}
    return {
        "audit": None if shared is None else {"dataset": dataset, "shared": len(shared)},
        "prior_prevalence": prior_prevalence,
        "own_test": own_test,
    }
