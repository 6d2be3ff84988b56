"""Another data set than the run's own: what both share is left out, and the run's own figures stand beside."""

import csv
import hashlib
import json
import pathlib

import numpy as np

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.data.records import open_records
from dr_tf.evaluation.folder import folder_of
from dr_tf.inference.modes import PLAIN

# Kind of a pair in the audit -> why its photograph is left out.
REASONS = {
    "exact": "the same file as one that the run was fitted on",
    "copy": "a copy of a photograph that the run was fitted on",
    "same_eye": "likely another photograph of an eye that the run was fitted on",
}
_ABOUT = ("dataset", "split", "n", "patients", "patients_known", "positives", "negatives", "classes", "thresholds")


def own_records(root, name, records):
    """`records` where they are the run's own; else those, or None where they are not at hand."""
    if records.name == name:
        return records
    return open_records(root, name) if (pathlib.Path(root) / name).is_dir() else None


def shared_photographs(run_dir, own, records, audit):
    """{image_id of `records`: why it is left out}, by the audit between the two sets; None where there was none.

    The audit's answer is kept in the run, so that it is asked once for the same two sets.
    """
    if audit is None or own is None:
        return None
    both = hashlib.sha256(f"{own.fingerprint} {records.fingerprint}".encode()).hexdigest()[:8]
    names = (name.replace("/", "-") for name in (own.name, records.name))
    path = pathlib.Path(run_dir) / "evaluation" / f"audit-{'-'.join(names)}-{both}.csv"
    if not path.exists():
        with files.appearing(path) as unfinished:
            audit([own.directory, records.directory], unfinished)
    with open(path, newline="", encoding="utf-8") as file:
        return _fitted_on(csv.DictReader(file), "/".join(pathlib.Path(own.directory).parts[-3:]))


def _fitted_on(pairs, own):
    """Only a test photograph of the run was neither fitted nor chosen by. The surest reason stands: kinds come in order."""
    found = {}
    for pair in pairs:
        mine, other = ("a", "b") if pair["set_a"] == own else ("b", "a")
        if pair[f"split_{mine}"] != "test":
            found.setdefault(pair[f"image_{other}"], REASONS[pair["kind"]])
    return found


def without(shared, records, rows, excluded):
    """(rows that share nothing with what was fitted, `excluded` with the others counted by reason)."""
    if not shared:
        return rows, excluded
    names = ["image_id"] if not records.paired else [f"{eye}/image_id" for eye in records.eyes]
    each = [[shared.get(name, "") for name in records.columns[column][rows]] for column in names]
    reasons = np.array([next(filter(None, found), "") for found in zip(*each, strict=True)])
    if reasons.all():
        raise UserError(f"every photograph of {records.name} that could be judged is one that the run was fitted on")
    counts = {reason: int((reasons == reason).sum()) for reason in REASONS.values() if (reasons == reason).any()}
    return rows[reasons == ""], excluded | counts


def beside_own(run_dir, name, predictions, shared, *, mode=PLAIN, prior_positive=None):
    """What the report of an external validation says besides: the audit, and the run's figures on its own test split.

    Its own split is not looked at here: what an earlier evaluation found stands, if the run decided by the same threshold.
    `prior_positive`: how common the positive is in the mix that the run's probabilities are made for.
    """
    path = folder_of(run_dir, name, "test", mode) / "metrics.json"
    own = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if own and (own["thresholds"], own["positive"]) != (predictions.thresholds, predictions.positive):
        own = None
    figures = own and {key: value for key, value in own.items() if isinstance(value, dict) and "method" in value}
    return {
        "audit": None if shared is None else {"of": name, "shared": len(shared)},
        "prior_positive": prior_positive,
        "own": own and {key: own[key] for key in _ABOUT} | {"figures": figures},
    }
