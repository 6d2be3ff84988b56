"""What a run's rule was fitted on, judged by that rule: grade intervals and label shift are measured from it.

That is the calibration split as the run's own network saw it or, of a run refitted on all folds, the out-of-fold answers:
the refitted network has learned from those photographs, and would find itself surer of them than of any other.
"""

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.decisions import predict
from dr_tf.inference.run import read_calibration


def calibration_of(run_dir, rule, mode, own):
    """(Predictions of what the rule was fitted on or None, rows that the network learned from), of the run's `own` records."""
    found = read_calibration(run_dir)
    if found is None or own is None:
        return None, np.zeros(0, int)
    scored, more = found
    rows, names = scored.rows, own.columns["patient_id" if own.paired else "image_id"]
    if len(rows) and (rows.max() >= len(names) or (names[rows] != more["names"]).any()):
        raise UserError(f"{own.name} is not what {run_dir} was trained on: its calibration photographs are others")
    if not len(rows) or mode not in rule.modes or not set(rule.requested_modes(mode).modes) <= set(scored.scores):
        return None, more["fitted"]
    return predict(rule, own, scored, split="calibration", mode=mode, gated=False), more["fitted"]


def learned_from(rows, count):
    """A caveat where some of what is evaluated was fitted."""
    if not len(rows):
        return []
    return [
        f"The network has learned from {len(rows)} of these {count} photographs: what is measured on them flatters it."
    ]
