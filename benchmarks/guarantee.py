"""Measure how often the guarantee of a threshold, "sensitivity at least 0.9", is violated on data with a known truth.

Synthetic patients have two similar eyes. Each eye has 40 features that depend on its severity, and a logistic
regression is trained on them. The threshold is set in three ways, each from as many patients, by the code that sets it
in a run:

- split: on calibration patients that the classifier was not trained on, which is what the guarantee is for.
- refit: on out-of-fold scores of the classifiers of five folds, while the deployed classifier is trained on all
  patients.
- photographs: as split, but with unknown patients, so that each image counts as one.

The true sensitivity is measured on further patients (for "photographs": on their images), 42,000 of them positive. The
limit is a violation in 5 % of draws. "by chance" is how often the chosen rank violates the target where all
assumptions hold. "scale" is the norm of the deployed classifier's weights over that of the classifiers that set the
threshold, as a median.

  python benchmarks/guarantee.py [--draws 600] [--patients 100 200 400]
"""

import argparse
import json
import os
import pathlib
import platform
import sys
import time
from typing import Any

# The matrices are small: threads would only slow each other down.
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
from dr_tf.inference.operating_points import (
    FAILURE_PROBABILITY,
    fit_operating_point,
    guaranteed_rank,
    patient_scores,
)

TARGET, FEATURES, FOLDS = 0.9, 40, 5
BETWEEN_PATIENTS = 0.95  # share of the variance of eyes that is between patients
POSITIVE_SEVERITY = -0.3  # an eye above it is positive: 62 % are, as in IDRiD's test split
PENALTIES = {"strong": 1e-3, "medium": 1e-1, "weak": 1e2}  # name -> C, the inverse of the regularization strength
METHODS = ("split", "refit", "photographs")

Images = tuple[np.ndarray, np.ndarray]  # features [2 n, 40] and truth [2 n] of n patients, the two eyes side by side


def draw(patients: int, rng: np.random.Generator) -> Images:
    """Draw the features and the truth of patients."""
    weights = 0.6 * 0.9 ** np.arange(FEATURES)
    severity = _two_eyes(rng, patients, 1)
    features = severity * weights + _two_eyes(rng, patients, FEATURES)
    return features, (severity[:, 0] > POSITIVE_SEVERITY).astype(int)


def _two_eyes(rng: np.random.Generator, patients: int, width: int) -> np.ndarray:
    shared = rng.standard_normal((patients, width), dtype=np.float32).repeat(2, axis=0)
    own = rng.standard_normal((2 * patients, width), dtype=np.float32)
    return np.float32(BETWEEN_PATIENTS**0.5) * shared + np.float32((1 - BETWEEN_PATIENTS) ** 0.5) * own


def positive_patients(patients: int, rng: np.random.Generator) -> Images:
    """Draw patients and keep those with a positive eye, on whom sensitivity is measured."""
    features, truth = draw(patients, rng)
    positive = truth.reshape(-1, 2).any(axis=1).repeat(2)
    return features[positive], truth[positive]


def train(features: np.ndarray, truth: np.ndarray, c: float) -> LogisticRegression:
    """Train a classifier."""
    return LogisticRegression(C=c, max_iter=1000).fit(features, truth)


def predict(classifier: LogisticRegression, features: np.ndarray) -> np.ndarray:
    """Return the probability of positive."""
    return expit(classifier.decision_function(features))


def out_of_fold(
    features: np.ndarray, truth: np.ndarray, folds: np.ndarray, c: float
) -> tuple[np.ndarray, list[LogisticRegression]]:
    """Return the score of each image by the classifier that was not trained on it, and the classifiers."""
    scores, classifiers = np.zeros(len(truth)), []
    for fold in range(FOLDS):
        held_out = folds == fold
        classifiers.append(train(features[~held_out], truth[~held_out], c))
        scores[held_out] = predict(classifiers[-1], features[held_out])
    return scores, classifiers


def one_draw(
    patients: int, c: float, population: Images, rng: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """Return {method: (true sensitivity, probability of a violation by chance, scale)} of one draw."""
    (features, truth), (calibration_features, calibration_truth) = draw(patients, rng), draw(patients, rng)
    names = np.arange(patients).repeat(2)
    classifier = train(features, truth, c)
    calibration_scores = predict(classifier, calibration_features)
    fold_scores, classifiers = out_of_fold(features, truth, names % FOLDS, c)
    scores = predict(classifier, population[0])
    worse_eye_scores, positive_scores = scores.reshape(-1, 2).max(axis=1), scores[population[1] == 1]
    norms = [np.linalg.norm(classifier.coef_) / np.linalg.norm(other.coef_) for other in classifiers]
    by_patient = patient_scores(calibration_scores, calibration_truth, names)
    return {
        "split": (*true_sensitivity(*by_patient, worse_eye_scores), 1.0),
        "refit": (
            *true_sensitivity(*patient_scores(fold_scores, truth, names), worse_eye_scores),
            float(np.median(norms)),
        ),
        "photographs": (*true_sensitivity(calibration_scores, calibration_truth, positive_scores), 1.0),
    }


def true_sensitivity(scores: np.ndarray, truth: np.ndarray, positives: np.ndarray) -> tuple[float, float]:
    """Set the threshold and measure it.

    Args:
        scores: that the threshold is set on.
        truth: 0 or 1 for each of `scores`.
        positives: scores of the positive population.

    Returns:
        (share of `positives` at or above the threshold, probability of a violation by chance).
    """
    point, n = fit_operating_point("sensitivity", TARGET, scores, truth), int((truth == 1).sum())
    rank = guaranteed_rank(n, TARGET)
    assert point.guaranteed, point.note
    return float((positives >= point.threshold).mean()), float(binom.cdf(rank - 1, n, 1 - TARGET))


def simulate(patients: int, c: float, *, draws: int, population: Images, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return {method: summary of so many draws}."""
    rng = np.random.default_rng(seed)
    values: dict[str, list[tuple[float, float, float]]] = {method: [] for method in METHODS}
    for _ in range(draws):
        for method, result in one_draw(patients, c, population, rng).items():
            values[method].append(result)
    return {method: summarize(np.array(results)) for method, results in values.items()}


def summarize(values: np.ndarray) -> dict[str, Any]:
    """Summarize the draws [draws, (true sensitivity, probability by chance, scale)] of one method."""
    violations, n = int((values[:, 0] < TARGET).sum()), len(values)
    return {
        "violated": [violations / n, *wilson(violations, n)],
        "by_chance": values[:, 1].mean(),
        "sensitivity": values[:, 0].mean(),
        "scale": np.median(values[:, 2]),
    }


def table_row(patients: int, penalty: str, method: str, summary: dict[str, Any]) -> str:
    """Return one row of the table."""
    share, low, high = summary["violated"]
    violated = f"{share:7.1%} ({low:.1%} to {high:.1%})"
    return (
        f"{patients:8} {penalty:9}{method:13}{violated:26}{summary['by_chance']:10.1%}{summary['sensitivity']:12.3f}"
        f"{summary['scale']:8.2f}"
    )


def main() -> None:
    """Print a table, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=600, help="number of simulated runs")
    parser.add_argument(
        "--patients", type=int, nargs="+", default=[100, 200, 400], help="patients in a calibration split"
    )
    flags = parser.parse_args()
    start, results = time.perf_counter(), []
    population = positive_patients(63_000, np.random.default_rng(1))
    print(f"sensitivity at least {TARGET:g}, which may be violated in {FAILURE_PROBABILITY:.0%}; {flags.draws:,} draws")
    print(
        f"{'patients':8} {'penalty':9}{'method':13}{'violated (95 % interval)':26}{'by chance':>10}{'sensitivity':>12}"
        f"{'scale':>8}"
    )
    for patients in flags.patients:
        for penalty, c in PENALTIES.items():
            for method, summary in simulate(patients, c, draws=flags.draws, population=population).items():
                print(table_row(patients, penalty, method, summary), flush=True)
                results.append({"patients": patients, "penalty": penalty, "method": method, **summary})
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor(),
                    "load": round(os.getloadavg()[0], 1)},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "target": TARGET, "limit": FAILURE_PROBABILITY, "draws": flags.draws, "minutes": round((time.perf_counter() - start) / 60, 1),
        "results": [{name: np.round(value, 4).tolist() if isinstance(value, (list, float)) else value
                     for name, value in result.items()} for result in results],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
