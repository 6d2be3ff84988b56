"""What does a finished run answer to photographs that it should not grade?

Every group goes the way of `python -m dr_tf.predict`: the run's own official test photographs (IDRiD's, if it learned
from IDRiD), the same degraded by the models of `gradability.py`, pictures that show no retina (those of the tests), and
eyes of ODIR, which other cameras took: normal ones, and those of each label. Printed are the shares of refer, clear and
retake with Wilson intervals, how well the distance from training tells the group from the run's own photographs (AUROC),
and the reasons. The limit: of pictures without a retina all retaken; of own photographs no more retaken than the gate's
promise, 1 in 100 by distance, and those that are hardly gradable as published. A photograph of an eye that is ill is
answered wrongly where it is cleared, of a normal one where it is referred.

    python benchmarks/gate.py --run_dir runs/idrid [--every 1] [--eyes 200]      # DR_TF_SHARED: the folder of real data
"""

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

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from gradability import DEGRADATIONS, IDRID, ODIR, auroc, crop, degrade

from dr_tf.evaluation.statistics.proportions import wilson
from dr_tf.grades import ODIR_LABELS
from dr_tf.inference.decision import ACTIONS
from tests.fundus.not_fundus import drawn, samples


def groups(every, eyes):
    """(name, photographs as `Predictor` takes them); the first are the run's own."""
    own = sorted((IDRID / "b. Testing Set").glob("*.jpg"))[::every]
    yield "own test split", own
    crops = [crop(path) for path in own]
    for name, (_, strengths, unit, _) in DEGRADATIONS.items():
        for strength in (strengths[0], strengths[-1]):
            rng = np.random.default_rng(0)
            yield f"{name}, {unit} {strength:.2g}", [degrade(name, image, strength, rng) for image in crops]
    yield "drawn pictures", [picture for _, picture in drawn()]
    yield "sample pictures of packages", [picture for _, picture in samples()]
    for label, paths in odir().items():
        yield f"ODIR, {ODIR_LABELS[label]}", paths[:eyes]


def odir():
    """{label: photographs of eyes that carry it}, at random by their names."""
    found = {label: [] for label in ODIR_LABELS}
    if (ODIR / "full_df.csv").exists():
        with open(ODIR / "full_df.csv", newline="") as table:
            for row in csv.DictReader(table):
                path = ODIR / "preprocessed_images" / row["filename"]
                if path.exists():
                    found[row["labels"].strip("[']")].append(path)
    rng = np.random.default_rng(0)
    return {label: [paths[i] for i in rng.permutation(len(paths))] for label, paths in found.items() if paths}


def measured(decisions):
    actions = collections.Counter(decision.action for decision in decisions)
    n = len(decisions)
    shares = {action: [actions[action] / n, *wilson(actions[action], n)] for action in ACTIONS}
    reasons = collections.Counter(
        re.sub(r"\d+ %", "part", decision.reason.split(":")[0]) for decision in decisions if decision.reason
    )
    return {"n": n, **shares, "reasons": dict(reasons.most_common())}


def distances(decisions):
    return np.array([decision.distance for decision in decisions if decision.distance is not None])


def line(name, figures):
    shares = "".join(
        f"{share:8.3f} ({low:.3f} to {high:.3f})" for share, low, high in (figures[action] for action in ACTIONS)
    )
    far = "" if figures["auroc_of_distance"] is None else f"{figures['auroc_of_distance']:.3f}"
    reasons = ", ".join(f"{reason} {count}" for reason, count in list(figures["reasons"].items())[:3])
    return f"{name:42}{figures['n']:5}{shares}{far:>8}  {reasons}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--every", type=int, default=1, help="only each n-th of the own photographs")
    parser.add_argument("--eyes", type=int, default=200, help="of ODIR, at most, for each label")
    args = parser.parse_args()
    from dr_tf.inference.predictor import Predictor

    predictor, found, own = Predictor.of_run(args.run_dir), {}, None
    print(f"{'':42}{'n':>5}" + "".join(f"{action:>26}" for action in ACTIONS) + "  far by  most frequent reasons")
    for name, photographs in groups(args.every, args.eyes):
        if not photographs:
            continue
        decisions = list(predictor.decisions(photographs))
        far = distances(decisions)
        own = far if own is None else own
        found[name] = measured(decisions) | {"auroc_of_distance": auroc(far, own) if len(far) else None}
        print(line(name, found[name]), flush=True)
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "tensorflow", "keras")}
    machine = f"{processor()}, {os.cpu_count()} cores"
    print(json.dumps({"machine": machine, "python": platform.python_version(), **versions, "groups": found}))


if __name__ == "__main__":
    main()
