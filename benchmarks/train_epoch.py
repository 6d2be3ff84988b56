"""How much of the bare training step's speed does a whole epoch of train.py keep, and where does its start go?

System 1's network at 256 px, batches of 16, on drawn photographs. The bare step works on one batch that is in memory;
the epoch decodes every photograph (no cache), augments, feeds, counts figures and calls callbacks. Rounds alternate in
one process and the best of each counts. The limit is the bare step: the epoch cannot be faster. Two cores share what
the pipeline and the network need; the pipeline's part alone is timed beside it.

  python benchmarks/train_epoch.py [--rounds 3] [--steps 20]
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dr_tf.runtime import use_onednn  # noqa: E402


class Laps:
    def __init__(self):
        self.seconds, self._last = {}, time.perf_counter()

    def __call__(self, name):
        now = time.perf_counter()
        self.seconds[name], self._last = round(now - self._last, 2), now


def records_below(folder):
    """In a process of its own: this one is to import TensorFlow later, by the clock."""
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


def prepared(folder, laps):
    """(model, feed) just before the first step."""
    import tensorflow  # noqa: F401

    laps("import TensorFlow and Keras")
    from dr_tf import configuration
    from dr_tf.training import train
    from dr_tf.training.data_roles import split_roles
    from dr_tf.training.training_data import TrainingData

    laps("import dr_tf and what it needs")
    bindings = ["train.dataset = 'synthetic'", "train.cache = 'none'"]
    configuration.parse([ROOT / "configs/experiments/idrid_resnetv2.gin"], bindings)
    experiment, records = configuration.experiment(folder)
    laps("open the records")
    model = experiment.model(heads=experiment.heads)
    feed = TrainingData(experiment, records, split_roles(records, experiment.head), 256)
    metrics = {output: head.metrics() for output, head in experiment.heads.items()}
    train._compile(model, experiment, feed, metrics)
    laps("build and compile")
    return model, feed


def measure(model, feed, steps, rounds):
    """Photographs a second, the best round of each contestant."""
    import itertools

    from dr_tf.training.callbacks import StopAtNaN

    batch = next(iter(feed.training()))
    best = dict.fromkeys(("bare step", "epoch", "pipeline alone"), 0.0)
    for _ in range(rounds):
        for name, work in {
            "bare step": lambda: model.fit(_repeated(batch, steps), steps_per_epoch=steps, verbose=0),
            "epoch": lambda: model.fit(
                feed.training(), steps_per_epoch=steps, verbose=0, callbacks=[StopAtNaN(feed.names)]
            ),
            "pipeline alone": lambda: [None for _ in itertools.islice(feed.training(), steps)],
        }.items():
            started = time.perf_counter()
            work()
            best[name] = max(best[name], 16 * steps / (time.perf_counter() - started))
    return {name: round(value, 1) for name, value in best.items()}


def _repeated(batch, steps):
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch).repeat(steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap_samples", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    flags = parser.parse_args()
    use_onednn()  # as train.py does
    with tempfile.TemporaryDirectory() as folder:
        records_below(folder)
        laps = Laps()
        model, feed = prepared(folder, laps)
        batch = next(iter(feed.training()))
        laps("first batch")
        model.train_on_batch(*batch)
        laps("first step, with its tracing")
        speed = measure(model, feed, flags.steps, flags.rounds)
    for name, seconds in laps.seconds.items():
        print(f"{name:40} {seconds:6.2f} s")
    for name, value in speed.items():
        print(f"{name:40} {value:6.1f} photographs/s")
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    kept = round(speed["epoch"] / speed["bare step"], 3)
    print(f"{'an epoch keeps':40} {kept:6.2f} of the bare step")
    machine = f"{processor()}, {os.cpu_count()} cores"
    print(json.dumps({"machine": machine, **versions, "start_s": laps.seconds, **speed, "epoch_of_bare_step": kept}))


if __name__ == "__main__":
    main()
