"""How often is the promise of a threshold broken, "sensitivity at least 0.9", where the truth is known?

Drawn patients have two eyes alike, and 40 features that tell of an eye's severity; logistic regression learns from them.
Compared are three ways to set the threshold of a learner, each from as many patients, by the code that sets it in a run:

- split: from calibration patients, of whom it has not learned. This is what a guarantee is for.
- refit: it has learned from all patients, and the learners of five folds answered to those of whom they had not.
- photographs: as split, but nobody knows whose the photographs are, so that each counts as a patient.

The true sensitivity is that on further patients (of photographs: on theirs), 42,000 of them positive. The limit: a promise
may be broken in 5 % of draws. `by luck` is how often the rank that was taken may fail where nothing else is wrong.
`scale` is the length of the deciding learner's weights over that of the learners that set the threshold, the median.

  python benchmarks/guarantee.py [--draws 600] [--patients 100 200 400]
"""

import argparse
import json
import os
import pathlib
import platform
import sys
import time

# Matrices are small: threads only stand in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import sklearn
from machine import processor
from scipy.special import expit
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from dr_tf.evaluation.statistics.proportions import wilson
from dr_tf.inference.operating_points import RISK, guaranteed_rank, operating_point, per_patient

TARGET, FEATURES, FOLDS = 0.9, 40, 5
ALIKE = 0.95  # share of the variance of eyes that is between patients
POSITIVE_FROM = -0.3  # of the severity: 62 % of eyes are positive, as in IDRiD's test split
LEARNERS = {"strong": 1e-3, "medium": 1e-1, "weak": 1e2}  # C: the inverse of the strength of regularization
MODES = ("split", "refit", "photographs")


def draw(patients, rng):
    """(features [2 n, 40], truth [2 n]) of n patients whose eyes stand together."""
    weights = 0.6 * 0.9 ** np.arange(FEATURES)
    severity = _two_eyes(rng, patients, 1)
    features = severity * weights + _two_eyes(rng, patients, FEATURES)
    return features, (severity[:, 0] > POSITIVE_FROM).astype(int)


def _two_eyes(rng, patients, width):
    shared = rng.standard_normal((patients, width), dtype=np.float32).repeat(2, axis=0)
    own = rng.standard_normal((2 * patients, width), dtype=np.float32)
    return np.float32(ALIKE**0.5) * shared + np.float32((1 - ALIKE) ** 0.5) * own


def positive_patients(patients, rng):
    """As `draw`, of those alone who have a positive eye: sensitivity asks for no other."""
    features, truth = draw(patients, rng)
    kept = truth.reshape(-1, 2).any(axis=1).repeat(2)
    return features[kept], truth[kept]


def learn(features, truth, strength):
    return LogisticRegression(C=strength, max_iter=1000).fit(features, truth)


def answer(learner, features):
    return expit(learner.decision_function(features))


def out_of_fold(features, truth, folds, strength):
    """(scores of each photograph by the learner that did not learn from it, the learners)."""
    scores, learners = np.zeros(len(truth)), []
    for fold in range(FOLDS):
        held_out = folds == fold
        learners.append(learn(features[~held_out], truth[~held_out], strength))
        scores[held_out] = answer(learners[-1], features[held_out])
    return scores, learners


def one_draw(patients, strength, population, rng):
    """{way: (true sensitivity, how often luck breaks it, scale)}."""
    (features, truth), (others, others_truth) = draw(patients, rng), draw(patients, rng)
    names = np.arange(patients).repeat(2)
    learner = learn(features, truth, strength)
    scores, (of_folds, learners) = answer(learner, others), out_of_fold(features, truth, names % FOLDS, strength)
    found = answer(learner, population[0])
    worse_eyes, positive_eyes = found.reshape(-1, 2).max(axis=1), found[population[1] == 1]
    scale = np.median([np.linalg.norm(learner.coef_) / np.linalg.norm(other.coef_) for other in learners])
    return {
        "split": (*kept(*per_patient(scores, others_truth, names), worse_eyes), 1.0),
        "refit": (*kept(*per_patient(of_folds, truth, names), worse_eyes), scale),
        "photographs": (*kept(scores, others_truth, positive_eyes), 1.0),
    }


def kept(scores, truth, positives):
    """(the true sensitivity, that of all `positives`, of the threshold set on these, how often luck breaks it)."""
    point, n = operating_point("sensitivity", TARGET, scores, truth), int((truth == 1).sum())
    assert point.guaranteed, point.note
    return (positives >= point.threshold).mean(), binom.cdf(guaranteed_rank(n, TARGET) - 1, n, 1 - TARGET)


def simulate(patients, strength, *, draws, population, seed=0):
    """{way: figures} over so many draws."""
    rng, found = np.random.default_rng(seed), {way: [] for way in MODES}
    for _ in range(draws):
        for way, values in one_draw(patients, strength, population, rng).items():
            found[way].append(values)
    return {way: measured(np.array(values)) for way, values in found.items()}


def measured(values):
    """Figures of [draws, 3]: true sensitivity, luck, scale."""
    broken, n = int((values[:, 0] < TARGET).sum()), len(values)
    return {
        "broken": [broken / n, *wilson(broken, n)],
        "by_luck": values[:, 1].mean(),
        "sensitivity": values[:, 0].mean(),
        "scale": np.median(values[:, 2]),
    }


def line(patients, learner, way, figures):
    share, low, high = figures["broken"]
    told = f"{share:7.1%} ({low:.1%} to {high:.1%})"
    return (
        f"{patients:8} {learner:9}{way:13}{told:26}{figures['by_luck']:9.1%}{figures['sensitivity']:12.3f}"
        f"{figures['scale']:8.2f}"
    )


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--draws", type=int, default=600)
    flags.add_argument("--patients", type=int, nargs="+", default=[100, 200, 400])
    flags = flags.parse_args()
    start, found = time.perf_counter(), []
    population = positive_patients(63_000, np.random.default_rng(1))
    print(f"sensitivity at least {TARGET:g}, which may be broken in {RISK:.0%}; {flags.draws:,} draws")
    print(
        f"{'patients':8} {'penalty':9}{'way':13}{'broken (95 % interval)':26}{'by luck':>9}{'sensitivity':>12}{'scale':>8}"
    )
    for patients in flags.patients:
        for learner, strength in LEARNERS.items():
            for way, figures in simulate(patients, strength, draws=flags.draws, population=population).items():
                print(line(patients, learner, way, figures), flush=True)
                found.append({"patients": patients, "penalty": learner, "way": way, **figures})
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor(),
                    "load": round(os.getloadavg()[0], 1)},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "target": TARGET, "limit": RISK, "draws": flags.draws, "minutes": round((time.perf_counter() - start) / 60, 1),
        "found": [{name: np.round(value, 4).tolist() if isinstance(value, (list, float)) else value
                   for name, value in each.items()} for each in found],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
