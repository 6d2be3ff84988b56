"""Time the confidence intervals of all metrics, beside a plain bootstrap with scikit-learn.

Timed are 10,000 predictions (five grades and the decision to refer; two images per patient) with 2,000 patient-level
bootstrap samples:

- all: every metric with its confidence interval.
- whole: the whole evaluation with subgroups, referral curves, the report with its charts, and all files.
- same: the metrics that scikit-learn also has.
- plain: these metrics by scikit-learn's functions, one bootstrap sample at a time. It is timed over a few samples and
  scaled to 2,000.
- limit: the least possible work: draw the patients of all bootstrap samples and read the weight of every image once,
  in the same threads.

The target is 20 s for "all" on two cores.

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
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from machine import processor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np
import sklearn
from sklearn import metrics

from dr_tf.evaluation.evaluation_folder import write_evaluation
from dr_tf.evaluation.measure import measure
from dr_tf.evaluation.metrics.compute import compute_metrics, estimates_and_statistics
from dr_tf.evaluation.predictions import Predictions
from dr_tf.evaluation.statistics.bootstrap import BootstrapStatistic, bootstrap
from tests.evaluation.synthetic_predictions import make_graded

SEED = 0


def sklearn_metrics(
    truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, p_positive: np.ndarray, refer: np.ndarray
) -> dict[str, float]:
    """Compute the metrics that scikit-learn has, under dr_tf's names with the number of the class."""
    positive = truth >= 2
    grades = range(probabilities.shape[1])
    f1 = metrics.f1_score(truth, predicted, average=None, labels=grades, zero_division=0)
    return {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
        "quadratic_kappa": metrics.cohen_kappa_score(truth, predicted, weights="quadratic"),
        "mae": metrics.mean_absolute_error(truth, predicted),
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


def sklearn_bootstrap(p: Predictions, bootstrap_samples: int) -> dict[str, np.ndarray]:
    """Compute {metric: values [bootstrap_samples]}, one bootstrap sample at a time."""
    rng = np.random.default_rng(SEED)
    by_patient = np.split(np.argsort(p.patient_codes, kind="stable"), np.cumsum(np.bincount(p.patient_codes))[:-1])
    samples = []
    for _ in range(bootstrap_samples):
        rows = np.concatenate([by_patient[i] for i in rng.integers(len(by_patient), size=len(by_patient))])
        arrays = (p.truth, p.predicted, p.probabilities, p.p_positive, p.refer)
        samples.append(sklearn_metrics(*(values[rows] for values in arrays)))
    return {name: np.array([sample[name] for sample in samples]) for name in samples[0]}


def with_class_names(p: Predictions, names: Collection[str]) -> set[str]:
    """Replace the numbers of classes by their names."""
    classes = {f"/{i}": f"/{name}" for i, name in enumerate(p.classes)}
    return {name[:-2] + classes[name[-2:]] if name[-2:] in classes else name for name in names}


class ReadWeights:
    """The cheapest bootstrap statistic: the weight of each image is read once."""

    def __init__(self, codes: np.ndarray) -> None:
        """Store the number of each image's patient [n]."""
        self.names, self.width, self._codes = {"read"}, len(codes), codes

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Sum the weights of the images."""
        return {"read": weights.take(self._codes, axis=1).sum(axis=1)}


def time_in_turn(
    functions: Mapping[str, Callable[[], Any]], repeats: int = 3
) -> tuple[dict[str, float], dict[str, Any]]:
    """Time functions in turn, so that other load affects all of them alike.

    Returns:
        ({name: least seconds}, {name: result}).
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    results = {}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            results[name] = function()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(each) for name, each in seconds.items()}, results


def synthetic_predictions(n: int) -> Predictions:
    """Make predictions of two images per patient, with the subgroups that a record set defines."""
    rng = np.random.default_rng(SEED)
    values = {"camera": "ABC", "eye": "LR", "sex": "FM", "age": "1234"}
    subgroups = {name: rng.choice(list(letters), n) for name, letters in values.items()}
    raw = make_graded(n, eyes=2, heat=2)
    uncalibrated = {"uncalibrated": raw.probabilities, "p_positive_uncalibrated": raw.p_positive}
    return make_graded(n, eyes=2, subgroups=subgroups, **uncalibrated)


def whole_evaluation(p: Predictions, bootstrap_samples: int) -> None:
    """Compute and write a whole evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        contents = measure(p, prevalence=0.1, bootstrap_samples=bootstrap_samples)
        write_evaluation(f"{folder}/evaluation", p, contents)


def bootstrap_all(
    p: Predictions, statistics: Sequence[BootstrapStatistic], bootstrap_samples: int
) -> dict[str, np.ndarray]:
    """Compute the bootstrap distributions of these statistics."""
    patients = int(p.patient_codes.max()) + 1
    return bootstrap(statistics, patients=patients, bootstrap_samples=bootstrap_samples, seed=SEED)


def main() -> None:
    """Print a table, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=10_000, help="number of predictions")
    parser.add_argument("--bootstrap_samples", type=int, default=2000, help="number of bootstrap samples")
    parser.add_argument("--peer_rounds", type=int, default=20, help="bootstrap samples that scikit-learn is timed over")
    flags = parser.parse_args()
    warnings.simplefilter("ignore")
    p = synthetic_predictions(flags.photographs)

    names = with_class_names(p, sklearn_bootstrap(p, 1))
    shared = [statistic for statistic in estimates_and_statistics(p)[1] if statistic.names & names]
    functions: dict[str, Callable[[], Any]] = {
        "all": lambda: compute_metrics(p, prevalence=0.1, bootstrap_samples=flags.bootstrap_samples),
        "whole": lambda: whole_evaluation(p, flags.bootstrap_samples),
        "same": lambda: bootstrap_all(p, shared, flags.bootstrap_samples),
        "plain": lambda: sklearn_bootstrap(p, flags.peer_rounds),
        "limit": lambda: bootstrap_all(p, [ReadWeights(p.patient_codes)], flags.bootstrap_samples),
    }
    seconds, results = time_in_turn(functions)
    seconds["plain"] *= flags.bootstrap_samples / flags.peer_rounds
    assert names <= set(results["same"]), names - set(results["same"])
    titles = {
        "all": f"every metric ({len(results['all'])}) with its confidence interval",
        "whole": "the whole evaluation, with subgroups, curves and report",
        "same": f"the {len(names)} metrics that scikit-learn has",
        "plain": f"these by scikit-learn, one sample at a time (from {flags.peer_rounds})",
        "limit": "limit: draw, and read each weight once",
    }
    print(
        f"{len(p):,} photographs of {p.patient_codes.max() + 1:,} patients, {flags.bootstrap_samples:,} bootstrap "
        "samples; least of 3"
    )
    for name, least in seconds.items():
        print(f"  {titles[name]:62s} {least:9.2f} s")
    ratios = {
        "plain_over_same": seconds["plain"] / seconds["same"],
        "same_over_limit": seconds["same"] / seconds["limit"],
    }
    print("  " + ", ".join(f"{name.replace('_', ' ')} {ratio:.1f}" for name, ratio in ratios.items()))
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor(),
                    "load": round(os.getloadavg()[0], 1)},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "photographs": len(p), "bootstrap_samples": flags.bootstrap_samples,
        "metrics": len(results["all"]), "shared_metrics": len(names),
        "seconds": {name: round(least, 2) for name, least in seconds.items()},
        "ratios": {name: round(ratio, 1) for name, ratio in ratios.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
