"""Measure what is decided on photographs of cameras that a network did not learn from, gate and thresholds included.

With a leave-one-source-out training each run is measured on the source that it left out; with --datasets a single run is
measured on other record sets. `evaluate` prints AUROC, kappa and accuracy; this script measures the decision around them:

- sensitivity and specificity of the decision on the source that was left out, at the threshold that was set for a sensitivity
  of 0.9 on the calibration splits of the others ("mean"), and at the lowest of the thresholds that each of them sets
  ("worst");
- the expected calibration error of the probability of positive;
- the gate: the share of gradable photographs with a warning and with a retake by distance, the AUROC of the distance for the
  left-out source against the calibration photographs, and for the errors of the decision; sensitivity with the gate;
- recalibration on k photographs of the source, by the code of `dr_tf recalibrate`: the decision on its other photographs, as
  means over draws of patients. A sensitivity of 0.9 is the target, and a calibration error of 0 the limit.

    python benchmarks/other_cameras.py --run_dir runs/any_camera_sources --records records [--draws 50]
    python benchmarks/other_cameras.py --run_dir dr_tf/ready --records records --datasets eyepacs odir
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from sklearn.metrics import roc_auc_score

from dr_tf.api import audit_record_sets
from dr_tf.data.batches import image_batches
from dr_tf.data.cross_set_copies import leave_out_copies
from dr_tf.data.images import ImageLoader
from dr_tf.data.records import Records, open_records
from dr_tf.evaluation.metrics.compute import compute_metrics
from dr_tf.evaluation.predict_records import predict
from dr_tf.evaluation.predictions import Predictions
from dr_tf.inference.calibration_error import expected_calibration_error
from dr_tf.inference.fit_rule import CalibrationLabels
from dr_tf.inference.gate import distance_limit
from dr_tf.inference.modes import PLAIN, score_batches
from dr_tf.inference.rule import OUT_OF_DISTRIBUTION, Rule
from dr_tf.inference.rule_file import read_rule
from dr_tf.inference.run import DECISION, HELD_OUT, ScoredRows, load_run, read_calibration, read_scored_rows
from dr_tf.models.heads import HEADS
from dr_tf.training.recalibrate import MIN_PATIENTS, at_estimated_prevalence, fit_on_labels

METRICS = (
    "auroc",
    "quadratic_kappa",
    "sensitivity",
    "specificity",
    "sensitivity_deployed",
    "specificity_deployed",
    "ece_positive",
)
PHOTOGRAPHS = (50, 100, 200)


def of_positive(rule: Rule, records: Records, rows: np.ndarray) -> np.ndarray:
    """Return 1 or 0 of the rule's definition of positive, -1 where unknown."""
    labels = CalibrationLabels.from_records(rule.heads, rule.decides, records.columns, rows)
    return labels.definition_labels[:, rule.head.definitions.index(rule.head.positive)]


def gate_figures(p: Predictions, rule: Rule, calibration: ScoredRows, held_out: ScoredRows) -> dict[str, float]:
    """Measure the gate on the source that was left out."""
    own = calibration.distances[np.isfinite(calibration.distances)]  # a run of an earlier version has none
    wrong = (p.refer != (p.truth_positive == 1))[p.truth_positive >= 0]
    by_distance = p.reason == OUT_OF_DISTRIBUTION
    gradable = by_distance | (p.reason == "")  # by the photograph itself
    return {
        "not_gradable": float(1 - gradable.mean()),
        "retake_by_distance": float(by_distance[gradable].mean()),
        "warned": float((p.warning != "")[gradable].mean()),
        **(foreign_figures(own, held_out.distances, gradable) if len(own) else {}),
        "auroc_errors": float(roc_auc_score(wrong, held_out.distances[p.truth_positive >= 0])),
    }


def foreign_figures(own: np.ndarray, foreign: np.ndarray, gradable: np.ndarray) -> dict[str, float]:
    """Measure how well the distance tells the source that was left out from the calibration photographs."""
    limit = distance_limit(own)
    is_foreign = np.repeat([0, 1], [len(own), len(foreign)])
    return {
        "beyond_known": float((foreign > limit)[gradable].mean()),
        "auroc_foreign": float(roc_auc_score(is_foreign, np.concatenate([own, foreign]))),
    }


def decide(p: np.ndarray, truth: np.ndarray, threshold: float) -> dict[str, float]:
    """Return the sensitivity, the specificity and the expected calibration error of probabilities."""
    refer = p >= threshold
    return {
        "sensitivity": float(refer[truth == 1].mean()),
        "specificity": float((~refer)[truth == 0].mean()),
        "ece": expected_calibration_error(p, truth) or 0.0,
    }


def worst_source_threshold(rule: Rule, records: Records, calibration: ScoredRows) -> float:
    """Return the lowest of the thresholds that each calibration source sets, by the calibration of all."""
    sources = records.sources[calibration.rows]
    p = rule.head.p_positive(rule.probabilities(calibration.scores))
    truth = of_positive(rule, records, calibration.rows)
    # The 0.1 quantile of the positive photographs; the rule's own is a bound on it, by patients.
    return min(float(np.quantile(p[(sources == s) & (truth == 1)], 0.1)) for s in np.unique(sources))


def recalibration_curve(rule: Rule, records: Records, scored: ScoredRows, draws: int) -> dict[str, dict[str, float]]:
    """Return the means over draws of the decision on the photographs that were not drawn, by number of those drawn."""
    truth = of_positive(rule, records, scored.rows)
    patients = np.asarray(records.columns["patient_id"])[scored.rows]
    results: dict[str, list[dict[str, float]]] = {}
    for draw in range(draws):
        names = np.random.default_rng(draw).permutation(np.unique(patients))
        for count in PHOTOGRAPHS:
            in_order = np.concatenate([np.flatnonzero(patients == name) for name in names[:count]])
            places = in_order[:count]
            rest = np.setdiff1d(np.flatnonzero(truth >= 0), np.flatnonzero(np.isin(patients, patients[places])))
            p_rest = rule.head.p_positive(rule.probabilities(scored.take(rest).scores))
            results.setdefault(f"{count}: as it was", []).append(
                decide(p_rest, truth[rest], rule.operating_point().threshold)
            )
            moved = at_estimated_prevalence(rule, scored.take(places))
            p_moved = rule.head.p_positive(moved.probabilities(scored.take(rest).scores))
            results.setdefault(f"{count}: without labels", []).append(
                decide(p_moved, truth[rest], moved.operating_point().threshold)
            )
            if min((truth[places] == 1).sum(), (truth[places] == 0).sum()) < MIN_PATIENTS:
                continue
            again = fit_on_labels(rule, records, scored.take(places))
            p = again.head.p_positive(again.probabilities(scored.take(rest).scores))
            results.setdefault(f"{count}: with labels", []).append(
                decide(p, truth[rest], again.operating_point().threshold)
            )
    return {
        name: {key: float(np.mean([one[key] for one in found])) for key in found[0]} | {"draws": len(found)}
        for name, found in results.items()
    }


def measure_source(
    rule: Rule,
    records: Records,
    scored: ScoredRows,
    calibration: ScoredRows,
    worst: dict[str, float] | None,
    draws: int,
) -> dict[str, Any]:
    """Measure a rule on photographs of a source that its network did not learn from."""
    p = predict(rule, records, scored, split="held_out")
    metrics = compute_metrics(p)
    return {
        "n": len(p),
        "positive": int((p.truth_positive == 1).sum()),
        "metrics": {
            name: [metrics[name][key] for key in ("value", "low", "high")] for name in METRICS if name in metrics
        },
        "threshold": rule.operating_point().threshold,
        "worst_source_threshold": worst,
        "gate": gate_figures(p, rule, calibration, scored),
        "recalibrated": recalibration_curve(rule, records, scored, draws),
    }


def of_source_runs(run_dir: pathlib.Path, root: str, draws: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (source, measurements) of each run of a leave-one-source-out training."""
    folders = sorted(path for path in run_dir.glob("source-*") if (path / HELD_OUT).exists())
    _, preparation = read_rule(folders[0] / DECISION, HEADS)
    records, _ = leave_out_copies(open_records(root, preparation.records), audit_record_sets)
    for folder in folders:
        rule, _ = read_rule(folder / DECISION, HEADS)
        held_out, calibration = read_scored_rows(folder / HELD_OUT), read_calibration(folder)
        assert held_out is not None and calibration is not None
        p = predict(rule, records, held_out[0], split="held_out")
        known = p.truth_positive >= 0
        threshold = worst_source_threshold(rule, records, calibration[0])
        worst = decide(p.p_positive[known], p.truth_positive[known], threshold)
        yield folder.name, measure_source(rule, records, held_out[0], calibration[0], worst, draws)


def of_one_run(
    run_dir: pathlib.Path, root: str, datasets: Sequence[str], draws: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (record set, measurements) of a run on other record sets, without their test splits."""
    run, calibration = load_run(run_dir), read_calibration(run_dir)
    assert calibration is not None and run.feature_distribution is not None
    for name in datasets:
        records = open_records(root, name)
        usable = run.rule.head.has_label(records.columns) & (records.columns["split"] != "test")
        rows = np.flatnonzero(usable)
        images = ImageLoader(records, image_size=run.network.image_size, cache="none")
        batches = image_batches(images, rows=rows, batch_size=32)
        scores = score_batches(run.network, run.rule.requested_modes(PLAIN), batches)
        scored = ScoredRows(rows, scores.scores, scores.outputs, run.feature_distribution.distance(scores.features))
        yield name, measure_source(run.rule, records, scored, calibration[0], None, draws)


def main() -> None:
    """Measure all sources and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run_dir", required=True, type=pathlib.Path)
    parser.add_argument("--records", required=True)
    parser.add_argument("--datasets", nargs="*", metavar="NAME", help="record sets for a single run, such as odir")
    parser.add_argument("--draws", type=int, default=50)
    args = parser.parse_args()
    if args.datasets:
        measured = of_one_run(args.run_dir, args.records, args.datasets, args.draws)
    else:
        measured = of_source_runs(args.run_dir, args.records, args.draws)
    results = {}
    for source, result in measured:
        results[source] = result
        print(f"\n{source}: n {result['n']}, positive {result['positive']}")
        for name, (value, low, high) in result["metrics"].items():
            print(f"  {name:28}{value:7.3f} ({low:.3f} to {high:.3f})")
        for name in ("worst_source_threshold", "gate"):
            print(f"  {name}: " + ", ".join(f"{key} {value:.3f}" for key, value in (result[name] or {}).items()))
        for name, row in result["recalibrated"].items():
            print(f"  {name:24}" + ", ".join(f"{key} {value:.3f}" for key, value in row.items()), flush=True)
    machine = f"{processor()}, {os.cpu_count()} cores"
    print(json.dumps({"machine": machine, "python": platform.python_version(), "sources": results}))


if __name__ == "__main__":
    main()
