"""Out-of-fold evaluation (`--split folds`): each example by the network and the rule of a fold that never saw it.

With "own", the rule is the fold's own. Its network's calibration patients come from another fold that did not choose
its epoch. Where every fold kept its last epoch there are no calibration patients. The rule is then "crossed": fitted
on what the networks of the other folds scored on their own held-out images. These are other networks, whose logits may
be of another scale. Test images are never used, so that choices can be based on this evaluation.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import NO_FOLD, Records, open_records
from dr_tf.evaluation.evaluation_folder import evaluation_folder, write_evaluation
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES, compute_metrics
from dr_tf.evaluation.predict_records import add_prediction_intervals, predict, summarize_folds
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.recorded_cases import encoded_images
from dr_tf.evaluation.report.display_names import OF_FOLDS
from dr_tf.evaluation.report.model_card import ModelCard
from dr_tf.inference.conformal import Conformal
from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule, reason_for_no_guarantee
from dr_tf.inference.modes import PLAIN, mode_definition
from dr_tf.inference.operating_points import OperatingPoint
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule import Rule
from dr_tf.inference.rule_file import read_rule
from dr_tf.inference.run import DECISION, HELD_OUT, MODEL, ScoredRows, read_scored_rows
from dr_tf.models.heads import HEADS

FOLDS = "folds"
PROTOCOLS = {
    "crossed": "out-of-fold, rule cross-fitted over folds",
    "own": "out-of-fold, each fold’s own rule, calibrated on patients of another fold that chose no epoch",
}


@dataclasses.dataclass(frozen=True)
class Fold:
    """A trained run that holds out a fold or sources.

    Attributes:
        name: such as "fold-0" or "source-idrid".
        rule: its own decision rule.
        preparation: of its images.
        scored: its network's scores of the examples it held out.
    """

    name: str
    rule: Rule
    preparation: Preparation
    scored: ScoredRows

    @property
    def rows(self) -> np.ndarray:
        """The held-out rows."""
        return self.scored.rows

    @property
    def calibrated(self) -> bool:
        """Whether its own rule was fitted on calibration images."""
        return bool(self.rule.mode(PLAIN).report.get("images"))


def evaluate_folds(
    run_dir: str | os.PathLike,
    records_root: str | os.PathLike,
    *,
    mode: str = PLAIN,
    prevalence: float | None = None,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
) -> tuple[pathlib.Path, dict[str, Any]]:
    """Evaluate a run of folds and write RUN/evaluation/DATASET-folds, or -folds-MODE.

    Args:
        run_dir: of a run by `train.py --folds`.
        records_root: folder of all record sets.
        mode: the prediction mode, one of those in train.modes.
        prevalence: for PPV and NPV at that prevalence.
        bootstrap_samples: number of bootstrap samples.

    Returns:
        (the folder, the content of metrics.json).

    Raises:
        UserError: if folds are missing, were not scored in this mode, or the records have other folds.
    """
    folds = read_folds(run_dir)
    records = open_records(records_root, folds[0].preparation.records)
    protocol, by_fold = predict_folds(run_dir, folds, records, mode)
    parts, rules, conformals = zip(*by_fold, strict=True)
    predictions, rows = Predictions.concatenate(parts), np.concatenate([fold.rows for fold in folds])
    metrics = measure(
        predictions,
        excluded=_excluded(records, rows),
        protocol=PROTOCOLS[protocol],
        conformal=summarize_folds(conformals),
        prevalence=prevalence,
        bootstrap_samples=bootstrap_samples,
    )
    metrics["folds"] = [
        fold_metrics(fold, part, rule.operating_point(mode), bootstrap_samples)
        for fold, part, rule in zip(folds, parts, rules, strict=True)
    ]
    metrics["mode"] = mode
    heads = folds[0].rule.heads
    metrics["other_outputs"] = {output: list(heads[output].classes) for output in predictions.other_truth}
    folder = evaluation_folder(run_dir, records.name, FOLDS, mode)
    images = encoded_images(records, predictions.ids, rows)
    card = _model_card(run_dir, folds, rules, mode)
    return write_evaluation(folder, predictions, metrics, card=card, images=images), metrics


def predict_folds(
    run_dir: str | os.PathLike, folds: Sequence[Fold], records: Records, mode: str = PLAIN
) -> tuple[str, list[tuple[Predictions, Rule, Conformal | None]]]:
    """Predict each fold's examples by its own network, and a rule and a conformal predictor that never saw them.

    Args:
        run_dir: of the run.
        folds: what `read_folds` returned.
        records: the record set of the run.
        mode: the prediction mode.

    Returns:
        (a name in PROTOCOLS, [(predictions, rule, conformal predictor) of each fold]).

    Raises:
        UserError: if folds are missing, were not scored in this mode, or the records have other folds.
    """
    check_scored(run_dir, folds, mode)
    _check(run_dir, folds, records)
    protocol = "own" if all(fold.calibrated for fold in folds) else "crossed"
    return protocol, [_evaluate_fold(i, folds, records, RULES[protocol], mode) for i in range(len(folds))]


def read_folds(run_dir: str | os.PathLike) -> list[Fold]:
    """Read the finished folds of a run, in order.

    Raises:
        UserError: if there is none.
    """
    paths = [path for path in pathlib.Path(run_dir).glob("fold-*") if path.name.removeprefix("fold-").isdecimal()]
    paths.sort(key=lambda path: int(path.name.removeprefix("fold-")))
    paths = [path for path in paths if all((path / name).exists() for name in (MODEL, DECISION, HELD_OUT))]
    if not paths:
        raise UserError(f"{run_dir} has no finished fold: train them with train.py --folds")
    return [read_fold(path) for path in paths]


def read_fold(path: pathlib.Path) -> Fold:
    """Read a finished run that holds examples out.

    Raises:
        UserError: if a file is missing or cannot be read.
    """
    rule, preparation = read_rule(path / DECISION, HEADS)
    held_out = read_scored_rows(path / HELD_OUT)
    if held_out is None:
        raise UserError(f"{path / HELD_OUT} cannot be read: no such file")
    return Fold(path.name, rule, preparation, held_out[0])


def _check(run_dir: str | os.PathLike, folds: Sequence[Fold], records: Records) -> None:
    """Refuse missing folds, which are known from the records, and folds of other records."""
    expected = [f"fold-{number}" for number in np.unique(records.columns["fold"]) if number != NO_FOLD]
    missing = [name for name in expected if name not in {fold.name for fold in folds}]
    if missing:
        raise UserError(
            f"{run_dir}: training is not finished for {', '.join(missing)} (train.py --folds {len(expected)})"
        )
    for fold in folds:
        number = int(fold.name.removeprefix("fold-"))
        if len(fold.rows) and (fold.rows.max() >= len(records) or (records.columns["fold"][fold.rows] != number).any()):
            raise UserError(f"{records.name}: its folds are not those that {run_dir} was trained on")


def check_scored(run_dir: str | os.PathLike, folds: Sequence[Fold], mode: str) -> None:
    """Raise UserError if the folds were not scored in a mode, naming those that they were scored in."""
    rule, scores = folds[0].rule, folds[0].scored.scores
    definition = mode_definition(mode, rule.heads, rule.decides)
    if any(part not in scores for part in definition.mean or (mode,)):
        raise UserError(f"{run_dir} was not scored in mode {mode!r} (train.modes); it was in {', '.join(scores)}")


FitRule = Callable[[Fold, Sequence[Fold], Records, str], Rule]


def _evaluate_fold(
    i: int, folds: Sequence[Fold], records: Records, fit: FitRule, mode: str
) -> tuple[Predictions, Rule, Conformal | None]:
    """Return the predictions on fold i, the rule and the conformal predictor, both independent of that fold."""
    fold, others = folds[i], [*folds[:i], *folds[i + 1 :]]
    rule = fit(fold, others, records, mode)
    conformal = rule.mode(mode).conformal
    predictions = predict(rule, records, fold.scored, split=FOLDS, mode=mode)
    return add_prediction_intervals(predictions, conformal), rule, conformal


def _crossed_rule(fold: Fold, others: Sequence[Fold], records: Records, mode: str) -> Rule:
    """Fit a rule on the scores of the other folds' networks, so that nothing is guaranteed for this fold's network."""
    rule, columns = fold.rule, records.columns
    scored = ScoredRows.concatenate([other.scored for other in others])
    return fit_rule(
        rule.heads,
        rule.decides,
        scored.scores,
        CalibrationLabels.from_records(rule.heads, rule.decides, columns, scored.rows),
        modes=(PLAIN, mode),
        train_prior=rule.prior,
        operating_point=rule.operating_point_name,
        distances=scored.distances,
        outputs={output: scored.outputs[output] for output in rule.other_outputs},
        other_priors={output: other.prior for output, other in rule.other_outputs.items()},
        no_guarantee=reason_for_no_guarantee(columns, scored.rows, other_networks=True),
    )


def _own_rule(fold: Fold, others: Sequence[Fold], records: Records, mode: str) -> Rule:
    """Return the fold's own rule, which was calibrated on patients of another fold."""
    del others, records, mode
    return fold.rule


RULES: dict[str, FitRule] = {"crossed": _crossed_rule, "own": _own_rule}


def _excluded(records: Records, rows: np.ndarray) -> dict[str, int]:
    excluded = int((records.columns["fold"] != NO_FOLD).sum()) - len(rows)
    return {"without a label that the run is trained on": excluded} if excluded else {}


def fold_metrics(fold: Fold, predictions: Predictions, point: OperatingPoint, bootstrap_samples: int) -> dict[str, Any]:
    """Return the threshold of a fold and the main metrics of its held-out examples."""
    return {
        "fold": fold.name,
        "n": len(predictions),
        "patients": len(np.unique(predictions.patients)),
        "threshold": point.threshold,
        "note": point.note,
        **compute_metrics(predictions, bootstrap_samples=bootstrap_samples, only=OF_FOLDS),
    }


def _model_card(run_dir: str | os.PathLike, folds: Sequence[Fold], rules: Sequence[Rule], mode: str) -> ModelCard:
    preparation, rule = folds[0].preparation, rules[0]
    guaranteed = all(each.operating_point(mode).guaranteed for each in rules)
    reason = f": {rule.no_guarantee}" if rule.no_guarantee else ""
    return ModelCard(
        name=pathlib.Path(run_dir).name,
        model=f"{len(folds)} networks, one per fold, {preparation.image_size} pixels",
        trained_on=preparation.records,
        details={
            "Mode": mode,
            "Decision": f"a threshold per fold, for {rule.operating_point_name.replace('_', ' ')}, "
            f"{'' if guaranteed else 'not '}guaranteed{reason}",
            "Prior": rule.prior_name,
        },
    )
