"""Time per epoch of training a head on a frozen backbone: with the feature bank, and with every image through the network.

The same experiment (system 2 on IDRiD) is trained both ways by `train`, including validation, metrics and checkpoints, for
few and for more epochs. The time per epoch is the difference divided by the number of epochs between. A second comparison
includes the one pass through the network that fills the feature bank. Its limit is a single epoch without feature bank.

Needs records of IDRiD and a preset of EfficientNet-Lite0.

    python benchmarks/feature_bank.py --records records [--preset FOLDER]

FOLDER is $DR_TF_SHARED/presets/efficientnet_lite0_imagenet by default.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import sys
import tempfile
import time

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PRESET = (
    pathlib.Path(os.environ.get("DR_TF_SHARED", ROOT.parent / "shared")) / "presets" / "efficientnet_lite0_imagenet"
)


def training_seconds(flags: argparse.Namespace, folder: str, *, stored: bool, epochs: int) -> float:
    """Train one run and return its time, from the built experiment to the finished run directory."""
    from dr_tf import configuration
    from dr_tf.training.feature_bank import FeatureBank
    from dr_tf.training.train import train

    bindings = [f"PRESET = '{flags.preset}'", "train.modes = ()", *flags.gin_param]
    configuration.parse([ROOT / "configs" / "experiments" / "idrid_frozen.gin"], bindings)
    experiment, records = configuration.build_experiment(flags.records)
    views = experiment.feature_bank.views if experiment.feature_bank else 0
    bank = FeatureBank(views=views, stored=stored, directory=f"{folder}/bank")
    experiment = dataclasses.replace(experiment, epochs=epochs, feature_bank=bank)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as run_dir:
        train(experiment, records, run_dir=run_dir, config=configuration.operative_config)
        return time.perf_counter() - start


def main() -> None:
    """Run the benchmark and print its table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True)
    parser.add_argument("--preset", default=str(PRESET))
    parser.add_argument("--gin_param", action="append", default=[])
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slow = [
            training_seconds(flags, folder, stored=False, epochs=epochs) for epochs in (1, 1, 4)
        ]  # the first warms up
        built = training_seconds(flags, folder, stored=True, epochs=10)
        quick = [training_seconds(flags, folder, stored=True, epochs=epochs) for epochs in (10, 60)]
    per_epoch = {"slow": (slow[2] - slow[1]) / 3, "bank": (quick[1] - quick[0]) / 50}
    filling = built - quick[0]
    ten = {"slow": 10 * per_epoch["slow"], "bank": filling + 10 * per_epoch["bank"]}
    print(f"epoch with every image through the network      {per_epoch['slow']:8.2f} s")
    print(
        f"epoch with the feature bank                     {per_epoch['bank']:8.3f} s   {per_epoch['slow'] / per_epoch['bank']:.0f} x"
    )
    print(f"filling the feature bank                        {filling:8.2f} s")
    print(
        f"ten epochs including filling: {ten['bank']:.1f} s against {ten['slow']:.1f} s, {ten['slow'] / ten['bank']:.1f} x"
    )
    print(json.dumps({
        "machine": f"{processor()}, {os.cpu_count()} cores", "load": round(os.getloadavg()[0], 1),
        **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras")},
        "epoch_s": per_epoch, "building_s": filling, "times": per_epoch["slow"] / per_epoch["bank"],
        "times_with_building_ten_epochs": ten["slow"] / ten["bank"],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
