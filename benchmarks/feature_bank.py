"""Time per epoch of training a head on a frozen backbone: with the feature bank, and with every image through the network.

The same experiment (system 2 on IDRiD) is trained both ways by `train`, including validation, metrics and checkpoints, for
few and for more epochs. The time per epoch is the difference divided by the number of epochs between. A second comparison
includes the one pass through the network that fills the feature bank. Its limit is a single epoch without feature bank.

With `--decoder`, the bank holds maps: a training step of `idrid_fcn_cbam` from images that are decoded and augmented, the
same step from the bank, and the decoder's step on a batch that is in memory already. The last one is the limit: no bank can
make a step faster. Processor time of all threads is compared, as it depends less on what else the machine does.

Needs records of IDRiD and a preset of EfficientNet-Lite0.

    python benchmarks/feature_bank.py --records records [--decoder] [--preset FOLDER]

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
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do
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


AUGMENTED = (
    "train.augmentation = @augmentation()",
    "augmentation.warp = @warp()",
    "warp.rotation = 180",
    "augmentation.colour = @colour()",
    "colour.brightness = (0.75, 1.3)",
    "train.cache = 'none'",
    "feature_bank.views = 1",
)


def decoder_steps(flags: argparse.Namespace, folder: str) -> dict[str, tuple[float, float]]:
    """Measure {kind of step: (processor, wall-clock) milliseconds a photograph}, the least of three rounds in turn."""
    import numpy as np
    import tensorflow as tf

    from dr_tf import configuration
    from dr_tf.models.network import image_size_of
    from dr_tf.training.data_roles import Roles
    from dr_tf.training.feature_bank import split_at_frozen_part
    from dr_tf.training.train import compile_model
    from dr_tf.training.training_data import TrainingData

    bindings = [f"PRESET = '{flags.preset}'", *AUGMENTED, f"feature_bank.directory = '{folder}'", *flags.gin_param]
    configuration.parse([ROOT / "configs" / "experiments" / "idrid_fcn_cbam.gin"], bindings)
    experiment, records = configuration.build_experiment(flags.records)
    experiment = dataclasses.replace(experiment, epochs=1000)
    fit = records.rows("train")[: 8 * experiment.batch_size]
    roles = Roles(fit, select=fit[:0], calibrate=fit[:0])
    model = experiment.model(heads=experiment.heads)
    data = TrainingData(experiment, records, roles, image_size_of(model))
    part, bank = split_at_frozen_part(model, data, experiment=experiment, roles=roles)
    bank.fill()
    for network in (model, part):
        compile_model(network, experiment, bank if network is part else data, {"grade": []})
    batch = next(iter(bank.training_batches()))
    steps = {
        "images": (model, data.training_batches()),
        "bank": (part, bank.training_batches()),
        "decoder": (part, tf.data.Dataset.from_tensors(batch).repeat()),
    }
    best = dict.fromkeys(steps, np.full(2, np.inf))
    for round_number in range(4):  # the first one warms up
        for name, (network, batches) in steps.items():
            start = np.array([time.process_time(), time.perf_counter()])
            network.fit(batches, steps_per_epoch=8, shuffle=False, verbose=0)
            spent = (np.array([time.process_time(), time.perf_counter()]) - start) * 1e3 / (8 * experiment.batch_size)
            best[name] = np.minimum(best[name], spent) if round_number else best[name]
    return {name: tuple(spent.tolist()) for name, spent in best.items()}


def compare_decoder(flags: argparse.Namespace) -> None:
    """Print the table and the JSON of `--decoder`."""
    with tempfile.TemporaryDirectory() as folder:
        steps = decoder_steps(flags, folder)
    for name, (processor_ms, wall_ms) in steps.items():
        print(f"step from {name:8s} {processor_ms:8.1f} ms of a core a photograph, {wall_ms:8.1f} ms by the clock")
    possible, reached = (steps["images"][0] / steps[name][0] for name in ("decoder", "bank"))
    print(f"possible {possible:.2f} x, reached {reached:.2f} x: {reached / possible:.0%} of it")
    print(json.dumps({
        "machine": f"{processor()}, {os.cpu_count()} cores", "load": round(os.getloadavg()[0], 1),
        **{name: importlib.metadata.version(name) for name in ("tensorflow", "keras")},
        "ms": steps, "possible": possible, "reached": reached, "share": reached / possible,
    }))  # fmt: skip


def main() -> None:
    """Run the benchmark and print its table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", required=True)
    parser.add_argument("--preset", default=str(PRESET))
    parser.add_argument("--gin_param", action="append", default=[])
    parser.add_argument("--decoder", action="store_true", help="measure the bank of maps of a decoder")
    flags = parser.parse_args()
    if flags.decoder:
        compare_decoder(flags)
        return
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
