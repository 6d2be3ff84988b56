"""Compare the modes of cross-validated runs: heads, neighbours and averages on the same features, over several seeds.

Each run is one of `idrid_ordinal_heads.gin` with another `train.seed`. Every mode predicts the same out-of-fold examples,
with a rule that never saw them. For each mode the table has quadratic kappa, mean absolute error, the share that is off by
one grade at most, and the recall of grades 3 and 4: the mean over the seeds, their standard deviation, and a 95 %
interval of that mean from bootstrap samples of patients. Differences from the plain mode are paired.

    python benchmarks/heads.py --records records --run_dirs runs/heads-0 runs/heads-1 ...
"""

import argparse
import json
import os
import pathlib
import sys

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

SAMPLES = 2000
METRICS = ("kappa", "MAE", "off by one", "recall of grade 3", "recall of grade 4")
AVERAGE = "coral+prototype"  # a mean of modes has no scores of its own


def metrics_of(matrices: np.ndarray) -> np.ndarray:
    """Compute METRICS from confusion matrices [..., true, predicted]; returns [..., metrics]."""
    from dr_tf.evaluation.metrics import confusion

    recall = confusion.recall(matrices)
    of_all = [metric(matrices) for metric in (confusion.quadratic_kappa, confusion.mae, confusion.off_by_one)]
    return np.stack([*of_all, recall[..., 3], recall[..., 4]], axis=-1)


def read(run_dirs: list[str], records_root: str) -> tuple[dict, np.ndarray]:
    """Return {mode: cells of the confusion matrix of each example and seed [seeds, n]}, and the patients [n]."""
    from dr_tf.data.records import open_records
    from dr_tf.evaluation.predictions import Predictions
    from dr_tf.evaluation.protocol.out_of_fold import predict_folds, read_folds

    cells, patients = {}, None
    for run_dir in run_dirs:
        folds = read_folds(run_dir)
        records = open_records(records_root, folds[0].preparation.records)
        modes = list(dict.fromkeys(["plain", *folds[0].scored.scores, AVERAGE]))
        for mode in modes:
            parts = [part for part, *_ in predict_folds(run_dir, folds, records, mode)[1]]
            predictions = Predictions.concatenate(parts)
            order = np.argsort(predictions.ids)
            cells.setdefault(mode, []).append((predictions.truth * 5 + predictions.predicted)[order])
            patients = predictions.patients[order]
    return {mode: np.stack(seeds) for mode, seeds in cells.items()}, patients


def bootstrap_weights(patients: np.ndarray) -> np.ndarray:
    """Draw how often each example is in each bootstrap sample of patients, [SAMPLES, n]."""
    _, codes = np.unique(patients, return_inverse=True)
    count = codes.max() + 1
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=SAMPLES)
    return draws[:, codes]


def main() -> None:
    """Run the comparison and print its table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True)
    parser.add_argument("--run_dirs", required=True, nargs="+")
    flags = parser.parse_args()
    cells, patients = read(flags.run_dirs, flags.records)
    weights = np.concatenate([np.ones((1, len(patients))), bootstrap_weights(patients)])
    one_hot = {mode: (seeds[..., None] == np.arange(25)).astype(np.float32) for mode, seeds in cells.items()}
    # [1 + samples, seeds, metrics]; the first row is of all examples.
    values = {
        mode: metrics_of(np.einsum("bn,snk->bsk", weights, cube, optimize=True).reshape(-1, len(cube), 5, 5))
        for mode, cube in one_hot.items()
    }
    table = {}
    for mode, of_mode in values.items():
        print(mode)
        for i, metric in enumerate(METRICS):
            mean, difference = of_mode[..., i].mean(axis=1), (of_mode - values["plain"])[..., i].mean(axis=1)
            row = {
                "value": mean[0], "interval": np.nanquantile(mean[1:], (0.025, 0.975)).tolist(),
                "sd_of_seeds": of_mode[0, :, i].std(ddof=1) if of_mode.shape[1] > 1 else 0.0,
                "difference": difference[0], "difference_interval": np.nanquantile(difference[1:], (0.025, 0.975)).tolist(),
            }  # fmt: skip
            table.setdefault(mode, {})[metric] = row
            print(
                f"  {metric:18} {row['value']:.3f} ({row['interval'][0]:.3f}-{row['interval'][1]:.3f}), sd of seeds "
                f"{row['sd_of_seeds']:.3f}; against plain {row['difference']:+.3f} "
                f"({row['difference_interval'][0]:+.3f} to {row['difference_interval'][1]:+.3f})"
            )
    print(json.dumps({"n": len(patients), "seeds": len(flags.run_dirs), "bootstrap_samples": SAMPLES, "modes": table}))


if __name__ == "__main__":
    main()
