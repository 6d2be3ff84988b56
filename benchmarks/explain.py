"""Compare the time to explain 100 photographs with that of a plain gradient tape.

The network is resnet_v2 at 256 pixels (system 1). Measured are:

- `Explainer`: one traced function on batches of 16.
- The gallery: it also reads 100 synthetic JPEG files whose retina is 512 pixels wide, decides on them, and writes all
  overlays, the contact sheet and the page.
- `python -m dr_tf.explain`: a process that does all this, and imports TensorFlow first.
- As in Keras' guide: a network cut at its last feature map, and an eager gradient tape for each photograph.

- Every method in `METHODS`: seconds per photograph after a warm-up, in a batch of 4. Attention rollout is measured on a
  vision transformer of the size of ViT-B/16 at 224 pixels, with random weights; the other methods on resnet_v2.

`Explainer` and Keras' guide explain the same pixels at the last feature map, after a warm-up. The best of several rounds
counts. The limit is 10 seconds for the gallery on two cores, including tracing. Processor seconds, summed over cores,
show the cost also where other processes use the cores.

    python benchmarks/explain.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import machine

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

if TYPE_CHECKING:
    import keras

    from dr_tf.explain.explainer import Explainer
    from dr_tf.models.heads.head import Head

VIT_B16 = {"patch_size": 16, "hidden_dim": 768, "num_layers": 12, "num_heads": 12, "intermediate_dim": 3072,
           "projection_dim": 512}  # fmt: skip
FEW = 4  # photographs for the slow methods
ROOT = pathlib.Path(__file__).resolve().parents[1]
OUTPUT = "referable"
PHOTOGRAPHS, SIZE, BATCH, LIMIT = 100, 256, 16, 10
Maps = Callable[[np.ndarray], np.ndarray]  # images -> maps
OURS, GUIDE = "dr_tf", "as in Keras' guide"


def write_run(folder: pathlib.Path, head: Head) -> keras.Model:
    """Write a run with an untrained network, whose weights have no effect on speed, and return the network."""
    import keras

    from dr_tf.inference.calibration import Calibration
    from dr_tf.inference.modes import PLAIN
    from dr_tf.inference.operating_points import OperatingPoint
    from dr_tf.inference.preparation import Preparation
    from dr_tf.inference.rule import Mode, Rule
    from dr_tf.inference.run import write_decision
    from dr_tf.models.backbones import build_backbone
    from dr_tf.models.classifier import classifier
    from dr_tf.models.layers.replace_layers import to_plain_keras

    keras.utils.set_random_seed(0)
    model = classifier(build_backbone("resnet_v2", image_size=SIZE), {OUTPUT: head})
    points = {"half": OperatingPoint(threshold=0.5, guaranteed=False, note="")}
    mode = Mode(Calibration(head.link), (0.5, 0.5), {head.positive: points})
    rule = Rule({OUTPUT: head}, OUTPUT, (0.5, 0.5), "uniform", "half", {PLAIN: mode})
    folder.mkdir()
    write_decision(folder, rule, Preparation.from_records_name(f"drawn/{SIZE}-plain-q95", SIZE), None)
    to_plain_keras(model).save(folder / "model.keras")
    return model


def write_photographs(folder: pathlib.Path) -> None:
    """Write synthetic photographs as JPEG files."""
    from dr_tf.fundus.synthesis import render_patient

    folder.mkdir()
    eyes = [eye for seed in range(10) for eye in render_patient(seed).eyes]
    for number in range(PHOTOGRAPHS):
        (folder / f"{number:03}.jpg").write_bytes(eyes[number % len(eyes)].jpeg)


def as_in_the_guide(model: keras.Model) -> Maps:
    """Return Grad-CAM as in Keras' guide: one image after the other, eagerly."""
    import keras
    import tensorflow as tf

    from dr_tf.models.stages import feature_maps

    cut = keras.Model(model.input, [feature_maps(model)["stride_32"], model.output[OUTPUT]])

    def explain(x):
        maps = []
        for image in x:
            with tf.GradientTape() as tape:
                activations, logits = cut(image[None])
                score = logits[0, 0]
            weights = tf.reduce_mean(tape.gradient(score, activations), axis=(0, 1, 2))
            map = tf.nn.relu(tf.reduce_sum(activations[0] * weights, axis=-1)).numpy()
            maps.append(map / max(map.max(), 1e-12))
        return np.stack(maps)

    return explain


def in_batches(explainer: Explainer) -> Maps:
    """Return the maps of an explainer, computed in batches."""
    from dr_tf.explain.colour_scale import stretch_maps

    def explain(x):
        return np.concatenate([stretch_maps(explainer(x[i : i + BATCH]).maps) for i in range(0, len(x), BATCH)])

    return explain


def seconds_per_photograph(model: keras.Model, head: Head, rounds: int) -> dict[str, float]:
    """Return the best seconds per photograph of every method."""
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.methods import METHODS
    from dr_tf.models.backbones import build_backbone
    from dr_tf.models.classifier import classifier

    transformer = classifier(build_backbone("clip_vit", image_size=224, **VIT_B16), {OUTPUT: head})
    seconds = {}
    for method in METHODS:
        network = transformer if method == "attention_rollout" else model
        explainer = Explainer(network, head, method=method)
        side = explainer.image_size
        x = np.random.default_rng(0).integers(0, 256, (FEW, side, side, 3), np.uint8)
        explainer(x)  # traced
        seconds[method] = min(timed(lambda x, explain=explainer: explain(x).maps, x)[0] for _ in range(rounds)) / FEW
    return seconds


def timed(function: Maps, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return (seconds, maps)."""
    start = time.perf_counter()
    maps = function(x)
    return time.perf_counter() - start, maps


def gallery(run: pathlib.Path, photographs: pathlib.Path, output: pathlib.Path) -> tuple[float, float]:
    """Time loading the run, tracing, and writing the gallery; return (seconds, processor seconds)."""
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.gallery import write_gallery
    from dr_tf.inference.case import Case
    from dr_tf.inference.predictor import Predictor
    from dr_tf.models.network import KerasNetwork

    start, before = time.perf_counter(), time.process_time()
    predictor = Predictor.from_run(run, keras=True)
    network = predictor.run.network
    assert isinstance(network, KerasNetwork)
    explainer = Explainer(network.model, predictor.rule.head, output=predictor.rule.decides)
    write_gallery(output, predictor, explainer, [Case.from_image(path) for path in sorted(photographs.iterdir())])
    return time.perf_counter() - start, time.process_time() - before


def command(run: pathlib.Path, photographs: pathlib.Path, output: pathlib.Path) -> tuple[float, float]:
    """Time the whole process; return (seconds, processor seconds)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    arguments = ["-m", "dr_tf.explain", "--run_dir", run, "--output", output, photographs]
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, check=True, capture_output=True)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(
    folder: pathlib.Path, rounds: int
) -> tuple[float, float, dict[str, float], dict[str, tuple[float, float]], dict[str, float]]:
    """Run the benchmark.

    Returns:
        (seconds of the first batch, largest difference of the maps, {implementation: best seconds},
        {whole program: best (seconds, processor seconds)}, {method: best seconds per photograph}).
    """
    from dr_tf.explain.explainer import Explainer
    from dr_tf.models.heads import HEADS

    head = HEADS["binary"]()
    model = write_run(folder / "run", head)
    write_photographs(folder / "photographs")
    x = np.random.default_rng(0).integers(0, 256, (PHOTOGRAPHS, SIZE, SIZE, 3), np.uint8)
    implementations = {
        OURS: in_batches(Explainer(model, head, method="grad_cam", layer="stride_32")),
        GUIDE: as_in_the_guide(model),
    }
    first = timed(implementations[OURS], x[:BATCH])[0]
    maps = {name: timed(maps_of, x[:BATCH])[1] for name, maps_of in implementations.items()}
    best = {name: min(timed(maps_of, x)[0] for _ in range(rounds)) for name, maps_of in implementations.items()}
    paths = folder / "run", folder / "photographs", folder / "maps"
    whole = {program.__name__: min(program(*paths) for _ in range(rounds)) for program in (gallery, command)}
    if not all(map.any() for map in maps[GUIDE]):
        raise AssertionError("empty maps agree for any implementation")
    return first, float(abs(maps[OURS] - maps[GUIDE]).max()), best, whole, seconds_per_photograph(model, head, rounds)


def main() -> None:
    """Run the benchmark and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, difference, best, whole, methods = measure(pathlib.Path(folder), flags.rounds)
    print(f"{PHOTOGRAPHS} photographs at {SIZE} pixels, resnet_v2, {os.cpu_count()} cores, best of {flags.rounds}")
    for name, seconds in best.items():
        print(f"  maps, {name:24s} {seconds:7.2f} s   {PHOTOGRAPHS / seconds:7.1f} photographs/s")
    print(f"  first batch of dr_tf, with tracing     {first:7.2f} s")
    for name, (seconds, processor) in whole.items():
        limit = f" (limit {LIMIT})" if name == "gallery" else ""
        print(f"  {name:36s}   {seconds:7.2f} s   {processor:6.2f} processor seconds{limit}")
    for method, seconds in methods.items():
        print(f"  {method:36s}   {1000 * seconds:7.0f} ms a photograph")
    print(f"  the maps of both differ by at most {difference:.1e}")
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": machine.processor()},
        "versions": {"python": platform.python_version(), **versions},
        "photographs": PHOTOGRAPHS, "image_size": SIZE,
        "seconds": {**{name: round(seconds, 3) for name, seconds in best.items()}, "first_batch": round(first, 3),
                    **{name: round(seconds, 2) for name, (seconds, _) in whole.items()}},
        "processor_seconds": {name: round(seconds, 2) for name, (_, seconds) in whole.items()},
        "milliseconds_per_photograph": {name: round(1000 * seconds, 1) for name, seconds in methods.items()},
        "times_the_guide": round(best[GUIDE] / best[OURS], 2), "of_the_limit": round(whole["gallery"][0] / LIMIT, 3),
        "largest_difference": difference,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
