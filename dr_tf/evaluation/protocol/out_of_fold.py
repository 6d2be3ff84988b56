"""`--split folds`: each photograph by the network that never saw it, and by a rule that never saw its fold.

That rule is the fold's own, fitted by its network on patients of another fold that did not choose its epoch ("own"). Where
every fold kept its last epoch there is none, and it is fitted on what the other folds' networks scored to their own held-out
photographs ("crossed"): those are other networks, whose logits may be of another scale. No test photograph is in any of it: choices
are made on this.
"""

import dataclasses
import pathlib

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import NO_FOLD, open_records
from dr_tf.evaluation.decisions import conformal_of, predict, stored_photographs, with_intervals
from dr_tf.evaluation.evaluation_folder import folder_of, write_evaluation
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.metrics.compute import compute_metrics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.report.display_names import OF_FOLDS
from dr_tf.evaluation.report.model_card import ModelCard
from dr_tf.evaluation.statistics.conformal import summarize_folds
from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule, reason_for_no_guarantee
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.rule_file import read_rule
from dr_tf.inference.run import DECISION, HELD_OUT, MODEL, ScoredRows, read_scored_rows
from dr_tf.models.heads import HEADS

FOLDS = "folds"
PROTOCOLS = {
    "crossed": "out-of-fold, rule cross-fitted over folds",
    "own": "out-of-fold, each fold’s own rule, from patients of another fold that chose no epoch",
}


@dataclasses.dataclass(frozen=True)
class Fold:
    """What the training of a fold left: its own rule, and what its network scored to what it held out."""

    name: str
    rule: object
    preparation: object
    scored: ScoredRows

    @property
    def rows(self):
        return self.scored.rows

    @property
    def calibrated(self):
        return bool(self.rule.mode(PLAIN).report.get("images"))


def evaluate_folds(run_dir, records_root, *, prevalence=None, bootstrap_samples=2000):
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
        conformal=summarize_folds(conformals),
        prevalence=prevalence,
        bootstrap_samples=bootstrap_samples,
    )
    metrics["folds"] = [_figures(*each, bootstrap_samples) for each in zip(folds, parts, rules, strict=True)]
    heads = folds[0].rule.heads
    metrics["other_outputs"] = {output: list(heads[output].classes) for output in predictions.other_truth}
    folder = folder_of(run_dir, records.name, FOLDS)
    photographs = stored_photographs(records, predictions.ids, rows)
    return write_evaluation(
        folder, predictions, metrics, card=_card(run_dir, folds, rules), photographs=photographs
    ), metrics


def read_folds(run_dir):
    """Those of the run; the first one's records say how many there are, so that `_check` can name who is missing."""
    paths = [path for path in pathlib.Path(run_dir).glob("fold-*") if path.name.removeprefix("fold-").isdecimal()]
    paths.sort(key=lambda path: int(path.name.removeprefix("fold-")))
    paths = [path for path in paths if all((path / name).exists() for name in (MODEL, DECISION, HELD_OUT))]
    if not paths:
        raise UserError(f"{run_dir} has no finished fold: train them with train.py --folds")
    return [_read(path) for path in paths]


def _read(path):
    rule, preparation = read_rule(path / DECISION, HEADS)
    return Fold(path.name, rule, preparation, read_scored_rows(path / HELD_OUT)[0])


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
    answered_by_others = np.concatenate([other.rows for other in others])
    conformal = conformal_of(rule.head, calibration, reason_for_no_guarantee(records.columns, answered_by_others, other_networks=True))
    predictions = predict(rule, records, fold.scored, split=FOLDS)
    return with_intervals(predictions, conformal), rule, conformal


def _crossed(fold, others, _, records):
    """Fitted on the answers of the other folds' networks: nothing is guaranteed of this one's."""
    rule, columns = fold.rule, records.columns
    scored = ScoredRows.concatenate([other.scored for other in others])
    rows = scored.rows
    fitted = fit_rule(
        rule.heads,
        rule.decides,
        {PLAIN: scored.scores[PLAIN]},
        CalibrationLabels.from_records(rule.heads, rule.decides, columns, rows),
        train_prior=rule.prior,
        operating_point=rule.operating_point_name,
        distances=scored.distances,
        outputs={output: scored.outputs[output] for output in rule.other_outputs},
        other_priors={output: other.prior for output, other in rule.other_outputs.items()},
        no_guarantee=reason_for_no_guarantee(columns, rows, other_networks=True),
    )
    return fitted, predict(fitted, records, scored, split=FOLDS, gated=False)


def _own(fold, others, before, records):
    """Intervals are fitted on the other folds as they are judged, but for the one before, whose rule saw this fold."""
    unseen = [other for other in others if other is not before]
    parts = [predict(other.rule, records, other.scored, split=FOLDS, gated=False) for other in unseen]
    return fold.rule, Predictions.joined(parts) if parts else None


RULES = {"crossed": _crossed, "own": _own}


def _excluded(records, rows):
    left = int((records.columns["fold"] != NO_FOLD).sum()) - len(rows)
    return {"its labels are not those that the run learns from": left} if left else {}


def _figures(fold, predictions, rule, bootstrap_samples):
    point = rule.operating_point()
    about = {"fold": fold.name, "n": len(predictions), "patients": len(np.unique(predictions.patients))}
    return (
        about
        | {"threshold": point.threshold, "note": point.note}
        | compute_metrics(predictions, bootstrap_samples=bootstrap_samples, only=OF_FOLDS)
    )


def _card(run_dir, folds, rules):
    preparation, rule = folds[0].preparation, rules[0]
    promised = all(each.operating_point().guaranteed for each in rules)
    why = f": {rule.no_guarantee}" if rule.no_guarantee else ""
    return ModelCard(
        name=pathlib.Path(run_dir).name,
        model=f"{len(folds)} networks, one a fold, {preparation.image_size} pixels",
        trained_on=preparation.records,
        details={
            "Decision": f"a threshold a fold, for {rule.operating_point_name.replace('_', ' ')}, {'' if promised else 'not '}guaranteed{why}",
            "Prior": rule.prior_name,
        },
    )
