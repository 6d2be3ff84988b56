"""Apply a decision rule to scored rows of a record set: Decisions, and Predictions beside the true labels."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import Records
from dr_tf.evaluation.metrics.subgroups import subgroup_columns
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.recorded_cases import case_names, image_infos
from dr_tf.inference.conformal import Conformal
from dr_tf.inference.decision import Decision
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.rule import Rule
from dr_tf.inference.run import ScoredRows, read_calibration
from dr_tf.models.heads.head import positive_labels
from dr_tf.models.links import scores_to_probabilities


def decide(
    rule: Rule, records: Records, scored: ScoredRows, *, mode: str = PLAIN, gated: bool = True
) -> list[Decision]:
    """Return the Decision of each scored row, equal to the one that prediction makes of the original image.

    Args:
        rule: the decision rule.
        records: the record set of the rows.
        scored: the network's scores of these rows.
        mode: the prediction mode.
        gated: whether to apply the gate.
    """
    return rule.decide(
        scored.scores,
        cases=case_names(records, scored.rows).tolist(),
        outputs=scored.outputs,
        mode=mode,
        images=image_infos(records, scored.rows) if gated else None,
        distances=scored.distances if gated else None,
    )


def predict(
    rule: Rule,
    records: Records,
    scored: ScoredRows,
    *,
    split: str,
    mode: str = PLAIN,
    uncertainties: dict[str, np.ndarray] | None = None,
    gated: bool = True,
) -> Predictions:
    """Return the Predictions of scored rows, made from the Decisions that prediction would make of the same cases.

    Args:
        rule: the decision rule.
        records: the record set of the rows.
        scored: the network's scores of these rows.
        split: the name of the split to store.
        mode: the prediction mode.
        uncertainties: {name: [n]}, scores that do not follow from the probabilities.
        gated: whether to apply the gate; False where only probabilities are needed.
    """
    rows, head, columns = scored.rows, rule.head, records.columns
    decisions = decide(rule, records, scored, mode=mode, gated=gated)
    probabilities = rule.probabilities(scored.scores, mode)
    p_positive = head.p_positive(probabilities)
    uncalibrated = _uncalibrated(rule, scored.scores, mode)
    operating_points = rule.mode(mode).operating_points[head.positive]
    return Predictions(
        dataset=records.name,
        split=split,
        ids=case_names(records, rows),
        patients=columns["patient_id"][rows],
        patient_known=columns.get("patient_known", np.ones(len(records), bool))[rows],
        classes=head.classes,
        truth=head.true_classes(columns)[rows],
        predicted=_predicted_classes(rule, probabilities, mode),
        probabilities=probabilities,
        positive=head.positive,
        truth_positive=positive_labels(head.positive, columns)[rows],
        p_positive=p_positive,
        threshold=np.asarray(rule.operating_point(mode).threshold),
        refer=np.array([_is_positive(decision, head.positive) for decision in decisions]),
        action=np.array([decision.action for decision in decisions]),
        gradable=np.array([decision.gradable for decision in decisions]),
        reason=np.array([decision.reason for decision in decisions]),
        warning=np.array([decision.warning for decision in decisions]),
        distance=np.array([np.nan if decision.distance is None else decision.distance for decision in decisions]),
        uncalibrated=uncalibrated,
        p_positive_uncalibrated=None if uncalibrated is None else head.p_positive(uncalibrated),
        uncertainty={"entropy": np.array([decision.uncertainty for decision in decisions])} | (uncertainties or {}),
        subgroups={name: values[rows] for name, values in subgroup_columns(columns).items()},
        operating_points={name: p_positive >= point.threshold for name, point in operating_points.items()},
        unit="patient" if records.paired else "photograph",
        **_other_outputs(rule, scored, columns),
    )


def _is_positive(decision: Decision, definition: str) -> bool:
    return bool(decision.label_decisions) and decision.label_decisions[definition].yes


def _predicted_classes(rule: Rule, probabilities: np.ndarray, mode: str) -> np.ndarray:
    """Return the class of each row, whatever the gate decides; for several labels 0 or 1 for each."""
    above = rule.head.definition_probabilities(probabilities) >= rule.thresholds(mode)
    if not rule.head.exclusive:
        return above.astype(int)
    grades = rule.grades(probabilities, {}, mode)
    return above[:, 0].astype(int) if grades is None else grades


def _uncalibrated(rule: Rule, scores: dict[str, np.ndarray], mode: str) -> np.ndarray | None:
    """Return class probabilities before calibration; None for a mean of modes, whose parts are calibrated."""
    if rule.mode(mode).definition.mean:
        return None
    return scores_to_probabilities(rule.mode(mode).calibration.link, scores[mode], len(rule.head.classes))


def _other_outputs(rule: Rule, scored: ScoredRows, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    outputs = [output for output in rule.other_outputs if output in scored.outputs]
    truth = {output: rule.heads[output].true_classes(columns)[scored.rows] for output in outputs}
    probabilities = {output: rule.other_probabilities(output, scored.outputs[output]) for output in outputs}
    return {
        "other_truth": truth,
        "other_predicted": {output: p.argmax(axis=-1) for output, p in probabilities.items()},
        "other_p_positive": {output: p[:, 1] for output, p in probabilities.items() if p.shape[1] == 2},
    }


def calibration_predictions(
    run_dir: str | os.PathLike, rule: Rule, mode: str, records: Records | None
) -> tuple[Predictions | None, np.ndarray]:
    """Return the predictions on the examples that a run's rule was fitted on, from the scores stored with the run.

    These are the calibration split or, for a run refitted on all folds, all out-of-fold scores: the refitted network
    was trained on those images and would be overconfident on them.

    Args:
        run_dir: of the run.
        rule: the run's decision rule.
        mode: the prediction mode.
        records: the run's own record set; None where it is not available.

    Returns:
        (Predictions, or None where nothing was stored for this mode; rows of `records` that the network was trained
        on).

    Raises:
        UserError: if `records` has other calibration images than the run.
    """
    stored = read_calibration(run_dir)
    if stored is None or records is None:
        return None, np.zeros(0, int)
    scored, arrays = stored
    rows, names = scored.rows, case_names(records, np.arange(len(records)))
    if len(rows) and (rows.max() >= len(names) or (names[rows] != arrays["names"]).any()):
        raise UserError(
            f"{run_dir} was trained on other records than {records.name}: its calibration photographs differ"
        )
    if not len(rows) or mode not in rule.modes or not set(rule.requested_modes(mode).modes) <= set(scored.scores):
        return None, arrays["fitted"]
    return predict(rule, records, scored, split="calibration", mode=mode, gated=False), arrays["fitted"]


def summarize_folds(conformals: Sequence[Conformal | None]) -> dict[str, Any] | None:
    """Summarize the conformal predictors of folds as `Conformal.to_dict` does one.

    It holds the thresholds of all folds, the fewest calibration patients of any fold, and the longest of the reasons
    why nothing is guaranteed. None where a fold has no predictor.
    """
    fitted = [conformal for conformal in conformals if conformal is not None]
    if len(fitted) < len(conformals):
        return None
    fewest = tuple(min(counts) for counts in zip(*(each.calibration_patients for each in fitted), strict=True))
    thresholds = tuple(threshold for conformal in fitted for threshold in conformal.thresholds)
    no_guarantee = max((conformal.no_guarantee for conformal in fitted), key=len)
    summary = dataclasses.replace(
        fitted[0], thresholds=thresholds, calibration_patients=fewest, no_guarantee=no_guarantee
    )
    return summary.to_dict()


def add_prediction_intervals(predictions: Predictions, conformal: Conformal | None) -> Predictions:
    """Return the predictions with prediction intervals; unchanged where there is no conformal predictor."""
    if conformal is None:
        return predictions
    return dataclasses.replace(predictions, prediction_intervals=conformal.intervals(predictions.probabilities))
