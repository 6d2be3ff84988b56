"""How long do intervals take once the predictions are there?

Every figure of 10,000 predictions (five grades and the decision to refer; each patient's two eyes) with 2,000 bootstrap
rounds of patients; then the whole evaluation: subgroups, referral curves, the report with its charts, all files. Beside the plain way: draw patients with numpy, hand their photographs to scikit-learn's functions,
once a round. The plain way is timed over a few rounds and its time for 2,000 follows from them; it is handed only the
figures that scikit-learn has, and ours is also timed for those alone: the same work.

The limit is what must be done whatever the figures are: drawing the patients of 2,000 rounds and reading, for each, the
multiplicity of every photograph once, in the same threads. The wish is 20 s on two cores.

  python benchmarks/intervals.py [--photographs 10000] [--bootstrap_samples 2000] [--peer_rounds 20]
"""

import argparse
import json
import os
import pathlib
import platform
import sys
import tempfile
import time
import warnings

from machine import processor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np
from sklearn import metrics

from dr_tf.evaluation.evaluation_folder import write_evaluation
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.metrics.compute import compute_metrics, estimates_and_statistics
from dr_tf.evaluation.statistics.bootstrap import bootstrap
from tests.evaluation.synthetic_predictions import make_graded

SEED = 0


def plain_figures(truth, decided, probabilities, p_positive, refer):
    """What scikit-learn has of our figures: names as ours."""
    positive = truth >= 2
    grades = range(probabilities.shape[1])
    f1 = metrics.f1_score(truth, decided, average=None, labels=grades, zero_division=0)
    return {
        "accuracy": metrics.accuracy_score(truth, decided),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, decided),
        "quadratic_kappa": metrics.cohen_kappa_score(truth, decided, weights="quadratic"),
        "mae": metrics.mean_absolute_error(truth, decided),
        "f1_macro": f1.mean(),
        "nll": metrics.log_loss(truth, probabilities, labels=grades),
        "auroc": metrics.roc_auc_score(positive, p_positive),
        "average_precision": metrics.average_precision_score(positive, p_positive),
        "brier_positive": metrics.brier_score_loss(positive, p_positive),
        "sensitivity": metrics.recall_score(positive, refer),
        "specificity": metrics.recall_score(positive, refer, pos_label=0),
        "ppv": metrics.precision_score(positive, refer),
        **{f"auroc/{g}": metrics.roc_auc_score(truth == g, probabilities[:, g]) for g in grades},
        **{f"average_precision/{g}": metrics.average_precision_score(truth == g, probabilities[:, g]) for g in grades},
    }


def plain_bootstrap(p, rounds):
    """name -> values [rounds], a round at a time."""
    rng = np.random.default_rng(SEED)
    of_patient = np.split(np.argsort(p.patient_codes, kind="stable"), np.cumsum(np.bincount(p.patient_codes))[:-1])
    found = []
    for _ in range(rounds):
        rows = np.concatenate([of_patient[i] for i in rng.integers(len(of_patient), size=len(of_patient))])
        found.append(plain_figures(*(v[rows] for v in (p.truth, p.predicted, p.probabilities, p.p_positive, p.refer))))
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def our_names(p, names):
    classes = {f"/{i}": f"/{name}" for i, name in enumerate(p.classes)}
    return {name[:-2] + classes[name[-2:]] if name[-2:] in classes else name for name in names}


class Read:
    """The least statistic: each photograph's multiplicity is read once."""

    def __init__(self, codes):
        self.names, self.width, self._codes = {"read"}, len(codes), codes

    def __call__(self, drawn):
        return {"read": drawn.take(self._codes, axis=1).sum(axis=1)}


def in_turn(ways, repeats=3):
    """(name -> least seconds, name -> what it gave): taken in turn, so that a busy machine is fair to all."""
    took, given = {name: [] for name in ways}, {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            given[name] = way()
            took[name].append(time.perf_counter() - start)
    return {name: min(each) for name, each in took.items()}, given


def drawn_predictions(n):
    """Two eyes a patient, with what a record set tells of a photograph."""
    rng = np.random.default_rng(SEED)
    values = {"camera": "ABC", "eye": "LR", "sex": "FM", "age": "1234"}
    subgroups = {name: rng.choice(list(letters), n) for name, letters in values.items()}
    raw = make_graded(n, eyes=2, heat=2)
    told = {"uncalibrated": raw.probabilities, "p_positive_uncalibrated": raw.p_positive, "subgroups": subgroups}
    return make_graded(n, eyes=2, **told)


def whole_evaluation(p, rounds):
    with tempfile.TemporaryDirectory() as folder:
        write_evaluation(f"{folder}/evaluation", p, measure(p, prevalence=0.1, bootstrap_samples=rounds))


def rounds_of(p, statistics, rounds):
    return bootstrap(statistics, patients=int(p.patient_codes.max()) + 1, bootstrap_samples=rounds, seed=SEED)


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--photographs", type=int, default=10_000)
    flags.add_argument("--bootstrap_samples", type=int, default=2000)
    flags.add_argument("--peer_rounds", type=int, default=20)
    flags = flags.parse_args()
    warnings.simplefilter("ignore")
    p = drawn_predictions(flags.photographs)

    names = our_names(p, plain_bootstrap(p, 1))
    alike = [statistic for statistic in estimates_and_statistics(p)[1] if statistic.names & names]
    ways = {
        "all": lambda: compute_metrics(p, prevalence=0.1, bootstrap_samples=flags.bootstrap_samples),
        "whole": lambda: whole_evaluation(p, flags.bootstrap_samples),
        "same": lambda: rounds_of(p, alike, flags.bootstrap_samples),
        "plain": lambda: plain_bootstrap(p, flags.peer_rounds),
        "limit": lambda: rounds_of(p, [Read(p.patient_codes)], flags.bootstrap_samples),
    }
    took, given = in_turn(ways)
    took["plain"] *= flags.bootstrap_samples / flags.peer_rounds
    assert names <= set(given["same"]), names - set(given["same"])
    told = {
        "all": f"every figure ({len(given['all'])}), with its interval",
        "whole": "the whole evaluation: subgroups, curves and report besides",
        "same": f"the {len(names)} figures that scikit-learn has",
        "plain": f"those by scikit-learn, a round at a time (from {flags.peer_rounds} rounds)",
        "limit": "limit: draw, and read each multiplicity once",
    }
    print(
        f"{len(p):,} photographs of {p.patient_codes.max() + 1:,} patients, {flags.bootstrap_samples:,} rounds; least of 3"
    )
    for name, seconds in took.items():
        print(f"  {told[name]:62s} {seconds:9.2f} s")
    over = {"plain_over_same": took["plain"] / took["same"], "same_over_limit": took["same"] / took["limit"]}
    print("  " + ", ".join(f"{name.replace('_', ' ')} {ratio:.1f}" for name, ratio in over.items()))
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor(),
                    "load": round(os.getloadavg()[0], 1)},
        "versions": {"python": platform.python_version(), "numpy": np.__version__,
                     "scikit-learn": __import__("sklearn").__version__},
        "photographs": len(p), "bootstrap_samples": flags.bootstrap_samples, "figures": len(given["all"]), "figures_alike": len(names),
        "seconds": {name: round(least, 2) for name, least in took.items()},
        "ratios": {name: round(ratio, 1) for name, ratio in over.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
