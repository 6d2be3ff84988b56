"""Evaluate a finished run on a split of a record set, with the same decisions that prediction makes."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.batches import image_batches
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import Records
from dr_tf.data.sources import has_source_runs
from dr_tf.evaluation.caveats import training_overlap_caveat
from dr_tf.evaluation.evaluation_folder import evaluation_folder, write_evaluation, write_scorecard
from dr_tf.evaluation.explanations import requested_explainers, score_explanations
from dr_tf.evaluation.measure import measure, measure_shifted
from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES, compute_metrics
from dr_tf.evaluation.metrics.selective_prediction import ensemble_disagreement, tta_spread
from dr_tf.evaluation.predict_records import (
    add_prediction_intervals,
    calibration_predictions,
    predict,
)
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.protocol.evaluation_set import EvaluationSet, open_evaluation_set
from dr_tf.evaluation.protocol.external import external_validation, read_own_test_metrics
from dr_tf.evaluation.protocol.test_log import log_test_evaluation, repeated_test_caveat
from dr_tf.evaluation.report.images import MistakeImages
from dr_tf.evaluation.report.model_card import ModelCard
from dr_tf.evaluation.statistics.label_shift import check_method
from dr_tf.explain.colour_scale import read_scale
from dr_tf.inference.exported_network import ExportedNetwork
from dr_tf.inference.modes import PLAIN, ModeScores, score_batches
from dr_tf.inference.network import Network, load_network
from dr_tf.inference.rule import Rule
from dr_tf.inference.run import MODEL, Run, ScoredRows, load_run, read_neighbours

if TYPE_CHECKING:
    from dr_tf.data.cross_set_copies import Audit
    from dr_tf.explain.explainer import Explainer
    from dr_tf.models.heads.head import Head

Predict = Callable[[Records, np.ndarray, str], Predictions]  # (records, rows, name of the split)

_BATCH_SIZE = 32


def evaluate(
    run_dir: str | os.PathLike,
    records_root: str | os.PathLike,
    *,
    dataset: str | None = None,
    split: str = "test",
    mode: str = PLAIN,
    label_shift: str | None = None,
    audit: Audit | None = None,
    explain: Sequence[str] = (),
    prevalence: float | None = None,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
) -> tuple[pathlib.Path, dict[str, Any]]:
    """Evaluate a run and write RUN/evaluation/DATASET-SPLIT, or -SPLIT-MODE.

    Args:
        run_dir: of a finished run.
        records_root: folder of all record sets.
        dataset: NAME/CONFIG of another record set, for external validation; None: the run's own.
        split: name of the split; "all" for every split of another data set.
        mode: the prediction mode.
        label_shift: a name in `label_shift.METHODS`: also compute the metrics after that correction; None: no
            correction.
        audit: finds images that another data set shares with the run's own; None: no audit is made.
        explain: maps to score, each METHOD or METHOD@LAYER. They are scored also on images without a label.
        prevalence: for PPV and NPV at that prevalence.
        bootstrap_samples: number of bootstrap samples.

    Returns:
        (the folder, the content of metrics.json). Where no label is known and only maps were scored, there is no
        metrics.json, and the second is empty.

    Raises:
        UserError: if the run, the records and the options do not fit together.
    """
    _refuse_run_of_several(run_dir)
    check_method(label_shift)
    run = load_run(run_dir)  # with the network that prediction uses, which may be an export of the run's
    explained, rule, preparation = _network_to_explain(run_dir, run.network), run.rule, run.preparation
    predict_rows = _predictor(run, mode, run_dir)
    evaluated = open_evaluation_set(
        run_dir,
        records_root,
        rule.head,
        preparation,
        dataset=dataset,
        split=split,
        audit=audit,
        maps=bool(explain),
        other_heads=[head for output, head in rule.heads.items() if output != rule.decides],
    )
    own_test = read_own_test_metrics(run_dir, preparation.records, mode) if evaluated.external else None
    explainers = requested_explainers(explain, explained, rule) if explain else None
    if explainers and not len(evaluated.rows):
        return _evaluate_maps(run_dir, explainers, evaluated, mode)
    options = {"prevalence": prevalence, "bootstrap_samples": bootstrap_samples}
    calibration, training_rows = calibration_predictions(run_dir, rule, mode, evaluated.training_records)
    predictions, metrics = _measure(rule, mode, predict_rows, evaluated, calibration, label_shift, options)
    if evaluated.external:
        metrics["external"] = external_validation(
            predictions,
            dataset=preparation.records,
            shared=evaluated.shared,
            own_test=own_test,
            prior_prevalence=rule.prevalence if rule.head.exclusive else None,
        )
    overlap = 0 if evaluated.external else len(np.intersect1d(evaluated.rows, training_rows))
    metrics["caveats"] += [*evaluated.caveats, *training_overlap_caveat(overlap, len(predictions))]
    metrics["mode"] = mode
    metrics["other_outputs"] = {output: list(rule.heads[output].classes) for output in predictions.other_truth}
    report_options = {
        "card": _model_card(run_dir, run, mode),
        "explanations": explainers and _score_explanations(explainers, evaluated),
        **_image_options(evaluated, predictions, explained, rule, read_scale(run_dir)),
    }
    folder = evaluation_folder(run_dir, evaluated.records.name, split, mode)
    with log_test_evaluation(run_dir, evaluated.records.name, split) as count:
        metrics["test_evaluations"] = count
        metrics["caveats"] += repeated_test_caveat(split, count)
        return write_evaluation(folder, predictions, metrics, **report_options), metrics


def _score_explanations(explainers: Mapping[str, Explainer], evaluated: EvaluationSet) -> dict[str, Any]:
    return score_explanations(
        explainers, evaluated.records, evaluated.map_rows, evaluated.split, external=evaluated.external
    )


def _evaluate_maps(
    run_dir: str | os.PathLike, explainers: Mapping[str, Explainer], evaluated: EvaluationSet, mode: str
) -> tuple[pathlib.Path, dict[str, Any]]:
    """Score maps where no label is known, and write explanations.json and report.html."""
    scorecard = _score_explanations(explainers, evaluated)
    name, split = evaluated.records.name, evaluated.split
    caveats = [*evaluated.caveats, *(f"Left out: {n} that are {reason}." for reason, n in evaluated.excluded.items())]
    folder = evaluation_folder(run_dir, name, split, mode)
    with log_test_evaluation(run_dir, name, split) as count:
        caveats += repeated_test_caveat(split, count)
        return write_scorecard(folder, scorecard, run=pathlib.Path(run_dir).name, caveats=caveats), {}


def _measure(
    rule: Rule,
    mode: str,
    predict_rows: Predict,
    evaluated: EvaluationSet,
    calibration: Predictions | None,
    label_shift: str | None,
    options: dict[str, Any],
) -> tuple[Predictions, dict[str, Any]]:
    conformal = rule.mode(mode).conformal
    predictions = predict_rows(evaluated.records, evaluated.rows, evaluated.split)
    predictions = add_prediction_intervals(predictions, conformal)
    shifted = None
    if label_shift:
        shifted = measure_shifted(
            predictions, method=label_shift, prior=np.asarray(rule.prior), calibration=calibration, **options
        )
    metrics = measure(
        predictions,
        excluded=evaluated.excluded,
        protocol=evaluated.protocol,
        conformal=None if conformal is None else conformal.to_dict(),
        shifted=shifted,
        **options,
    )
    return predictions, metrics | {"without_test_copies": _without_test_copies(predictions, evaluated, options)}


def _refuse_run_of_several(run_dir: str | os.PathLike) -> None:
    if any(pathlib.Path(run_dir).glob("fold-*")):
        raise UserError(
            f"{run_dir} is a run of folds: evaluate it by --split folds, or one of them by --run_dir {run_dir}/fold-0"
        )
    if has_source_runs(pathlib.Path(run_dir)):
        raise UserError(
            f"{run_dir} has one run per source: evaluate them by --split sources, or one of them by its --run_dir"
        )


def _predictor(run: Run, mode: str, run_dir: str | os.PathLike) -> Predict:
    rule, network = run.rule, run.network
    requested = rule.requested_modes(mode)
    neighbours = read_neighbours(run_dir, requested, network)

    def predict_rows(records: Records, rows: np.ndarray, split: str) -> Predictions:
        _check_eyes(network, records)
        images = ImageLoader(records, image_size=network.image_size, cache="none")
        batches = image_batches(images, rows=rows, batch_size=_BATCH_SIZE)
        scores = score_batches(network, requested, batches, neighbours=neighbours)
        distances = (
            np.full(len(rows), np.nan)
            if run.feature_distribution is None
            else run.feature_distribution.distance(scores.features)
        )
        scored = ScoredRows(rows, scores.scores, scores.outputs, distances)
        uncertainties = _spread_uncertainties(scores, rule.head)
        return predict(rule, records, scored, split=split, mode=mode, uncertainties=uncertainties)

    return predict_rows


def _check_eyes(network: Network, records: Records) -> None:
    if network.paired != records.paired:
        expected, actual = ("both eyes", "single photographs") if network.paired else ("single photographs", "pairs")
        raise UserError(f"the run takes {expected}, {records.name} contains {actual}")


def _spread_uncertainties(scores: ModeScores, head: Head) -> dict[str, np.ndarray]:
    """Return the uncertainty scores that follow from the spread of averaged views or members."""
    spreads = {}
    if len(scores.view_probabilities) > 1:
        spreads["tta_spread"] = tta_spread(scores.view_probabilities)
    if scores.member_probabilities is not None:
        spreads["ensemble_disagreement"] = ensemble_disagreement(scores.member_probabilities, not head.exclusive)
    return spreads


def _without_test_copies(
    predictions: Predictions, evaluated: EvaluationSet, options: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the metrics without copies of other images of the published test split; None where there are none."""
    columns = evaluated.records.columns
    copies = np.asarray(columns.get("test_copy", np.full(len(evaluated.records), "")))[evaluated.rows] != ""
    if not copies.any():
        return None
    remaining = predictions.take(~copies)
    return {"left_out": int(copies.sum()), "n": len(remaining), **compute_metrics(remaining, **options)}


def _network_to_explain(run_dir: str | os.PathLike, network: Network) -> Network:
    """Return the run's own network, which has gradients, where it is at hand."""
    is_export = isinstance(network, ExportedNetwork)
    return load_network(run_dir, keras=True) if is_export and (pathlib.Path(run_dir) / MODEL).exists() else network


def _image_options(
    evaluated: EvaluationSet,
    predictions: Predictions,
    network: Network,
    rule: Rule,
    colour_scale: dict[str, Any] | None,
) -> dict[str, Any]:
    row_of = dict(zip(predictions.ids.tolist(), evaluated.rows.tolist(), strict=True))
    images = MistakeImages(evaluated.records, row_of, network, rule, colour_scale)
    return {"images": images.image, "overlays": images.overlays, "overlay_legend": images.legend}


def _model_card(run_dir: str | os.PathLike, run: Run, mode: str) -> ModelCard:
    point = run.rule.operating_point(mode)
    return ModelCard(
        name=pathlib.Path(run_dir).name,
        model=f"{run.network.description}, {run.preparation.image_size} pixels",
        trained_on=run.preparation.records,
        details={
            "Mode": mode,
            "Decision": f"refer at a probability of {point.threshold:.3f} or more; {point.note}",
            "Prior": run.rule.prior_name,
        },
    )
