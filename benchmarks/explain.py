"""Seconds to explain 100 photographs at 256 pixels with the network of system 1 (resnet_v2), beside the usual way.

Ours: `Explainer`, one traced function over batches of 16; the gallery on top of it, which reads 100 drawn JPEGs whose
retina is 512 pixels across, decides on them, and writes every overlay, the contact sheet and the page; and the whole of
`python -m dr_tf.explain`, a process that does so and first imports TensorFlow. The usual way is that of Keras' guide: a
network cut at its last map, and a gradient tape around it for each photograph, eagerly. Both explain the same pixels
at the last map, warm; the best round of each counts. The limit is 10 seconds on two cores, tracing and gallery together.
Where other work holds the cores, the processor seconds (of both cores together) tell what it would be.

    python benchmarks/explain.py [--bootstrap_samples 3]
"""

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

import machine

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUTPUT = "referable"
PHOTOGRAPHS, SIZE, BATCH, LIMIT = 100, 256, 16, 10
OURS, GUIDE = "dr_tf", "as in Keras' guide"


def write_run(folder, head):
    """A run that decides, of a network that was never trained: for speed its weights do not matter."""
    import keras

    from dr_tf.inference.calibration import Calibration
    from dr_tf.inference.modes import PLAIN
    from dr_tf.inference.operating_points import OperatingPoint
    from dr_tf.inference.preparation import Preparation
    from dr_tf.inference.rule import Mode, Rule
    from dr_tf.inference.run import write_decision
    from dr_tf.models.backbones import build_backbone
    from dr_tf.models.classifier import classifier
    from dr_tf.models.layers.replace_layers import plain

    keras.utils.set_random_seed(0)
    model = classifier(build_backbone("resnet_v2", image_size=SIZE), {OUTPUT: head})
    points = {"half": OperatingPoint(threshold=0.5, guaranteed=False, note="")}
    mode = Mode(Calibration(head.link), (0.5, 0.5), {head.positive: points})
    rule = Rule({OUTPUT: head}, OUTPUT, (0.5, 0.5), "uniform", "half", {PLAIN: mode})
    folder.mkdir()
    write_decision(folder, rule, Preparation.of_records(f"drawn/{SIZE}-plain-q95", SIZE), None)
    plain(model).save(folder / "model.keras")
    return model


def write_photographs(folder):
    from dr_tf.fundus.synthesis import render_patient

    folder.mkdir()
    drawn = [eye for seed in range(10) for eye in render_patient(seed).eyes]
    for number in range(PHOTOGRAPHS):
        (folder / f"{number:03}.jpg").write_bytes(drawn[number % len(drawn)].jpeg)


def usual_way(model):
    """x -> maps, one photograph after another."""
    import keras
    import tensorflow as tf

    from dr_tf.models.stages import feature_maps

    cut = keras.Model(model.input, [feature_maps(model)["stride_32"], model.output[OUTPUT]])

    def explain(x):
        maps = []
        for photograph in x:
            with tf.GradientTape() as tape:
                activations, logits = cut(photograph[None])
                score = logits[0, 0]
            weights = tf.reduce_mean(tape.gradient(score, activations), axis=(0, 1, 2))
            map = tf.nn.relu(tf.reduce_sum(activations[0] * weights, axis=-1)).numpy()
            maps.append(map / max(map.max(), 1e-12))
        return np.stack(maps)

    return explain


def in_batches(explainer):
    from dr_tf.explain.colour_scale import stretched

    def explain(x):
        return np.concatenate([stretched(explainer(x[i : i + BATCH]).maps) for i in range(0, len(x), BATCH)])

    return explain


def timed(function, x):
    start = time.perf_counter()
    maps = function(x)
    return time.perf_counter() - start, maps


def gallery(run, photographs, output):
    """(seconds, processor seconds) from a run on the disk to the page: traced anew, as in a command of its own."""
    from dr_tf.explain.explainer import Explainer
    from dr_tf.explain.gallery import write_gallery
    from dr_tf.inference.predictor import Predictor

    start, before = time.perf_counter(), time.process_time()
    predictor = Predictor.of_run(run)
    explainer = Explainer(predictor.run.network.model, predictor.rule.head, output=predictor.rule.decides)
    write_gallery(output, predictor, explainer, sorted(photographs.iterdir()))
    return time.perf_counter() - start, time.process_time() - before


def command(run, photographs, output):
    """(seconds, processor seconds) of the whole process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    arguments = ["-m", "dr_tf.explain", "--run_dir", run, "--output", output, photographs]
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, check=True, capture_output=True)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder, bootstrap_samples):
    from dr_tf.explain.explainer import Explainer
    from dr_tf.models.heads import HEADS

    head = HEADS["binary"]()
    model = write_run(folder / "run", head)
    write_photographs(folder / "photographs")
    x = np.random.default_rng(0).integers(0, 256, (PHOTOGRAPHS, SIZE, SIZE, 3), np.uint8)
    ways = {OURS: in_batches(Explainer(model, head, method="grad_cam", layer="stride_32")), GUIDE: usual_way(model)}
    first = timed(ways[OURS], x[:BATCH])[0]
    maps = {name: timed(way, x[:BATCH])[1] for name, way in ways.items()}
    best = {name: min(timed(way, x)[0] for _ in range(bootstrap_samples)) for name, way in ways.items()}
    places = folder / "run", folder / "photographs", folder / "why"
    whole = {what.__name__: min(what(*places) for _ in range(bootstrap_samples)) for what in (gallery, command)}
    if not all(map.any() for map in maps[GUIDE]):
        raise AssertionError("empty maps would agree whatever is computed")
    return first, float(abs(maps[OURS] - maps[GUIDE]).max()), best, whole


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap_samples", type=int, default=3)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, apart, best, whole = measure(pathlib.Path(folder), flags.bootstrap_samples)
    print(
        f"{PHOTOGRAPHS} photographs at {SIZE} pixels, resnet_v2, {os.cpu_count()} cores, best of {flags.bootstrap_samples}"
    )
    for name, seconds in best.items():
        print(f"  maps, {name:24s} {seconds:7.2f} s   {PHOTOGRAPHS / seconds:7.1f} photographs/s")
    print(f"  the first batch of ours, traced        {first:7.2f} s")
    for name, (seconds, processor) in whole.items():
        limit = f" (limit {LIMIT})" if name == "gallery" else ""
        print(f"  {name:36s}   {seconds:7.2f} s   {processor:6.2f} processor seconds{limit}")
    print(f"  maps of both ways differ by at most {apart:.1e}")
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": machine.processor()},
        "versions": {"python": platform.python_version(), **versions},
        "photographs": PHOTOGRAPHS, "image_size": SIZE,
        "seconds": {**{name: round(seconds, 3) for name, seconds in best.items()}, "first_batch": round(first, 3),
                    **{name: round(seconds, 2) for name, (seconds, _) in whole.items()}},
        "processor_seconds": {name: round(seconds, 2) for name, (_, seconds) in whole.items()},
        "times_the_guide": round(best[GUIDE] / best[OURS], 2), "of_the_limit": round(whole["gallery"][0] / LIMIT, 3),
        "largest_difference": apart,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
