"""`--split folds`: each photograph by the network that never saw it, and by a rule that never saw its fold.

That rule is the fold's own, fitted by its network on the fold that chose its epoch ("own"). Where every fold kept its last
epoch there is none, and it is fitted on the logits that the other folds' networks gave of their own held-out photographs
("crossed"): those are of another network, whose logits may be of another scale. No test photograph is in any of it: choices
are made on this.
"""

import dataclasses
import pathlib

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import NO_FOLD, open_records
from dr_tf.evaluation.conformal import told_of_folds
from dr_tf.evaluation.figures import figures
from dr_tf.evaluation.folder import folder_of, write_evaluation
from dr_tf.evaluation.judging import conformal_of, predict, stored_photographs, with_intervals
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.report.card import ModelCard
from dr_tf.evaluation.report.words import OF_FOLDS
from dr_tf.inference.fitting import Truth, fit_rule
from dr_tf.inference.rule import PLAIN
from dr_tf.inference.rule_file import read_rule
from dr_tf.inference.run import DECISION, HELD_OUT, MODEL
from dr_tf.models.heads import HEADS
from dr_tf.models.heads.head import positives

FOLDS = "folds"
PROTOCOLS = {
    "crossed": "out-of-fold, rule cross-fitted over folds",
    "own": "out-of-fold, each fold’s own rule from the fold that chose its epoch",
}


@dataclasses.dataclass(frozen=True)
class Fold:
    """What the training of a fold left: its own rule's head and prior, and the logits of what it held out."""

    name: str
    rule: object
    preparation: object
    rows: np.ndarray
    logits: np.ndarray
    dme: np.ndarray | None = None  # logits of the risk of macular edema, where it was learned

    @property
    def calibrated(self):
        return bool(self.rule.mode(PLAIN).report.get("photographs"))


def evaluate_folds(run_dir, records_root, *, prevalence=None, rounds=2000):
    """Writes RUN/evaluation/DATASET-folds and returns (its folder, what was measured)."""
    folds = read_folds(run_dir)
    rule = "own" if all(fold.calibrated for fold in folds) else "crossed"
    records = open_records(records_root, folds[0].preparation.records)
    _check(run_dir, folds, records)
    parts, rules, conformals = zip(*(_judged(i, folds, records, RULES[rule]) for i in range(len(folds))), strict=True)
    predictions, rows = Predictions.joined(parts), np.concatenate([fold.rows for fold in folds])
    metrics = measure(
        predictions,
        excluded=_excluded(records, rows),
        protocol=PROTOCOLS[rule],
        conformal=told_of_folds(conformals),
        prevalence=prevalence,
        rounds=rounds,
    )
    metrics["folds"] = [_figures(*each, rounds) for each in zip(folds, parts, rules, strict=True)]
    folder = folder_of(run_dir, records.name, FOLDS)
    photographs = stored_photographs(records, predictions.ids, rows)
    return write_evaluation(folder, predictions, metrics, card=_card(run_dir, folds), photographs=photographs), metrics


def read_folds(run_dir):
    """Those of the run; the first one's records say how many there are, so that `_check` can name who is missing."""
    paths = sorted(pathlib.Path(run_dir).glob("fold-*"), key=lambda path: (len(path.name), path.name))
    paths = [path for path in paths if all((path / name).exists() for name in (MODEL, DECISION, HELD_OUT))]
    if not paths:
        raise UserError(f"{run_dir} has no finished fold: train them with train.py --folds")
    return [_read(path) for path in paths]


def _read(path):
    rule, preparation = read_rule(path / DECISION, HEADS)
    try:
        with np.load(path / HELD_OUT, allow_pickle=False) as arrays:
            return Fold(path.name, rule, preparation, arrays["rows"], arrays["logits"], arrays.get("dme"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path / HELD_OUT} cannot be read: {error}") from None


def _check(run_dir, folds, records):
    wanted = [f"fold-{number}" for number in np.unique(records.columns["fold"]) if number != NO_FOLD]
    missing = [name for name in wanted if name not in {fold.name for fold in folds}]
    if missing:
        raise UserError(f"{run_dir}: not trained to the end yet: {', '.join(missing)} (train.py --folds {len(wanted)})")
    for fold in folds:
        number = int(fold.name.removeprefix("fold-"))
        if len(fold.rows) and (fold.rows.max() >= len(records) or (records.columns["fold"][fold.rows] != number).any()):
            raise UserError(f"{records.name}: its folds are not those that {run_dir} was trained on")


def _judged(i, folds, records, rule_of):
    """(predictions, rule, conformal) of fold i, of which neither rule nor intervals have seen anything."""
    fold, others = folds[i], folds[:i] + folds[i + 1 :]
    rule, calibration = rule_of(fold, others, folds[i - 1], records)
    conformal = conformal_of(rule.head, calibration)
    risks = None if fold.dme is None else fold.dme.argmax(axis=-1)
    predictions = predict(rule, records, fold.rows, fold.logits, split=FOLDS, risks=risks)
    return with_intervals(predictions, conformal), rule, conformal


def _crossed(fold, others, _, records):
    head, columns = fold.rule.head, records.columns
    rows, logits = (np.concatenate([getattr(other, name) for other in others]) for name in ("rows", "logits"))
    truth = Truth(
        head.strata(columns)[rows], positives(head.positive, columns)[rows], np.asarray(columns["patient_id"])[rows]
    )
    rule = fit_rule(head, {PLAIN: logits}, truth, train_prior=fold.rule.prior, point=fold.rule.point)
    return rule, predict(rule, records, rows, logits, split=FOLDS)


def _own(fold, others, before, records):
    """Intervals are fitted on the other folds as they are judged, but for the one before, whose rule saw this fold."""
    unseen = [other for other in others if other is not before]
    parts = [predict(other.rule, records, other.rows, other.logits, split=FOLDS) for other in unseen]
    return fold.rule, Predictions.joined(parts) if parts else None


RULES = {"crossed": _crossed, "own": _own}


def _excluded(records, rows):
    left = int((records.columns["fold"] != NO_FOLD).sum()) - len(rows)
    return {"its labels are not those that the run learns from": left} if left else {}


def _figures(fold, predictions, rule, rounds):
    point = rule.mode(PLAIN).points[rule.point]
    about = {"fold": fold.name, "n": len(predictions), "patients": len(np.unique(predictions.patients))}
    return (
        about | {"threshold": point.threshold, "note": point.note} | figures(predictions, rounds=rounds, only=OF_FOLDS)
    )


def _card(run_dir, folds):
    preparation, rule = folds[0].preparation, folds[0].rule
    return ModelCard(
        name=pathlib.Path(run_dir).name,
        model=f"{len(folds)} networks, one a fold, {preparation.image_size} pixels",
        trained_on=preparation.records,
        details={"Decision": f"a threshold a fold, for {rule.point.replace('_', ' ')}", "Prior": rule.prior_name},
    )
