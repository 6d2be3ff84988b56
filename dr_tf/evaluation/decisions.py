"""Decisions and Predictions of a rule on rows of a record set, beside the true labels."""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.metrics.subgroups import subgroup_columns
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.recorded_cases import names_of, recorded_images
from dr_tf.evaluation.statistics.conformal import fit_conformal
from dr_tf.grades import ABSENT
from dr_tf.inference.modes import PLAIN
from dr_tf.models.heads.head import positive_labels
from dr_tf.models.links import scores_to_probabilities

ALPHA = 0.1


def known_rows(records, rows, head, *, where):
    """(those of `rows` that have a truth, {reason: number of those left out})."""
    truth = positive_labels(head.positive, records.columns)[rows]
    known = (truth != ABSENT) | head.has_label(records.columns)[rows]
    if not known.any():
        raise UserError(f"no label of {records.name}, {where}, says whether a photograph is {head.positive}")
    if len(told := set(truth.tolist())) == 2 and ABSENT in told:
        never = "not " if 1 in told else ""
        raise UserError(f"no label of {records.name}, {where}, ever says that a photograph is {never}{head.positive}")
    left = int((~known).sum())
    return rows[known], {f"its labels do not say whether it is {head.positive}": left} if left else {}


def decisions_of(rule, records, scored, *, mode=PLAIN, gated=True):
    """The Decision of each of the `scored` rows: the very one that prediction gives of the originals."""
    return rule.decide(
        scored.scores,
        cases=names_of(records, scored.rows),
        outputs=scored.outputs,
        mode=mode,
        images=recorded_images(records, scored.rows) if gated else None,
        distances=scored.distances if gated else None,
    )


def predict(rule, records, scored, *, split, mode=PLAIN, uncertainties=None, gated=True):
    """The Predictions that the rule makes of what was `scored` (`dr_tf.inference.run.ScoredRows`) to rows of the records.

    Every column is read off the Decisions that prediction gives of the same cases, gate included.

    Args:
        uncertainties: {name: [n]} of what the probabilities alone do not tell.
        gated: False leaves the gate out, where only probabilities are asked for.
    """
    rows, head, columns = scored.rows, rule.head, records.columns
    decisions = decisions_of(rule, records, scored, mode=mode, gated=gated)
    probabilities = rule.probabilities(scored.scores, mode)
    p_positive = head.p_positive(probabilities)
    raw = _uncalibrated(rule, scored.scores, mode)
    return Predictions(
        dataset=records.name,
        split=split,
        ids=names_of(records, rows),
        patients=columns["patient_id"][rows],
        patient_known=columns.get("patient_known", np.ones(len(records), bool))[rows],
        classes=head.classes,
        truth=head.true_classes(columns)[rows],
        predicted=_decided(rule, probabilities, mode),
        probabilities=probabilities,
        positive=head.positive,
        truth_positive=positive_labels(head.positive, columns)[rows],
        p_positive=p_positive,
        threshold=rule.operating_point(mode).threshold,
        refer=[
            bool(decision.label_decisions) and decision.label_decisions[head.positive].yes for decision in decisions
        ],
        action=[decision.action for decision in decisions],
        gradable=[decision.gradable for decision in decisions],
        reason=[decision.reason for decision in decisions],
        distance=[np.nan if decision.distance is None else decision.distance for decision in decisions],
        uncalibrated=raw,
        p_positive_uncalibrated=None if raw is None else head.p_positive(raw),
        uncertainty={"entropy": [decision.uncertainty for decision in decisions]} | (uncertainties or {}),
        subgroups={name: values[rows] for name, values in subgroup_columns(columns).items()},
        operating_points={name: p_positive >= point.threshold for name, point in rule.mode(mode).operating_points[head.positive].items()},
        unit="patient" if records.paired else "photograph",
        **_others(rule, scored, columns),
    )


def _decided(rule, probabilities, mode):
    """The class of each, whatever the gate says of its photograph; of several labels yes or no to each."""
    answers = rule.head.definition_probabilities(probabilities) >= rule.thresholds(mode)
    if not rule.head.exclusive:
        return answers.astype(int)
    grades = rule.grades(probabilities, {}, mode)
    return answers[:, 0].astype(int) if grades is None else grades


def _uncalibrated(rule, scores, mode):
    """Class probabilities before any calibration; None of a mean, which has none."""
    if rule.mode(mode).definition.mean:
        return None
    return scores_to_probabilities(rule.mode(mode).calibration.link, scores[mode], len(rule.head.classes))


def _others(rule, scored, columns):
    """CalibrationLabels and prediction of the outputs that do not decide."""
    told = [output for output in rule.other_outputs if output in scored.outputs]
    truth = {output: rule.heads[output].true_classes(columns)[scored.rows] for output in told}
    decided = {output: rule.other_probabilities(output, scored.outputs[output]).argmax(axis=-1) for output in told}
    return {"other_truth": truth, "other_predicted": decided}


def conformal_of(head, calibration, no_guarantee):
    """Fitted on the predictions of calibration photographs; None where classes are no scale, or there is nobody.
    `no_guarantee`: why nothing that is set on them is guaranteed, if so."""
    if calibration is None or len(head.classes) < 3 or not head.exclusive or not calibration.labelled.any():
        return None
    known = calibration.take(calibration.labelled)
    return fit_conformal(known.probabilities, known.truth, known.patients, alpha=ALPHA, no_guarantee=no_guarantee)


def with_intervals(predictions, conformal):
    if conformal is None:
        return predictions
    return dataclasses.replace(predictions, prediction_intervals=conformal.intervals(predictions.probabilities))


def stored_photographs(records, ids, rows):
    """A function of an id -> the JPEG in the records; of a pair the left eye's."""
    row_of = dict(zip(np.asarray(ids).tolist(), np.asarray(rows).tolist(), strict=True))
    return lambda name: records.encoded_image(row_of[name], "left" if records.paired else None)
