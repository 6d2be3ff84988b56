"""Inference on the CPU: Keras, PyTorch, ONNX Runtime in float32 and int8, and the `predict` command end to end.

For each network: processor milliseconds per image of `keras.Model.predict`, of PyTorch compiled (where torchvision is
installed and has the network), and of ONNX Runtime in float32 and int8, image by image, on one core and on all. Keras and
PyTorch also take batches. On a busy machine the processor time says more than the elapsed time, which is printed beside it.
int8 is quantized on random images: of it, only speed, size and the cosine similarity of the features mean anything here.
`benchmarks/vit_tokens.py` measures a vision transformer with fewer tokens.

End to end, for the model that comes with dr_tf, in fresh processes: seconds to the first answer, photographs per second
and peak memory of `dr_tf predict` on synthetic photographs, by ONNX Runtime and by TensorFlow.

    python benchmarks/inference.py [--networks ready resnet50 resnet_v2 vit_b16] [--count 64] [--rounds 3] [--batch 16]

With `--count 0` the command is not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands of dr_tf set it
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
Times = dict[str, tuple[float, float]]  # {what: (processor ms, elapsed ms) per image}


def resnet_v2() -> Any:
    """System 1's network at 256 pixels, from scratch."""
    return _classifier("resnet_v2", 256)


def resnet50() -> Any:
    """keras.applications' ResNet50 at 224 pixels, with random weights."""
    return _classifier("resnet50", 224)


def vit_b16() -> Any:
    """keras-hub's CLIP vision tower ViT-B/16 at 224 pixels, with random weights."""
    import keras
    from keras_hub.models import CLIPVisionEncoder

    encoder = CLIPVisionEncoder(
        patch_size=16, hidden_dim=768, num_layers=12, num_heads=12, intermediate_dim=3072, image_shape=(224, 224, 3)
    )
    image = keras.Input((224, 224, 3))
    return _with_grade(image, encoder({"images": image / 255})[:, 0])


def ready() -> Any:
    """The model that comes with dr_tf, EfficientNet-Lite0 at 385 pixels."""
    from dr_tf.inference.ready import READY
    from dr_tf.models.network import KerasNetwork

    return KerasNetwork.load(READY / "model.keras").model


NETWORKS = {network.__name__: network for network in (ready, resnet50, resnet_v2, vit_b16)}


def _classifier(name, side):
    from dr_tf.models.backbones import build_backbone
    from dr_tf.models.classifier import classifier
    from dr_tf.models.heads import HEADS

    return classifier(build_backbone(name, image_size=side), {"grade": HEADS["softmax"]()})


def _with_grade(image, features):
    import keras

    features = keras.layers.Identity(name="features")(features)
    return keras.Model(image, {"grade": keras.layers.Dense(5, name="grade")(features)})


def measure_network(name: str, rounds: int, batch: int) -> tuple[Times, dict[str, float]]:
    """Time one network in every runtime at hand; also return MB of each file, and int8's least cosine similarity."""
    model = NETWORKS[name]()
    side = model.input.shape[1]
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
    times = {
        f"keras predict, batch {size}": _time(lambda x: model.predict(x, verbose=0), images, size, rounds)
        for size in sorted({1, batch})
    }
    times |= _pytorch(name, side, rounds, batch)
    sizes, features = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in _onnx_files(model, images, pathlib.Path(folder)).items():
            sizes[f"{kind}, MB"] = round(path.stat().st_size / 1e6, 2)
            for cores in sorted({1, os.cpu_count() or 1}):
                with _on_cores(cores):
                    times[f"ONNX Runtime {kind}, {cores} cores"] = _time(_session(path), images, 1, rounds)
            run = _session(path)
            features[kind] = np.concatenate([run(image[None])[1] for image in images[:8]])
    return times, sizes | {"cosine of int8": round(_least_cosine(*features.values()), 5)}


def _session(path):
    from dr_tf.inference.onnx_network import open_session

    session = open_session(path)
    return lambda x: session.run(["grade", "features"], {"images": x})


def _least_cosine(a, b):
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


@contextlib.contextmanager
def _on_cores(count: int) -> Iterator[None]:
    """Restrict this process to some cores; a session opened meanwhile has as many threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _onnx_files(model, images, folder):
    from dr_tf.export.graph import ExportedGraph
    from dr_tf.export.onnx_file import save, to_onnx
    from dr_tf.export.quantize import quantize_onnx

    graph = ExportedGraph(model, "grade")
    save(to_onnx(graph.function, graph.signature), folder / "float32.onnx")
    quantize_onnx(folder / "float32.onnx", folder / "int8.onnx", [{"images": image[None]} for image in images[:4]])
    return {kind: folder / f"{kind}.onnx" for kind in ("float32", "int8")}


def _pytorch(name: str, side: int, rounds: int, batch: int) -> Times:
    """ResNet50 and ViT-B/16 of torchvision, compiled; nothing where torchvision is not installed."""
    try:
        import torch
        import torchvision
    except ImportError:
        return {}
    builders = {"resnet50": torchvision.models.resnet50, "vit_b16": torchvision.models.vit_b_16}
    if name not in builders:
        return {}
    network = torch.compile(builders[name]().eval())
    images = torch.rand(batch, 3, side, side)
    with torch.inference_mode():
        return {f"PyTorch compiled, batch {n}": _time(network, images, n, rounds) for n in sorted({1, batch})}


def _time(run: Callable[[Any], Any], images: Any, size: int, rounds: int) -> tuple[float, float]:
    """Median (processor ms, elapsed ms) per image, after one pass that is not counted."""
    batches = [images[i : i + size] for i in range(0, len(images), size)]
    run(batches[0])
    seconds = []
    for _ in range(rounds):
        before = time.process_time(), time.perf_counter()
        for batch in batches:
            run(batch)
        seconds.append((time.process_time() - before[0], time.perf_counter() - before[1]))
    medians = [statistics.median(values) for values in zip(*seconds, strict=True)]
    return 1e3 * medians[0] / len(images), 1e3 * medians[1] / len(images)


def measure_command(runtime: str, count: int, rounds: int) -> dict[str, float]:
    """Measure `dr_tf predict` by the model that comes with dr_tf: first answer, throughput, peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        _draw(pathlib.Path(folder), count)
        one = min(pathlib.Path(folder).iterdir())
        first = [_run(runtime, one) for _ in range(rounds)]
        many = _run(runtime, folder)
    return {
        "first answer, s": statistics.median(seconds for seconds, _, _ in first),
        "first answer, processor s": statistics.median(used for _, used, _ in first),
        "photographs a second": count / many[0],
        "photographs a processor second": count / many[1],
        "peak memory, MB": many[2],
    }


def _draw(folder, count):
    from dr_tf.fundus.synthesis import render_patient

    eyes = [eye.encode() for seed in range(4) for eye in render_patient(seed, side=1024).eyes]
    for number in range(count):
        (folder / f"{number:04}.jpg").write_bytes(eyes[number % len(eyes)])


def _run(runtime: str, path: Any) -> tuple[float, float, float]:
    """(elapsed seconds, processor seconds, peak MB of the largest process) of the command."""
    command = [sys.executable, "-m", "dr_tf.predict", "--runtime", runtime, str(path)]
    timed = ["/usr/bin/env", "bash", "-c", 'TIMEFORMAT="%R %U %S"; time "$@" >/dev/null', "time", *command]
    before = _peak_mb()
    finished = subprocess.run(timed, cwd=ROOT, capture_output=True, text=True, check=False)
    elapsed, user, system = map(float, re.findall(r"^([\d.]+) ([\d.]+) ([\d.]+)$", finished.stderr, re.MULTILINE)[-1])
    return elapsed, user + system, max(before, _peak_mb())


def _peak_mb():
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    """Measure and print the tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--count", type=int, default=64, help="photographs of the end-to-end measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="images in a batch, and images that are timed")
    args = parser.parse_args()
    # In this order: the peak memory of child processes is that of the largest so far.
    runtimes = ("fastest", "tensorflow") if args.count else ()
    commands = {runtime: measure_command(runtime, args.count, args.rounds) for runtime in runtimes}
    for name in next(iter(commands.values()), ()):
        print(f"{name:35}" + "".join(f"{runtime:>12}{values[name]:9.2f}" for runtime, values in commands.items()))
    networks = {}
    for name in args.networks:
        times, others = measure_network(name, args.rounds, args.batch)
        networks[name] = {kind: [round(ms, 1) for ms in measured] for kind, measured in times.items()} | others
        print(f"\n{name:35}{'processor ms':>14}{'elapsed ms':>12}")
        for kind, (used, elapsed) in times.items():
            print(f"{kind:35}{used:14.1f}{elapsed:12.1f}")
        for kind, value in others.items():
            print(f"{kind:35}{value:14.5g}", flush=True)
    versions = {
        name: importlib.metadata.version(name)
        for name in ("tensorflow", "keras", "onnxruntime", "opencv-python-headless")
    }
    machine = f"{processor()}, {os.cpu_count()} cores"
    print(json.dumps({"machine": machine, **versions, "load": os.getloadavg()[0], "command": commands, **networks}))


if __name__ == "__main__":
    main()
