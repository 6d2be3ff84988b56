"""CBAM in the decoder: the same folds with and without it, from one feature bank, and the differences with intervals.

The config `idrid_fcn_cbam` is trained on each of the folds of IDRiD twice. The networks differ in `fcn_classifier.cbam`
only. Each photograph is predicted by the network that did not see its fold. Differences are paired: both predictions are
of the same photographs. With `--test`, the one with the higher AUROC out of fold is trained once more on all folds
and predicts the test split. Nothing is calibrated here: the grade is the most probable one.

Needs records of IDRiD and a preset of EfficientNet-Lite0.

    python benchmarks/decoder.py --records records --output predictions.npz [--test] [--preset FOLDER]

FOLDER is $DR_TF_SHARED/presets/efficientnet_lite0_imagenet by default.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
import time

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PRESET = (
    pathlib.Path(os.environ.get("DR_TF_SHARED", ROOT.parent / "shared")) / "presets" / "efficientnet_lite0_imagenet"
)
SAMPLES = 2000  # bootstrap samples of photographs
ARMS = {"with CBAM": True, "without CBAM": False}


def experiment_of(name, flags):
    """(experiment, records) of the config, with or without CBAM."""
    from dr_tf import configuration

    bindings = [f"PRESET = '{flags.preset}'", *flags.gin_param, f"fcn_classifier.cbam = {ARMS[name]}"]
    configuration.parse([ROOT / "configs" / "experiments" / "idrid_fcn_cbam.gin"], bindings)
    return configuration.build_experiment(flags.records)


def train_and_predict(experiment, records, roles, model_path):
    """Train on `roles.fit` from the bank and return the logits of `roles.select`, [n, grades]."""
    import keras

    from dr_tf.models.layers.replace_layers import to_plain_keras
    from dr_tf.models.network import image_size_of
    from dr_tf.training.feature_bank import split_at_frozen_part
    from dr_tf.training.train import compile_model
    from dr_tf.training.training_data import TrainingData

    keras.utils.clear_session()
    keras.utils.set_random_seed(experiment.seed)
    model = experiment.model(heads=experiment.heads)
    data = TrainingData(experiment, records, roles, image_size_of(model))
    part, batches = split_at_frozen_part(model, data, experiment=experiment, roles=roles)
    batches.fill()
    compile_model(part, experiment, batches, {"grade": []})
    part.fit(
        batches.training_batches(),
        epochs=experiment.epochs,
        steps_per_epoch=batches.order.steps,
        shuffle=False,
        verbose=0,
    )
    to_plain_keras(keras.Model(model.input, model.output, name=model.name)).save(model_path)
    return part.predict(batches.ordered_batches(roles.select), verbose=0)["grade"]


def figures(logits, grades, weights=None):
    """(AUROC of referable, quadratic kappa of the most probable grade, accuracy)."""
    import numpy as np
    from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

    log_odds = np.logaddexp.reduce(logits[:, 2:], axis=1) - np.logaddexp.reduce(logits[:, :2], axis=1)
    predicted = logits.argmax(axis=1)
    return np.array([
        roc_auc_score(grades >= 2, log_odds, sample_weight=weights),
        cohen_kappa_score(grades, predicted, weights="quadratic", sample_weight=weights),
        accuracy_score(grades, predicted, sample_weight=weights),
    ])  # fmt: skip


def compare(logits, grades):
    """{name: {figure: (value, low, high)}} of each network and of their difference, by the same bootstrap samples."""
    import numpy as np

    draws = np.random.default_rng(0).multinomial(len(grades), [1 / len(grades)] * len(grades), SAMPLES)
    samples = {name: np.array([figures(values, grades, draw) for draw in draws]) for name, values in logits.items()}
    points = {name: figures(values, grades) for name, values in logits.items()}
    if len(logits) == 2:
        for values in (points, samples):
            values["difference"] = values["with CBAM"] - values["without CBAM"]
    table = {}
    for name, point in points.items():
        low, high = np.percentile(samples[name], (2.5, 97.5), axis=0)
        table[name] = {
            figure: [round(float(v), 3) for v in (point[i], low[i], high[i])]
            for i, figure in enumerate(("auroc", "quadratic_kappa", "accuracy"))
        }
    return table


def main() -> None:
    """Run the benchmark and print its tables and JSON."""
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True)
    parser.add_argument("--output", required=True, help="npz file of the logits; the networks are saved beside it")
    parser.add_argument(
        "--folds", type=int, choices=range(1, 6), default=5, help="train only the first of the five folds"
    )
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--preset", default=str(PRESET))
    parser.add_argument("--gin_param", action="append", default=[])
    flags = parser.parse_args()
    from dr_tf.training.data_roles import Roles, fold_roles, refit_roles

    start, output = time.perf_counter(), pathlib.Path(flags.output)
    logits, tested, rows, results = {name: [] for name in ARMS}, {}, [], {}
    for k in range(flags.folds):
        for name in ARMS:
            experiment, records = experiment_of(name, flags)
            roles = fold_roles(records, experiment.head, fold=k, folds=5, selects=False)
            path = output.with_name(f"{output.stem}-{name.split()[0]}-{k}.keras")
            logits[name].append(train_and_predict(experiment, records, roles, path))
            print(f"fold {k} {name}: {time.perf_counter() - start:.0f} s", flush=True)
        rows.append(roles.select)
    grades, rows = records.columns["grade"], np.concatenate(rows)
    logits = {name: np.concatenate(parts) for name, parts in logits.items()}
    results["out of fold"] = table = {"n": len(rows)} | compare(logits, grades[rows])
    if flags.test:
        chosen = max(ARMS, key=lambda name: table[name]["auroc"])
        experiment, records = experiment_of(chosen, flags)
        roles = Roles(refit_roles(records, experiment.head).fit, select=records.rows("test"), calibrate=rows[:0])
        tested[chosen] = train_and_predict(experiment, records, roles, output.with_name(f"{output.stem}.keras"))
        results["test"] = {"n": len(roles.select)} | compare(tested, grades[roles.select])
    np.savez(output, rows=rows, **logits, **{f"test {name}": values for name, values in tested.items()})
    for part, table in results.items():
        for name, values in table.items():
            print(f"{part:12s} {name:12s} {values}")
    print(json.dumps({
        "machine": f"{processor()}, {os.cpu_count()} cores", "load": round(os.getloadavg()[0], 1),
        **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras")},
        "minutes": (time.perf_counter() - start) / 60, **results,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
