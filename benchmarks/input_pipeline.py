"""Throughput of decoding, augmenting and batching images without a cache, compared with two common input pipelines.

Ours: `dr_tf.data.training_batches` from TFDS records on disk. Peers: the same augmentation in albumentations with a PyTorch
DataLoader of two workers, and stacked `keras.layers.Random*` on batches in tf.data; both read their JPEGs from memory. All
rotate, shift, zoom, shear, flip both ways and change brightness, contrast, saturation and hue in the same ranges, every
image by all of them. They take turns in short rounds, after a warm-up, and the best round of each counts. The limit is
decoding alone: OpenCV in as many threads as there are cores. Our epochs from the memory cache are listed below it, as no
limit applies to them.

    python benchmarks/input_pipeline.py [--records DIR --dataset NAME/CONFIG] [--rounds 8]

Without --records it builds records of the 516 images of IDRiD (DR_TF_SHARED: folder of the real data) or, if they are
absent, of synthetic ones. Needs benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from machine import processor

if TYPE_CHECKING:
    import tensorflow as tf

    from dr_tf.data.augmentation import Augmentation
    from dr_tf.data.records import Records

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED = pathlib.Path(os.environ.get("DR_TF_SHARED", ROOT.parent / "shared"))
IDRID = SHARED / "data/idrid/B. Disease Grading"
ROTATION, SHIFT, ZOOM, SHEAR = 15, 0.1, (0.8, 1.2), 0.05
BRIGHTNESS = CONTRAST = SATURATION = (0.7, 1.3)
HUE = 18  # degrees
OURS, TORCH, KERAS = "dr_tf", "albumentations + DataLoader", "keras.layers.Random*"


def augmentation() -> Augmentation:
    """Return our augmentation."""
    from dr_tf.data.augmentation import Augmentation, Colour, Warp

    warp = Warp(rotation=ROTATION, shift=SHIFT, zoom=ZOOM, shear=SHEAR, flip_horizontal=0.5, flip_vertical=0.5)
    return Augmentation(
        warp=warp, colour=Colour(brightness=BRIGHTNESS, contrast=CONTRAST, saturation=SATURATION, hue=HUE)
    )


def our_batches(records: Records, grades: np.ndarray, batch_size: int, epochs: int, cache: str) -> tf.data.Dataset:
    """Return our training batches."""
    from dr_tf.data.batches import training_batches
    from dr_tf.data.images import ImageLoader
    from dr_tf.data.sampling import Shuffled

    rows = np.arange(len(records))
    return training_batches(
        ImageLoader(records, cache=cache),
        grades,
        rows=rows,
        order=Shuffled().plan(grades, batch_size=batch_size, seed=0),
        epochs=epochs,
        augmentation=augmentation(),
    )


class Augmented:
    """A typical PyTorch dataset."""

    def __init__(self, jpegs: Sequence[np.ndarray], grades: np.ndarray) -> None:
        self.jpegs, self.grades = jpegs, grades
        self.transform: Callable[..., Any] | None = None

    def __len__(self) -> int:
        return len(self.jpegs)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        if self.transform is None:  # made in the worker
            cv2.setNumThreads(0)
            self.transform = albumentations_transform()
        pixels = cv2.imdecode(self.jpegs[i], cv2.IMREAD_COLOR_RGB)
        return self.transform(image=pixels)["image"], self.grades[i]


def albumentations_transform() -> Callable[..., Any]:
    """Return the same augmentation in albumentations."""
    import albumentations as a

    slope = float(np.rad2deg(np.arctan(SHEAR)))
    return a.Compose(
        [
            a.HorizontalFlip(p=0.5),
            a.VerticalFlip(p=0.5),
            a.Affine(
                rotate=(-ROTATION, ROTATION),
                translate_percent=(-SHIFT, SHIFT),
                scale=ZOOM,
                shear=(-slope, slope),
                interpolation=cv2.INTER_LINEAR,
                p=1,
            ),
            a.ColorJitter(BRIGHTNESS, CONTRAST, SATURATION, (-HUE / 360, HUE / 360), p=1),
        ]
    )


def torch_batches(jpegs: Sequence[bytes], grades: np.ndarray, batch_size: int) -> Iterator[Any]:
    """Yield batches of a PyTorch DataLoader without end."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        Augmented([np.frombuffer(jpeg, np.uint8) for jpeg in jpegs], grades),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="spawn",  # TensorFlow's threads do not survive a fork
    )
    while True:
        yield from loader


def keras_batches(jpegs: Sequence[bytes], grades: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return batches of tf.data with augmentation by Keras layers, without end."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    angle, zoom = ROTATION / 360, (1 - ZOOM[1], 1 - ZOOM[0])
    stack = keras.Sequential(
        [
            layers.RandomFlip(),
            layers.RandomRotation(angle, fill_mode="constant"),
            layers.RandomTranslation(SHIFT, SHIFT, fill_mode="constant"),
            layers.RandomZoom(zoom, fill_mode="constant"),
            layers.RandomShear(SHEAR, SHEAR, fill_mode="constant"),
            layers.RandomBrightness((BRIGHTNESS[0] - 1, BRIGHTNESS[1] - 1)),
            layers.RandomContrast((1 - CONTRAST[0], CONTRAST[1] - 1), value_range=(0, 255)),
            layers.RandomSaturation((0.35, 0.65)),
            layers.RandomHue(HUE / 360, value_range=(0, 255)),
        ]
    )

    def decoded(jpeg, grade):
        return tf.ensure_shape(tf.io.decode_jpeg(jpeg, 3), (None, None, 3)), grade

    return (
        tf.data.Dataset.from_tensor_slices((jpegs, grades))
        .shuffle(len(jpegs))
        .repeat()
        .map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .map(lambda x, y: (tf.cast(stack(x, training=True), tf.uint8), y), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(2)
    )


def batches_rate(batches: Iterator[Any], batch_size: int, seconds: float) -> float:
    """Return the images per second, after discarding the batches that were prefetched while others ran."""
    for _ in range(8):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch_size
    return count / (time.perf_counter() - start)


def decoding_rate(jpegs: Sequence[bytes], seconds: float) -> float:
    """Return the images per second of decoding alone, in one thread per core."""
    threads = os.cpu_count() or 1
    arrays = [np.frombuffer(jpeg, np.uint8) for jpeg in jpegs]

    def work(first):
        count = 0
        while time.perf_counter() < end:
            cv2.imdecode(arrays[(first + count) % len(arrays)], cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
            count += 1
        return count

    start = time.perf_counter()
    end = start + seconds
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        count = sum(pool.map(work, [i * len(arrays) // threads for i in range(threads)]))
    return count / (time.perf_counter() - start)


def build_records(folder: str) -> tuple[str, str]:
    """Build records of IDRiD or of synthetic images; return (folder of the records, data set)."""
    if IDRID.is_dir():
        layout, name = ["idrid", "--source", IDRID], "idrid"
    else:
        drawn = pathlib.Path(folder) / "photographs"
        layout, name = ["synthetic", "--patients", 100, "--source", drawn], "synthetic"
    command = [sys.executable, "-m", "tfrecords_builder", *layout, "--records", folder, "--image_size", 256]
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return folder, f"{name}/256-plain-q95"


def best_rates(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Measure the contestants in turns and return the best rate of each."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, rate in contestants.items():
            rates[name].append(rate())
    return {name: max(values) for name, values in rates.items()}


def contest(records: Records, flags: argparse.Namespace) -> dict[str, float]:
    """Return the images per second of each contestant."""
    rows = range(len(records))
    jpegs, grades = [records.encoded_image(row) for row in rows], records.columns["grade"]
    size, epochs = flags.batch_size, 10**6
    iterators = {
        OURS: iter(our_batches(records, grades, size, epochs, "none")),
        TORCH: torch_batches(jpegs, grades, size),
        KERAS: iter(keras_batches(jpegs, grades, size)),
        "dr_tf, from the memory cache": iter(our_batches(records, grades, size, epochs, "memory")),
    }
    contestants = {
        name: lambda batches=batches: batches_rate(batches, size, flags.seconds) for name, batches in iterators.items()
    } | {"limit: decoding alone": lambda: decoding_rate(jpegs, flags.seconds)}
    return best_rates(contestants, flags.rounds)


def main() -> None:
    """Run the benchmark and print its table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records")
    parser.add_argument("--dataset", default="idrid/256-plain-q95")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds per round")
    flags = parser.parse_args()
    try:
        import albumentations  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        sys.exit(f"error: {error}; pip install -r benchmarks/requirements.txt")
    from dr_tf.data.records import open_records
    from dr_tf.runtime import starting_tensorflow

    with starting_tensorflow():
        import tensorflow as tf

        tf.config.list_physical_devices()
    with tempfile.TemporaryDirectory() as folder:
        root, dataset = (flags.records, flags.dataset) if flags.records else build_records(folder)
        records = open_records(root, dataset)
        rates = contest(records, flags)
    report(records, rates, flags)


def report(records: Records, rates: Mapping[str, float], flags: argparse.Namespace) -> None:
    """Print the table and the JSON."""
    best = max(rates[TORCH], rates[KERAS])
    limit = rates["limit: decoding alone"]
    print(f"\n{len(records)} images of {records.name}, batches of {flags.batch_size}, {os.cpu_count()} cores")
    print(f"{'':32s}{'images/s':>14s}{'of the limit':>14s}")
    for name, rate in rates.items():
        print(f"{name:32s}{rate:14.0f}{rate / limit:14.2f}")
    print(f"{OURS} is {rates[OURS] / best:.2f} times the best of both peers")
    packages = ("tensorflow", "keras", "torch", "albumentations", "opencv-python-headless")
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}},
        "records": records.name, "photographs": len(records), "batch_size": flags.batch_size,
        "photographs_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "times_best_peer": round(rates[OURS] / best, 2), "of_the_limit": round(rates[OURS] / limit, 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
