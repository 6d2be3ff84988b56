"""Measures a finished run on a split of a record set: the very rule that predicts, on photographs it was not fitted on."""

import json
import pathlib

import numpy as np

from dr_tf.console import UserError
from dr_tf.evaluation.decisions import conformal_of, predict, with_intervals
from dr_tf.evaluation.evaluation_folder import EXPLANATIONS, folder_of, write_evaluation
from dr_tf.evaluation.explanations import explanations, made_of
from dr_tf.evaluation.measure import measure, measure_shifted
from dr_tf.evaluation.metrics.compute import compute_metrics
from dr_tf.evaluation.metrics.selective_prediction import ensemble_disagreement, tta_spread
from dr_tf.evaluation.protocol.calibration_set import calibration_of, learned_from
from dr_tf.evaluation.protocol.evaluation_set import open_evaluation_set
from dr_tf.evaluation.protocol.external import beside_own
from dr_tf.evaluation.protocol.test_log import log_test_evaluation, repeated_test_caveat
from dr_tf.evaluation.recorded_cases import recorded_batches
from dr_tf.evaluation.report.images import MistakeImages
from dr_tf.evaluation.report.model_card import ModelCard
from dr_tf.evaluation.statistics.label_shift import check_method
from dr_tf.explain.colour_scale import read_scale
from dr_tf.explain.scorecard.tables import tables
from dr_tf.inference.modes import PLAIN, score_batches
from dr_tf.inference.priors import positive_classes
from dr_tf.inference.run import ScoredRows, load_run, read_neighbours


def evaluate(
    run_dir,
    records_root,
    *,
    dataset=None,
    split="test",
    mode=PLAIN,
    label_shift=None,
    audit=None,
    explain=(),
    prevalence=None,
    bootstrap_samples=2000,
):
    """Writes RUN/evaluation/DATASET-SPLIT, or -SPLIT-MODE, and returns (its folder, what was measured).

    `label_shift` is None or a name in `label_shift.METHODS`. `audit`, a function of (two record sets' folders, a path)
    that writes there which photographs they share, is requested where `dataset` is not the run's own; None: not audited.
    `explain`: maps to score, each METHOD or METHOD@LAYER.
    """
    _refuse_folds(run_dir)
    check_method(label_shift)
    run = load_run(run_dir)
    network, rule, preparation = run.network, run.rule, run.preparation
    judged = _judging(run, mode, run_dir)
    subject = open_evaluation_set(
        run_dir, records_root, rule.head, preparation, dataset=dataset, split=split, audit=audit
    )
    made = made_of(explain, network, rule) if explain else None
    options = {"prevalence": prevalence, "bootstrap_samples": bootstrap_samples}
    calibration, fitted = calibration_of(run_dir, rule, mode, subject.own)
    predictions, metrics = _measured(rule, judged, subject, calibration, label_shift, options)
    if subject.external:
        share = float(np.asarray(rule.prior)[positive_classes(rule.head)].sum()) if rule.head.exclusive else None
        metrics["external"] = beside_own(
            run_dir, preparation.records, predictions, subject.shared, mode=mode, prior_positive=share
        )
    metrics["test_evaluations"] = log_test_evaluation(run_dir, subject.records.name, split)
    metrics["caveats"] += subject.caveats
    metrics["caveats"] += repeated_test_caveat(split, metrics["test_evaluations"])
    metrics["caveats"] += learned_from(
        [] if subject.external else np.intersect1d(subject.rows, fitted), len(predictions)
    )
    metrics["mode"] = mode
    metrics["other_outputs"] = {output: list(rule.heads[output].classes) for output in predictions.other_truth}
    shown = {
        "card": _card(run_dir, network, rule, preparation, mode),
        "explanations": made and explanations(made, subject.records, subject.rows, split),
        **_pictures(subject, predictions, network, rule, read_scale(run_dir)),
    }
    folder = folder_of(run_dir, subject.records.name, split, mode)
    return write_evaluation(folder, predictions, metrics, **shown), metrics


def _measured(rule, judged, subject, calibration, label_shift, options):
    """(predictions, metrics)."""
    conformal = conformal_of(rule.head, calibration, rule.no_guarantee)
    predictions = with_intervals(judged(subject.records, subject.rows, subject.split), conformal)
    shifted = label_shift and measure_shifted(
        predictions, method=label_shift, prior=rule.prior, calibration=calibration, **options
    )
    metrics = measure(
        predictions,
        excluded=subject.excluded,
        protocol=subject.protocol,
        conformal=conformal and conformal.to_dict(),
        shifted=shifted,
        **options,
    )
    return predictions, metrics | {"without_test_copies": _without_copies(predictions, subject, options)}


def _refuse_folds(run_dir):
    if any(pathlib.Path(run_dir).glob("fold-*")):
        raise UserError(
            f"{run_dir} is a run of folds: evaluate it by --split folds, or one of them by --run_dir {run_dir}/fold-0"
        )


def _judging(run, mode, run_dir):
    """A function of (records, rows, split) -> Predictions."""
    rule, network = run.rule, run.network
    requested = rule.requested_modes(mode)
    neighbours = read_neighbours(run_dir, requested, network)

    def judged(records, rows, split):
        _check_eyes(network, records)
        found = score_batches(
            network, requested, recorded_batches(records, rows, network.image_size), neighbours=neighbours
        )
        distances = (
            np.full(len(rows), np.nan)
            if run.feature_distribution is None
            else run.feature_distribution.distance(found.features)
        )
        scored = ScoredRows(rows, found.scores, found.outputs, distances)
        return predict(rule, records, scored, split=split, mode=mode, uncertainties=_spreads(found, rule.head))

    return judged


def _check_eyes(network, records):
    if network.paired != records.paired:
        takes, holds = ("both eyes", "single photographs") if network.paired else ("single photographs", "pairs")
        raise UserError(f"the run takes {takes}, {records.name} holds {holds}")


def _spreads(answers, head):
    """How far apart lies what was averaged."""
    spreads = {"tta_spread": tta_spread(answers.view_probabilities)} if len(answers.view_probabilities) > 1 else {}
    if answers.member_probabilities is not None:
        spreads["ensemble_disagreement"] = ensemble_disagreement(answers.member_probabilities, not head.exclusive)
    return spreads


def _without_copies(predictions, subject, options):
    """The figures again without photographs that copy another of the published test split; None where there are none."""
    columns = subject.records.columns
    copies = np.asarray(columns.get("test_copy", np.full(len(subject.records), "")))[subject.rows] != ""
    if not copies.any():
        return None
    left = predictions.take(~copies)
    return {"left_out": int(copies.sum()), "n": len(left), **compute_metrics(left, **options)}


def _pictures(subject, predictions, network, rule, fitted):
    row_of = dict(zip(predictions.ids.tolist(), subject.rows.tolist(), strict=True))
    shown = MistakeImages(subject.records, row_of, network, rule, fitted)
    return {"photographs": shown.photograph, "reasons": shown.reasons, "colours": lambda: shown.colours}


def _card(run_dir, network, rule, preparation, mode):
    point = rule.operating_point(mode)
    return ModelCard(
        name=pathlib.Path(run_dir).name,
        model=f"{network.description}, {preparation.image_size} pixels",
        trained_on=preparation.records,
        details={
            "Mode": mode,
            "Decision": f"refer from {point.threshold:.3f} on; {point.note}",
            "Prior": rule.prior_name,
        },
    )


def scorecard(folder):
    """What `explain` found, as lines of text."""
    return tables(json.loads((folder / EXPLANATIONS).read_text(encoding="utf-8")))
