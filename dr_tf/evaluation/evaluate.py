"""Measures a finished run on a split of a record set: the very rule that predicts, on photographs it was not fitted on."""

import datetime
import json
import pathlib

import numpy as np
from absl import logging

from dr_tf import files
from dr_tf.console import UserError
from dr_tf.data.batches import ordered_batches
from dr_tf.data.photographs import Photographs
from dr_tf.data.records import open_records
from dr_tf.evaluation.conformal import fit_conformal
from dr_tf.evaluation.folder import write_evaluation
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.report.card import ModelCard
from dr_tf.evaluation.slices import slice_columns
from dr_tf.grades import ABSENT
from dr_tf.inference.decision import uncertainty
from dr_tf.inference.preparation import Preparation
from dr_tf.inference.rule import PLAIN
from dr_tf.inference.run import load_run
from dr_tf.models.heads.head import positives

ALPHA = 0.1
LOOKS = "looks.jsonl"


def evaluate(run_dir, records_root, *, dataset=None, split="test", prevalence=None, rounds=2000):
    """Writes RUN/evaluation/DATASET-SPLIT and returns (its folder, what was measured)."""
    network, rule, preparation, _ = load_run(run_dir)
    own = dataset in (None, preparation.records)
    records = open_records(records_root, dataset or preparation.records)
    _check(records, preparation)
    rows, excluded = _judged(records, split, rule.head)
    logits = _logits(network, records, rows)
    conformal = _conformal(network, rule, open_records(records_root, preparation.records) if not own else records)
    predictions = predict(rule, records, rows, logits, split=split, conformal=conformal)
    metrics = measure(predictions, excluded=excluded, prevalence=prevalence, conformal=conformal, rounds=rounds)
    metrics["looks"] = _log_look(run_dir, records.name, split)
    metrics["without_test_copies"] = _without_copies(predictions, records, rows, prevalence, rounds)
    folder = pathlib.Path(run_dir) / "evaluation" / f"{records.name.replace('/', '-')}-{split}"
    row_of = dict(zip(predictions.ids.tolist(), rows.tolist(), strict=True))
    write_evaluation(
        folder,
        predictions,
        metrics,
        card=_card(run_dir, network, rule, preparation),
        photographs=lambda name: records.encoded(row_of[name], None if not records.paired else "left"),
    )
    return folder, metrics


def predict(rule, records, rows, logits, *, split, conformal=None):
    """What the rule says of these rows, beside the truth as the records have it."""
    head, columns = rule.head, records.columns
    probabilities = rule.probabilities(logits)
    raw = head.probabilities(logits)
    p_positive, point = head.p_positive(probabilities), rule.mode(PLAIN).points[rule.point]
    grades = rule.grades(probabilities)
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
        intervals=None if conformal is None else conformal.intervals(probabilities),
        uncertainty={"entropy": uncertainty(probabilities, exclusive=head.exclusive)},
        slices={name: values[rows] for name, values in slice_columns(columns).items()},
    )


def _check(records, preparation):
    made = Preparation.of_records(records.name, preparation.image_size)
    if made.enhancement != preparation.enhancement:
        raise UserError(
            f"{records.name} holds photographs enhanced by {made.enhancement!r}, the run learned from "
            f"{preparation.enhancement!r}: build the records the same way"
        )


def _judged(records, split, head):
    """(rows with a truth, {reason: number of those left out})."""
    rows = records.rows(split)
    known = (positives(head.positive, records.columns) != ABSENT)[rows] | head.usable(records.columns)[rows]
    if not known.any():
        raise UserError(f"no label of {records.name}, {split}, says whether a photograph is {head.positive}")
    left = int((~known).sum())
    return rows[known], {f"its labels do not say whether it is {head.positive}": left} if left else {}


def _logits(network, records, rows):
    photographs = Photographs(records, image_size=network.image_size, cache="none")
    nothing = np.zeros(len(records), np.float32)
    return network.over(ordered_batches(photographs, nothing, rows=rows, batch_size=32))[0]


def _conformal(network, rule, records):
    """Fitted on the run's own calibration split; None where there is none, or where classes are not grades in order."""
    head = rule.head
    if "calibration" not in set(records.columns["split"]) or len(head.classes) < 3 or not head.exclusive:
        return None
    rows = records.rows("calibration")
    rows = rows[head.usable(records.columns)[rows]]
    if not len(rows):
        return None
    probabilities = rule.probabilities(_logits(network, records, rows))
    truth, patients = head.strata(records.columns)[rows], records.columns["patient_id"][rows]
    return fit_conformal(probabilities, truth, patients, alpha=ALPHA)


def _without_copies(predictions, records, rows, prevalence, rounds):
    """The figures again without photographs that copy another of the published test split; None where there are none."""
    from dr_tf.evaluation.figures import figures

    copies = np.asarray(records.columns.get("test_copy", np.full(len(records), "")))[rows] != ""
    if not copies.any():
        return None
    return {"left_out": int(copies.sum()), **figures(predictions.take(~copies), prevalence=prevalence, rounds=rounds)}


def _log_look(run_dir, dataset, split):
    """Every look is written down: a split that is looked at often is no longer a test. Returns how many there were."""
    path = pathlib.Path(run_dir) / LOOKS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    lines.append(json.dumps({"time": now, "dataset": dataset, "split": split}))
    files.write_text(path, "\n".join(lines) + "\n")
    looks = sum((look := json.loads(line))["dataset"] == dataset and look["split"] == split for line in lines)
    if split == "test" and looks > 1:
        logging.warning(
            "this is look %d at the test split of %s; choose by --split validation or by folds", looks, dataset
        )
    return looks


def _card(run_dir, network, rule, preparation):
    mode = rule.mode(PLAIN)
    return ModelCard(
        name=pathlib.Path(run_dir).name,
        model=f"{network.model.name}, {network.model.count_params():,} weights, {preparation.image_size} pixels",
        trained_on=preparation.records,
        details={
            "Decision": f"refer from {mode.points[rule.point].threshold:.3f} on; {mode.points[rule.point].note}",
            "Prior": rule.prior_name,
        },
    )


def summary(metrics):
    """The figures that people ask for first, a line each."""
    names = ("balanced_accuracy", "accuracy", "quadratic_kappa", "auroc", "sensitivity", "specificity", "ece")
    known = [(name, metrics[name]) for name in names if metrics.get(name, {}).get("value") is not None]
    return [f"{name:18} {figure['value']:.3f}  {interval(figure)}" for name, figure in known]


def interval(figure, form=".3f"):
    if figure["low"] is None:
        return f"(no interval: {figure['method']})"
    return f"({figure['low']:{form}} to {figure['high']:{form}}, {figure['method']})"
