"""What a rule says of rows of a record set, beside the truth as the records have it."""

import dataclasses

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.conformal import fit_conformal
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.slices import slice_columns
from dr_tf.grades import ABSENT
from dr_tf.inference.decision import uncertainty
from dr_tf.inference.rule import PLAIN
from dr_tf.models.heads.head import positives

ALPHA = 0.1


def known_rows(records, rows, head, *, where):
    """(those of `rows` that have a truth, {reason: number of those left out})."""
    truth = positives(head.positive, records.columns)[rows]
    known = (truth != ABSENT) | head.usable(records.columns)[rows]
    if not known.any():
        raise UserError(f"no label of {records.name}, {where}, says whether a photograph is {head.positive}")
    if len(told := set(truth.tolist())) == 2 and ABSENT in told:
        never = "not " if 1 in told else ""
        raise UserError(f"no label of {records.name}, {where}, ever says that a photograph is {never}{head.positive}")
    left = int((~known).sum())
    return rows[known], {f"its labels do not say whether it is {head.positive}": left} if left else {}


def predict(rule, records, rows, logits, *, split, mode=PLAIN, uncertainties=None, risks=None):
    """`uncertainties`: {name: [n]} of what the probabilities alone do not tell. `risks`: of macular edema, as decided."""
    head, columns = rule.head, records.columns
    probabilities = rule.probabilities(logits, mode)
    raw = head.probabilities(logits)
    p_positive, points = head.p_positive(probabilities), rule.mode(mode).points
    point = points[rule.point]
    grades = rule.grades(probabilities, mode)
    decided = (p_positive >= point.threshold).astype(int) if grades is None else grades
    return Predictions(
        dataset=records.name,
        split=split,
        ids=columns["patient_id" if records.paired else "image_id"][rows],
        patients=columns["patient_id"][rows],
        patient_known=columns.get("patient_known", np.ones(len(records), bool))[rows],
        classes=head.classes,
        truth=head.strata(columns)[rows],
        decided=decided,
        probabilities=probabilities,
        positive=head.positive,
        truth_positive=positives(head.positive, columns)[rows],
        p_positive=p_positive,
        threshold=point.threshold,
        refer=p_positive >= point.threshold,
        uncalibrated=raw,
        p_positive_uncalibrated=head.p_positive(raw),
        uncertainty={"entropy": uncertainty(probabilities, exclusive=head.exclusive)} | (uncertainties or {}),
        dme_truth=None if risks is None else columns.get("dme", np.full(len(records), ABSENT))[rows],
        dme_decided=risks,
        slices={name: values[rows] for name, values in slice_columns(columns).items()},
        points={name: p_positive >= each.threshold for name, each in points.items()},
    )


def conformal_of(head, calibration):
    """Fitted on the predictions of calibration photographs; None where classes are no scale, or there is nobody."""
    if calibration is None or len(head.classes) < 3 or not head.exclusive or not calibration.labelled.any():
        return None
    known = calibration.take(calibration.labelled)
    return fit_conformal(known.probabilities, known.truth, known.patients, alpha=ALPHA)


def with_intervals(predictions, conformal):
    if conformal is None:
        return predictions
    return dataclasses.replace(predictions, intervals=conformal.intervals(predictions.probabilities))


def stored_photographs(records, ids, rows):
    """A function of an id -> the JPEG in the records; of a pair the left eye's."""
    row_of = dict(zip(np.asarray(ids).tolist(), np.asarray(rows).tolist(), strict=True))
    return lambda name: records.encoded(row_of[name], "left" if records.paired else None)
