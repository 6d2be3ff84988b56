"""Evaluation of a cross-site protocol (`--split sources`): each source by networks that were trained on other sources.

Each run decides on the images that it held out by its own rule, which was fitted on the calibration split of its training
sources. Test images are never used, so that choices can be based on this evaluation.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_tf.console import UserError
from dr_tf.data.records import Records, open_records
from dr_tf.data.sources import (
    FITTED_SPLITS,
    LEAVE_ONE_OUT,
    TRAIN_ON_ONE,
    source_folders,
    source_names,
)
from dr_tf.evaluation.evaluation_folder import evaluation_folder, write_evaluation
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.metrics.compute import BOOTSTRAP_SAMPLES
from dr_tf.evaluation.metrics.cross_site import metrics_by_source
from dr_tf.evaluation.predict_records import (
    add_prediction_intervals,
    predict,
    summarize_folds,
)
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.protocol.out_of_fold import Fold, check_scored, fold_metrics, read_fold
from dr_tf.evaluation.recorded_cases import encoded_images
from dr_tf.evaluation.report.model_card import ModelCard
from dr_tf.inference.conformal import Conformal
from dr_tf.inference.modes import PLAIN
from dr_tf.inference.run import DECISION, HELD_OUT, MODEL

SOURCES = "sources"
PROTOCOLS = {
    LEAVE_ONE_OUT: "leave one source out: each source by a network trained on the other sources",
    TRAIN_ON_ONE: "train on one source: each source by the networks trained on each other source",
}
TRAINED_ON = "trained on"  # property that defines subgroups
OTHER_SOURCE = "the photographs are of another source than those of the calibration split"


@dataclasses.dataclass(frozen=True)
class SourceRun:
    """A finished run of a cross-site protocol.

    Attributes:
        source: the source that it leaves out, or the one that it was trained on.
        path: the run directory.
        held_out: its rule, and its scores of the held-out images.
    """

    source: str
    path: pathlib.Path
    held_out: Fold


def evaluate_sources(
    run_dir: str | os.PathLike,
    records_root: str | os.PathLike,
    *,
    mode: str = PLAIN,
    prevalence: float | None = None,
    bootstrap_samples: int = BOOTSTRAP_SAMPLES,
) -> tuple[pathlib.Path, dict[str, Any]]:
    """Evaluate the runs of all sources and write RUN/evaluation/DATASET-sources, or -sources-MODE.

    Args:
        run_dir: of a training with a cross-site protocol.
        records_root: folder of all record sets.
        mode: the prediction mode, one of those in train.modes.
        prevalence: for PPV and NPV at that prevalence.
        bootstrap_samples: number of bootstrap samples.

    Returns:
        (the folder, the content of metrics.json).

    Raises:
        UserError: if runs are missing, were not scored in this mode, or the records have other sources.
    """
    runs, records = read_source_runs(run_dir, records_root)
    check_scored(run_dir, [run.held_out for run in runs], mode)
    protocol = find_protocol(run_dir, runs, records)
    parts, conformals = zip(*(_predict(run, records, protocol, mode) for run in runs), strict=True)
    predictions, rows = Predictions.concatenate(parts), np.concatenate([run.held_out.rows for run in runs])
    metrics = measure(
        predictions,
        excluded=_excluded(runs, records, protocol),
        protocol=PROTOCOLS[protocol],
        conformal=summarize_folds(conformals),
        prevalence=prevalence,
        bootstrap_samples=bootstrap_samples,
    )
    metrics[SOURCES] = {
        "run": pathlib.Path(run_dir).absolute().name,
        "protocol": protocol,
        "rows": _table_rows(runs, parts, records, protocol, bootstrap_samples),
        "runs": [
            fold_metrics(run.held_out, part, run.held_out.rule.operating_point(mode), bootstrap_samples)
            for run, part in zip(runs, parts, strict=True)
        ],
    }
    metrics["caveats"] += _caveats(runs, protocol)
    metrics["mode"] = mode
    heads = runs[0].held_out.rule.heads
    metrics["other_outputs"] = {output: list(heads[output].classes) for output in predictions.other_truth}
    folder = evaluation_folder(run_dir, records.name, SOURCES, mode)
    images = encoded_images(records, predictions.ids, rows)
    return write_evaluation(folder, predictions, metrics, card=_model_card(run_dir, runs, mode), images=images), metrics


def read_source_runs(run_dir: str | os.PathLike, records_root: str | os.PathLike) -> tuple[list[SourceRun], Records]:
    """Read the finished runs of all sources, and open their records.

    Raises:
        UserError: if the run of a source is missing or not finished.
    """
    finished = [
        path.parent for path in sorted(pathlib.Path(run_dir).glob(f"source-*/{MODEL}")) if _is_finished(path.parent)
    ]
    if not finished:
        raise UserError(
            f"{run_dir} has no finished source: train with train.protocol = {LEAVE_ONE_OUT!r} or {TRAIN_ON_ONE!r}"
        )
    first = read_fold(finished[0])
    records = open_records(records_root, first.preparation.records)
    folders = source_folders(source_names(records, first.rule.head.has_label(records.columns)))
    if missing := [folder for folder in folders.values() if pathlib.Path(run_dir, folder) not in finished]:
        raise UserError(
            f"{run_dir}: training is not finished for {', '.join(missing)}: run the same `dr_tf train` again"
        )
    paths = {source: pathlib.Path(run_dir, folder) for source, folder in folders.items()}
    return [SourceRun(source, path, read_fold(path)) for source, path in paths.items()], records


def _is_finished(path: pathlib.Path) -> bool:
    return all((path / name).exists() for name in (MODEL, DECISION, HELD_OUT))


def find_protocol(run_dir: str | os.PathLike, runs: Sequence[SourceRun], records: Records) -> str:
    """Return the protocol of the runs, which follows from the sources that they hold out.

    Raises:
        UserError: if the runs are not of these records.
    """
    for protocol in PROTOCOLS:
        if all(_holds_out(run, records, protocol) for run in runs):
            return protocol
    raise UserError(f"{records.name}: its sources and splits are not those that {run_dir} was trained on")


def _holds_out(run: SourceRun, records: Records, protocol: str) -> bool:
    """Whether a run could hold these rows out: test rows never, and rows of its own source in one protocol only."""
    rows = run.held_out.rows
    if not len(rows) or rows.max() >= len(records) or run.held_out.preparation.records != records.name:
        return False
    return not (~_may_be_held_out(run, records, protocol)[rows]).any()


def _may_be_held_out(run: SourceRun, records: Records, protocol: str) -> np.ndarray:
    not_test = np.isin(records.columns["split"], FITTED_SPLITS)
    return not_test & ((records.sources == run.source) == (protocol == LEAVE_ONE_OUT))


def _predict(run: SourceRun, records: Records, protocol: str, mode: str) -> tuple[Predictions, Conformal | None]:
    """Return the predictions on the held-out images of a run, and the conformal predictor of its calibration split."""
    rule = run.held_out.rule
    conformal = rule.mode(mode).conformal
    if conformal is not None:
        conformal = dataclasses.replace(conformal, no_guarantee=OTHER_SOURCE)
    predictions = predict(rule, records, run.held_out.scored, split=SOURCES, mode=mode)
    predictions = add_prediction_intervals(predictions, conformal)
    return (_with_trained_on(predictions, run.source) if protocol == TRAIN_ON_ONE else predictions), conformal


def _with_trained_on(predictions: Predictions, source: str) -> Predictions:
    """Name each prediction by image and training source, as several runs predict the same image."""
    ids = np.array([f"{name} ({TRAINED_ON} {source})" for name in predictions.ids.tolist()])
    subgroups = predictions.subgroups | {TRAINED_ON: np.full(len(predictions), source)}
    return dataclasses.replace(predictions, ids=ids, subgroups=subgroups)


def _table_rows(
    runs: Sequence[SourceRun],
    parts: Sequence[Predictions],
    records: Records,
    protocol: str,
    bootstrap_samples: int,
) -> list[dict[str, Any]]:
    """Return the rows of the table of sources: one per training source, or one for all that leave a source out."""

    def row(trained_on: str, by_target: Mapping[str, Predictions]) -> dict[str, Any]:
        return {"trained_on": trained_on, **metrics_by_source(by_target, bootstrap_samples=bootstrap_samples)}

    by_run = dict(zip([run.source for run in runs], parts, strict=True))
    if protocol == LEAVE_ONE_OUT:
        return [row("the other sources", by_run)]
    rows = []
    for run in runs:
        sources = records.sources[run.held_out.rows]
        rows.append(row(run.source, {str(t): by_run[run.source].take(sources == t) for t in np.unique(sources)}))
    return rows


def _caveats(runs: Sequence[SourceRun], protocol: str) -> list[str]:
    others = len(runs) - 1
    if protocol == LEAVE_ONE_OUT or others < 2:
        return []
    return [f"Each photograph is counted once for each of the {others} networks that hold it out."]


def _excluded(runs: Sequence[SourceRun], records: Records, protocol: str) -> dict[str, int]:
    labelled = runs[0].held_out.rule.head.has_label(records.columns)
    possible = [_may_be_held_out(run, records, protocol) for run in runs]
    unlabelled = sum(int((rows & ~labelled).sum()) for rows in possible)
    related = sum(
        int((rows & labelled).sum()) - len(run.held_out.rows) for run, rows in zip(runs, possible, strict=True)
    )
    counts = {
        "without a label that the run is trained on": unlabelled,
        "copies, or patients, of another source": related,
    }
    return {reason: count for reason, count in counts.items() if count}


def _model_card(run_dir: str | os.PathLike, runs: Sequence[SourceRun], mode: str) -> ModelCard:
    preparation, rule = runs[0].held_out.preparation, runs[0].held_out.rule
    return ModelCard(
        name=pathlib.Path(run_dir).absolute().name,
        model=f"{len(runs)} networks, one per source, {preparation.image_size} pixels",
        trained_on=preparation.records,
        details={
            "Mode": mode,
            "Decision": f"a threshold per run, for {rule.operating_point_name.replace('_', ' ')}, set on the calibration "
            "split of its training sources; not guaranteed for another source",
            "Prior": rule.prior_name,
        },
    )
