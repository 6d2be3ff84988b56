"""Another data set than the run's own: what both share is left out, and the run's own figures stand beside."""

import hashlib
import json
import pathlib

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.cross_set_copies import read_audit
from dr_tf.data.joined_records import joined_name
from dr_tf.data.records import JOIN, open_records
from dr_tf.evaluation.evaluation_folder import folder_of
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
    there = all((pathlib.Path(root) / part).is_dir() for part in name.split(JOIN))
    return open_records(root, name) if there else None


def shared_photographs(run_dir, own, records, audit):
    """{image_id of `records`: why it is left out}, by the audit between the two sets; None where there was none.

    The audit's answer is kept in the run, so that it is asked once for the same two sets.
    """
    if audit is None or own is None:
        return None
    both = hashlib.sha256(f"{own.fingerprint} {records.fingerprint}".encode()).hexdigest()[:8]
    names = (name.replace("/", "-") for name in (own.name, records.name))
    path = pathlib.Path(run_dir) / "evaluation" / f"audit-{'-'.join(names)}-{both}.csv"
    known = {part.name for part in own.parts}
    new = [part for part in records.parts if part.name not in known]
    pairs = read_audit([part.directory for part in (*own.parts, *new)], path, audit) if new else []
    return _own_fitted(known, records) | _fitted_on(pairs, {_folder(part): part for part in new}, records)


def _folder(part):
    return "/".join(pathlib.Path(part.directory).parts[-3:])


def _own_fitted(known, records):
    """Where some of these sets are among several that the run was fitted on: of them only test was not."""
    columns, found = records.columns, {}
    for part, first in records.parts_with_first_row():
        if part.name in known:
            fitted = first + np.flatnonzero(part.columns["split"] != "test")
            names = [columns[f"{eye}/image_id" if eye else "image_id"][fitted].tolist() for eye in records.eyes]
            found |= dict.fromkeys((name for of_eye in names for name in of_eye if name), REASONS["exact"])
    return found


def _fitted_on(pairs, new, records):
    """Only a test photograph of the run was neither fitted nor chosen by. The surest reason stands: kinds come in order."""
    found = {}
    for pair in pairs:
        mine, other = ("b", "a") if pair["set_a"] in new else ("a", "b")
        part, name = new.get(pair[f"set_{other}"]), pair[f"image_{other}"]
        if part and pair[f"set_{mine}"] not in new and pair[f"split_{mine}"] != "test":
            found.setdefault(name if part is records else joined_name(part, name), REASONS[pair["kind"]])
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
        "audit": None if shared is None else {"dataset": name, "shared": len(shared)},
        "prior_prevalence": prior_positive,
        "own_test": own and {key: own[key] for key in _ABOUT} | {"metrics": figures},
    }
