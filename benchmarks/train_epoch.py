"""Speed of a whole epoch of train.py relative to the bare training step, and the time of each stage of its start.

System 1's network at 256 px, batches of 16, synthetic images. The bare step trains on one batch in memory. The epoch also
decodes every image (no cache), augments, batches, computes metrics and calls callbacks. Rounds alternate in one process
and the best of each counts. The limit is the bare step: the epoch cannot be faster. Input pipeline and network share the
cores; the input pipeline alone is timed, too.

    python benchmarks/train_epoch.py [--rounds 3] [--steps 20]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dr_tf.runtime import use_onednn  # noqa: E402

if TYPE_CHECKING:
    import keras

    from dr_tf.training.training_data import TrainingData


class Laps:
    """Times consecutive stages by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, name: str) -> None:
        """End the stage `name`."""
        now = time.perf_counter()
        self.seconds[name], self._last = round(now - self._last, 2), now


def build_records(folder: str) -> None:
    """Build synthetic records in another process, as the import of TensorFlow is timed in this one."""
    command = [
        sys.executable,
        "-m",
        "tfrecords_builder",
        "synthetic",
        "--patients",
        "200",
        "--side",
        "320",
        "--cameras",
    ]
    command += [
        "full_circle",
        "--image_size",
        "256",
        "--audit",
        "off",
        "--source",
        f"{folder}/photographs",
        "--records",
    ]
    subprocess.run([*command, folder], cwd=ROOT, check=True, capture_output=True)


def prepare(folder: str, laps: Laps) -> tuple[keras.Model, TrainingData]:
    """Return the compiled model and its data, timing each stage."""
    import tensorflow  # noqa: F401

    laps("import TensorFlow and Keras")
    from dr_tf import configuration
    from dr_tf.training import train
    from dr_tf.training.data_roles import split_roles
    from dr_tf.training.training_data import TrainingData

    laps("import dr_tf and its dependencies")
    bindings = ["train.dataset = 'synthetic'", "train.cache = 'none'"]
    configuration.parse([ROOT / "configs/experiments/idrid_resnetv2.gin"], bindings)
    experiment, records = configuration.build_experiment(folder)
    laps("open the records")
    model = experiment.model(heads=experiment.heads)
    data = TrainingData(experiment, records, split_roles(records, experiment.head), 256)
    metrics = {output: head.metrics() for output, head in experiment.heads.items()}
    train.compile_model(model, experiment, data, metrics)
    laps("build and compile")
    return model, data


def measure(model: keras.Model, data: TrainingData, steps: int, rounds: int) -> dict[str, float]:
    """Return the images per second of the best round of each contestant."""
    import itertools

    from dr_tf.training.callbacks import StopAtNaN

    batch = next(iter(data.training_batches()))
    best = dict.fromkeys(("bare step", "epoch", "input pipeline alone"), 0.0)
    for _ in range(rounds):
        for name, work in {
            "bare step": lambda: model.fit(_repeated(batch, steps), steps_per_epoch=steps, verbose=0),
            "epoch": lambda: model.fit(
                data.training_batches(), steps_per_epoch=steps, verbose=0, callbacks=[StopAtNaN(data.batch_names)]
            ),
            "input pipeline alone": lambda: [None for _ in itertools.islice(data.training_batches(), steps)],
        }.items():
            started = time.perf_counter()
            work()
            best[name] = max(best[name], 16 * steps / (time.perf_counter() - started))
    return {name: round(value, 1) for name, value in best.items()}


def _repeated(batch, steps):
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch).repeat(steps)


def main() -> None:
    """Run the benchmark and print its table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    flags = parser.parse_args()
    use_onednn()  # as train.py does
    with tempfile.TemporaryDirectory() as folder:
        build_records(folder)
        laps = Laps()
        model, data = prepare(folder, laps)
        batch = next(iter(data.training_batches()))
        laps("first batch")
        model.train_on_batch(*batch)
        laps("first step, including tracing")
        speed = measure(model, data, flags.steps, flags.rounds)
    for name, seconds in laps.seconds.items():
        print(f"{name:40} {seconds:6.2f} s")
    for name, value in speed.items():
        print(f"{name:40} {value:6.1f} images/s")
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    kept = round(speed["epoch"] / speed["bare step"], 3)
    print(f"{'epoch relative to the bare step':40} {kept:6.2f}")
    machine = f"{processor()}, {os.cpu_count()} cores"
    print(json.dumps({"machine": machine, **versions, "start_s": laps.seconds, **speed, "epoch_of_bare_step": kept}))


if __name__ == "__main__":
    main()
