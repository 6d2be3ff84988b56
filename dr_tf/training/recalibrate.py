"""Recalibration: fit the decision rule of a finished run on photographs of another clinic. The weights do not change.

With labels, the calibration, the prior, the thresholds and the gate are fitted anew. Without labels, the prevalence is
estimated from the predictions, and the gate learns the photographs.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil

import numpy as np

from dr_tf import files
from dr_tf.console import UserError, progress
from dr_tf.data.batches import image_batches
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import Records
from dr_tf.explain.colour_scale import MAP_SCALE
from dr_tf.inference.cross_fitting import cross_fit, patient_folds
from dr_tf.inference.export_file import EXPORT, FORMATS, MEMBERS
from dr_tf.inference.fit_rule import CalibrationLabels, fit_rule, reason_for_no_guarantee
from dr_tf.inference.gate import AnyFeatureDistribution, distance_limit, with_source
from dr_tf.inference.modes import PLAIN, score_batches
from dr_tf.inference.network import MODEL, TWIN
from dr_tf.inference.operating_points import patient_scores
from dr_tf.inference.priors import class_prior, estimate_prior, positive_classes
from dr_tf.inference.rule import Rule
from dr_tf.inference.run import (
    CALIBRATION,
    NEIGHBOURS,
    Run,
    ScoredRows,
    load_run,
    read_neighbours,
    write_decision,
    write_scored_rows,
)
from dr_tf.training.example_names import example_names, fitted_example_names
from dr_tf.training.fit_decision import DecisionSettings

MIN_PATIENTS = 5  # positive and negative ones, from which on thresholds are fitted
_COPIED = (MODEL, TWIN, EXPORT, MEMBERS, *FORMATS.values(), NEIGHBOURS, MAP_SCALE, "config.gin")
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Recalibration:
    """A rule before and after it was fitted on other photographs.

    Attributes:
        before: the rule of the run.
        after: the new rule.
        photographs: number of photographs that it was fitted on.
        beyond_gate: share of these photographs beyond the limit of the gate, (before, after); the latter by cross-fitting.
    """

    before: Rule
    after: Rule
    photographs: int
    beyond_gate: tuple[float, float]


def recalibrate(
    run_dir: str | os.PathLike, records: Records, output: str | os.PathLike, *, labelled: bool = True
) -> Recalibration:
    """Write a run with the network of another run, and a decision rule that is fitted on other photographs.

    All photographs outside of the test split of the records are used.

    Args:
        run_dir: a finished run or an export.
        records: the photographs, built with the options of the run's own records.
        output: the folder to write. It must not exist.
        labelled: whether to use labels. Without them only the prevalence and the gate are fitted: the same photographs are
            referred as before, except for those that the gate decides on.

    Raises:
        UserError: the records do not fit the run, the network was trained on them, or they have too few labels.
    """
    run, folder = load_run(run_dir), pathlib.Path(output)
    if folder.exists():
        raise UserError(f"{folder} exists already; use another --output")
    _check_preparation(run, records)
    rows = _rows(run, records, labelled)
    trained_on = fitted_example_names(run_dir)
    if np.isin(example_names(records, rows), trained_on).any():
        raise UserError(f"{run_dir} was trained on photographs of {records.name}: calibrate on others")
    scored, features = _score(run_dir, run, records, rows)
    patients = np.asarray(records.columns["patient_id"])[rows]
    distribution, distances = _fit_gate(run.feature_distribution, features, patients)
    scored = dataclasses.replace(scored, distances=distances)
    if labelled:
        rule = fit_on_labels(run.rule, records, scored, ensemble=run.network.ensemble)
    else:
        rule = at_estimated_prevalence(run.rule, scored)
    rule = _with_limits(rule, run.rule, distance_limit(distances) if distribution is not None else None)
    with files.atomic_write(folder) as unfinished:
        _copy_network(pathlib.Path(run_dir), unfinished)
        write_decision(unfinished, rule, dataclasses.replace(run.preparation, records=records.name), distribution)
        names = records.columns["patient_id" if records.paired else "image_id"][rows]
        calibrated = np.arange(len(rows) if labelled else 0)
        write_scored_rows(
            unfinished / CALIBRATION,
            scored.take(calibrated),
            names=names[calibrated],
            fitted=rows[:0],
            fitted_names=trained_on,
        )
    earlier = run.feature_distribution.distance(features) if run.feature_distribution is not None else distances
    beyond = _share_beyond(run.rule.distance_limit, earlier), _share_beyond(rule.distance_limit, distances)
    return Recalibration(run.rule, rule, len(rows), beyond)


def _check_preparation(run, records):
    needed, found = (name.split("/")[-1] for name in (run.preparation.records, records.name))
    if needed != found:
        raise UserError(
            f"{records.name} was built with other options than the run's records ({needed}): build it with these"
        )
    if run.network.paired != records.paired:
        raise UserError(
            f"the run takes {'both eyes of a patient' if run.network.paired else 'single photographs'}: build the records "
            f"{'with' if run.network.paired else 'without'} --paired"
        )


def _rows(run, records, labelled):
    """The rows outside of the test split, with a label of the deciding output if labels are needed."""
    rows = np.flatnonzero(records.columns["split"] != "test")
    if not labelled:
        if len(set(records.columns["patient_id"][rows])) < MIN_PATIENTS:
            raise UserError(f"{records.name} has fewer than {MIN_PATIENTS} patients outside of its test split")
        return rows
    head = run.rule.head
    rows = rows[head.has_label(records.columns)[rows]]
    labels = CalibrationLabels.from_records(run.rule.heads, run.rule.decides, records.columns, rows)
    of_positive = labels.definition_labels[:, head.definitions.index(head.positive)]
    _, patients = patient_scores(np.zeros(len(rows)), of_positive, labels.patients)
    positive, negative = int((patients == 1).sum()), int((patients == 0).sum())
    if min(positive, negative) < MIN_PATIENTS:
        raise UserError(
            f"{records.name} has {positive} positive and {negative} negative patients with labels outside of its test split, "
            f"and thresholds need {MIN_PATIENTS} of each: label more, or use --without_labels"
        )
    return rows


def _score(run_dir: str | os.PathLike, run: Run, records: Records, rows: np.ndarray) -> tuple[ScoredRows, np.ndarray]:
    """(scores of all modes of the run, features)."""
    requested = run.rule.requested_modes(*run.rule.modes)
    neighbours = read_neighbours(run_dir, requested, run.network)
    images = ImageLoader(records, image_size=run.network.image_size, cache="none")
    with progress(len(rows), "scoring", "photographs") as bar:
        batches = _counted(image_batches(images, rows=rows, batch_size=_BATCH), bar)
        scored = score_batches(run.network, requested, batches, neighbours=neighbours)
    return ScoredRows(rows, scored.scores, scored.outputs, np.zeros(len(rows))), scored.features


def _counted(batches, bar):
    for batch in batches:
        yield batch
        bar.update(len(batch[1]))


def _fit_gate(
    distribution: AnyFeatureDistribution | None, features: np.ndarray, patients: np.ndarray
) -> tuple[AnyFeatureDistribution | None, np.ndarray]:
    """(distribution with the photographs as one more source, the distance of each by a fit without its patient)."""
    if distribution is None:
        return None, np.zeros(len(features))
    distances = cross_fit(
        lambda others: with_source(distribution, others),
        lambda fitted, held_out: fitted.distance(held_out),
        patient_folds(patients, np.zeros(len(patients), int)),
        features,
    )
    return with_source(distribution, features), distances


def fit_on_labels(rule: Rule, records: Records, scored: ScoredRows, *, ensemble: bool = False) -> Rule:
    """Fit the calibrations, the prior and the thresholds of a rule on labelled photographs.

    Args:
        rule: the rule, for its outputs, modes and operating point.
        records: the record set of the photographs.
        scored: the scores of the photographs in all modes of the rule.
        ensemble: whether the network is an ensemble.
    """
    columns = records.columns
    settings = DecisionSettings.from_rule(rule)
    classes = {output: head.true_classes(columns)[scored.rows] for output, head in rule.heads.items()}
    priors = {output: class_prior(classes[output], len(head.classes)) for output, head in rule.heads.items()}
    known = [output for output in rule.other_outputs if (classes[output] >= 0).any()]
    fitted = fit_rule(
        rule.heads,
        rule.decides,
        scored.scores,
        CalibrationLabels.from_records(rule.heads, rule.decides, columns, scored.rows),
        modes=(PLAIN, *settings.modes),
        train_prior=priors[rule.decides],
        operating_point=rule.operating_point_name,
        outputs={output: scored.outputs[output] for output in known},
        other_priors={output: priors[output] for output in known},
        ensemble=ensemble,
        no_guarantee=reason_for_no_guarantee(columns, scored.rows, False),
    )
    # An output without labels here keeps its calibration.
    others = {output: fitted.other_outputs.get(output, earlier) for output, earlier in rule.other_outputs.items()}
    return dataclasses.replace(fitted, other_outputs=others, gradable_from=rule.gradable_from)


def at_estimated_prevalence(rule: Rule, scored: ScoredRows) -> Rule:
    """Return the rule at the prevalence that its predictions on photographs without labels suggest."""
    probabilities = rule.probabilities(scored.scores)
    estimate = estimate_prior(probabilities, rule.prior, exclusive=rule.head.exclusive)
    positive = positive_classes(rule.head)
    prevalence = estimate[positive].sum() if rule.head.exclusive else estimate[positive].max()
    return rule.at_prevalence(float(np.clip(prevalence, 0.001, 0.999)))


def _with_limits(rule: Rule, earlier: Rule, limit: float | None) -> Rule:
    """Own photographs pass without a warning; the limit of the gate is never lowered where warnings precede it."""
    if earlier.warning_limit is None or earlier.distance_limit is None or limit is None:
        return dataclasses.replace(rule, distance_limit=limit, warning_limit=None)
    return dataclasses.replace(rule, distance_limit=max(earlier.distance_limit, limit), warning_limit=limit)


def _copy_network(source: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir()
    for path in (source / name for name in _COPIED):
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        elif path.exists():
            shutil.copy2(path, folder / path.name)


def _share_beyond(limit, distances):
    return 0.0 if limit is None else float(np.mean(~(distances <= limit)))
