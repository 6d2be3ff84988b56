"""Actions of a finished run on images that it should not grade: degraded ones, ones without a retina, other cameras.

Every group is decided as by `dr_tf predict`:

- the run's own published test photographs (IDRiD's, if it was trained on IDRiD);
- the same, degraded by the models of `gradability.py`;
- pictures without a retina (those of the tests);
- eyes of ODIR, taken by other cameras: normal ones, and those of each label.

For each group the script prints the shares of refer, clear and retake with Wilson confidence intervals, the AUROC of
the out-of-distribution distance against the run's own photographs, and the most frequent reasons.

The limits: all pictures without a retina are retaken. Of the run's own photographs no more are retaken than the
coverage of the gate allows: 1 in 100 by distance, and those that are hardly gradable as published. A diseased eye that
is cleared is an error, as is a normal eye that is referred.

    python benchmarks/gate.py --run_dir runs/idrid [--every 1] [--eyes 200]      # DR_TF_SHARED: the folder of real data
"""

from __future__ import annotations

import argparse
import collections
import csv
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from gradability import DEGRADATIONS, IDRID, ODIR, auroc, crop, degrade

from dr_tf.evaluation.statistics.proportions import wilson
from dr_tf.grades import ODIR_LABELS
from dr_tf.inference.decision import ACTIONS, Decision
from tests.fundus.not_fundus import drawn, samples

Image = pathlib.Path | np.ndarray


def image_groups(every: int, eyes: int) -> Iterator[tuple[str, Sequence[Image]]]:
    """Yield (name, images) of each group. The first group is the run's own test split.

    Args:
        every: take each n-th of the own photographs.
        eyes: the most eyes of ODIR for each label.
    """
    own = sorted((IDRID / "b. Testing Set").glob("*.jpg"))[::every]
    yield "own test split", own
    crops = [crop(path) for path in own]
    for name, (_, strengths, unit, _) in DEGRADATIONS.items():
        for strength in (strengths[0], strengths[-1]):
            rng = np.random.default_rng(0)
            yield f"{name}, {unit} {strength:.2g}", [degrade(name, image, strength, rng) for image in crops]
    yield "drawn pictures", [picture for _, picture in drawn()]
    yield "sample pictures of packages", [picture for _, picture in samples()]
    for label, paths in odir_eyes().items():
        yield f"ODIR, {ODIR_LABELS[label]}", paths[:eyes]


def odir_eyes() -> dict[str, list[pathlib.Path]]:
    """Return {label: images of eyes with this label in their keywords}, in random order."""
    by_label: dict[str, list[pathlib.Path]] = {label: [] for label in ODIR_LABELS}
    if (ODIR / "full_df.csv").exists():
        with open(ODIR / "full_df.csv", newline="") as table:
            for row in csv.DictReader(table):
                path = ODIR / "preprocessed_images" / row["filename"]
                if path.exists():
                    by_label[row["labels"].strip("[']")].append(path)
    rng = np.random.default_rng(0)
    return {label: [paths[i] for i in rng.permutation(len(paths))] for label, paths in by_label.items() if paths}


def action_shares(decisions: Sequence[Decision]) -> dict[str, Any]:
    """Return n, (share, low, high) of each action, and how often each reason occurs."""
    actions = collections.Counter(decision.action for decision in decisions)
    n = len(decisions)
    shares = {action: [actions[action] / n, *wilson(actions[action], n)] for action in ACTIONS}
    reasons = collections.Counter(
        re.sub(r"\d+ %", "part", decision.reason.split(":")[0]) for decision in decisions if decision.reason
    )
    return {"n": n, **shares, "reasons": dict(reasons.most_common())}


def distances(decisions: Sequence[Decision]) -> np.ndarray:
    """Return the out-of-distribution distances of the decisions that have one."""
    return np.array([decision.distance for decision in decisions if decision.distance is not None])


def table_row(name: str, results: dict[str, Any]) -> str:
    """Format the results of a group as a line of the table."""
    shares = "".join(
        f"{share:8.3f} ({low:.3f} to {high:.3f})" for share, low, high in (results[action] for action in ACTIONS)
    )
    distance = "" if results["auroc_of_distance"] is None else f"{results['auroc_of_distance']:.3f}"
    reasons = ", ".join(f"{reason} {count}" for reason, count in list(results["reasons"].items())[:3])
    return f"{name:42}{results['n']:5}{shares}{distance:>10}  {reasons}"


def main() -> None:
    """Decide on all groups and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--every", type=int, default=1, help="take each n-th of the own photographs")
    parser.add_argument("--eyes", type=int, default=200, help="the most eyes of ODIR for each label")
    args = parser.parse_args()
    from dr_tf.inference.predictor import Predictor

    predictor = Predictor.from_run(args.run_dir)
    results: dict[str, dict[str, Any]] = {}
    own_distances = None
    print(f"{'':42}{'n':>5}" + "".join(f"{action:>26}" for action in ACTIONS) + "  distance  most frequent reasons")
    for name, images in image_groups(args.every, args.eyes):
        if not images:
            continue
        decisions = list(predictor.decisions(images))
        of_group = distances(decisions)
        own_distances = of_group if own_distances is None else own_distances
        auroc_of_distance = auroc(of_group, own_distances) if len(of_group) else None
        results[name] = action_shares(decisions) | {"auroc_of_distance": auroc_of_distance}
        print(table_row(name, results[name]), flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "tensorflow", "keras")}
    machine = f"{processor()}, {os.cpu_count()} cores"
    print(json.dumps({"machine": machine, "python": platform.python_version(), **versions, "groups": results}))


if __name__ == "__main__":
    main()
