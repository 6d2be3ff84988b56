"""Seconds per epoch of a frozen backbone's head: from the feature bank, and with every photograph through the network.

The same experiment (system 2 on IDRiD) is run both ways by train(), validation, figures and checkpoints included, for a
few and for more epochs; an epoch is the difference over the epochs between. "With the bank's building": the same for all
epochs of the experiment, the one pass through the network counted in. The limit of that is a single epoch of the slow way.

Reads IDRiD's records and a preset of EfficientNet-Lite0.
  python benchmarks/feature_bank.py --records records [--preset FOLDER]   (FOLDER: $DR_TF_SHARED/presets/efficientnet_lite0_imagenet)
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


def seconds(flags, folder, *, stored, epochs):
    """Of one run, from the built experiment to its finished directory."""
    from dr_tf import configuration
    from dr_tf.training.feature_bank import FeatureBank
    from dr_tf.training.train import train

    bindings = [f"PRESET = '{flags.preset}'", "train.modes = ()", *flags.gin_param]
    configuration.parse([ROOT / "configs" / "experiments" / "idrid_frozen.gin"], bindings)
    experiment, records = configuration.experiment(flags.records)
    bank = FeatureBank(views=experiment.feature_bank.views, stored=stored, directory=f"{folder}/bank")
    experiment = dataclasses.replace(experiment, epochs=epochs, feature_bank=bank)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as run_dir:
        train(experiment, records, run_dir=run_dir, config=configuration.operative)
        return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True)
    parser.add_argument("--preset", default=str(PRESET))
    parser.add_argument("--gin_param", action="append", default=[])
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slow = [seconds(flags, folder, stored=False, epochs=epochs) for epochs in (1, 1, 4)]  # the first warms up
        built = seconds(flags, folder, stored=True, epochs=10)
        quick = [seconds(flags, folder, stored=True, epochs=epochs) for epochs in (10, 60)]
    each = {"slow": (slow[2] - slow[1]) / 3, "bank": (quick[1] - quick[0]) / 50}
    building = built - quick[0]
    ten = {"slow": 10 * each["slow"], "bank": building + 10 * each["bank"]}
    print(f"an epoch, every photograph through the network  {each['slow']:8.2f} s")
    print(
        f"an epoch, from the feature bank                 {each['bank']:8.3f} s   {each['slow'] / each['bank']:.0f} x"
    )
    print(f"building the bank                               {building:8.2f} s")
    print(
        f"ten epochs with its building: {ten['bank']:.1f} s against {ten['slow']:.1f} s, {ten['slow'] / ten['bank']:.1f} x"
    )
    print(json.dumps({
        "machine": f"{processor()}, {os.cpu_count()} cores", "load": round(os.getloadavg()[0], 1),
        **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras")},
        "epoch_s": each, "building_s": building, "times": each["slow"] / each["bank"],
        "times_with_building_ten_epochs": ten["slow"] / ten["bank"],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
