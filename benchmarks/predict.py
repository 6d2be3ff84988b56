"""Cold start and throughput of `python -m dr_tf.predict` by TensorFlow: time to the first decision by stage, and images per second.

Cold start: the stages of the command run one after the other in fresh processes; then the command itself, from its
start to the first decision printed. The lower bound is importing TensorFlow and Keras, which the network needs; it has
its own row.

Folder: the command on --count images, the originals repeated, one in a hundred broken (empty, cut short, overwritten
data, a text). Beside it the time of reading alone (on one core; the bound is this times the cores) and of the network
alone, by the same code in this process.

Needs a finished run and a folder of images. On a loaded machine compare processor seconds rather than seconds.

    python benchmarks/predict.py --run_dir runs/idrid FOLDER [--count 1000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dr_tf.inference.find_images import find_images  # noqa: E402

# What the command does for one image, with a mark after each stage.
STAGES = """
import json, sys, time
marks = [["start", time.perf_counter(), time.process_time()]]
mark = lambda name: marks.append([name, time.perf_counter(), time.process_time()])
run_dir, path = sys.argv[1:]
from dr_tf.cli import predict
mark("import the command")
from dr_tf.runtime import starting_tensorflow
with starting_tensorflow(without=("sklearn", "matplotlib")):
    import tensorflow, keras
    mark("import TensorFlow and Keras")
    from dr_tf.inference import run
    from dr_tf.inference.predictor import Predictor
    mark("import dr_tf.inference")
    run = run.load_run(run_dir, keras=True)
    network, preparation = run.network, run.preparation
    mark("load the run and build the network")
from dr_tf.inference.prepare_images import prepare_image
prepared = prepare_image(preparation, path)
mark("read and prepare the image")
network(prepared.pixels[None])
mark("first pass, with tracing")
network(prepared.pixels[None])
mark("second pass")
print(json.dumps({new[0]: [new[1] - old[1], new[2] - old[2]] for old, new in zip(marks, marks[1:])}))
"""

# (seconds, processor seconds)
Times = tuple[float, float]


def time_stages(run_dir: pathlib.Path, path: pathlib.Path, rounds: int) -> dict[str, list[Times]]:
    """Time each stage of the command in fresh processes, and the start of Python itself.

    Returns:
        {stage: [(seconds, processor seconds) of each round]}.
    """
    by_stage = {"start Python": [_time_command([sys.executable, "-c", ""]) for _ in range(rounds)]}
    for _ in range(rounds):
        command = [sys.executable, "-c", STAGES, str(run_dir), str(path)]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name, seconds in json.loads(output.splitlines()[-1]).items():
            by_stage.setdefault(name, []).append(seconds)
    return by_stage


def time_first_decision(run_dir: pathlib.Path, path: pathlib.Path) -> Times:
    """Time the command until it has printed the decision on one image; the processor seconds are those of all of it."""
    start, before = time.perf_counter(), _processor_seconds_of_children()
    process = subprocess.Popen(_command(run_dir, path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.readline(), process.stdout.readline()  # the first line is the header
    seconds = time.perf_counter() - start
    process.wait()
    return seconds, _processor_seconds_of_children() - before


def _command(run_dir, path):
    return [sys.executable, "-m", "dr_tf.predict", "--runtime", "tensorflow", "--run_dir", str(run_dir), str(path)]


def _time_command(command):
    start, before = time.perf_counter(), _processor_seconds_of_children()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start, _processor_seconds_of_children() - before


def _processor_seconds_of_children():
    """Of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def fill_folder(folder: pathlib.Path, paths: Sequence[pathlib.Path], count: int) -> None:
    """Create `count` links to images. One in a hundred is a broken file instead, of four kinds in turn."""
    first = paths[0].read_bytes()
    cut = first[: len(first) // 2] + first[len(first) // 2 + 5000 :]
    broken = (b"", first[: len(first) // 2], cut, b"no photograph")
    for number in range(count):
        path = folder / f"{number:05}.jpg"
        if number % 100 == 50:
            path.write_bytes(broken[number // 100 % len(broken)])
        else:
            path.symlink_to(paths[number % len(paths)].resolve())


def measure_folder(run_dir: pathlib.Path, paths: Sequence[pathlib.Path], count: int) -> dict[str, float]:
    """Measure throughput, processor time and peak memory of the command on a folder of `count` images."""
    with tempfile.TemporaryDirectory() as folder:
        fill_folder(pathlib.Path(folder), paths, count)
        start, before = time.perf_counter(), _processor_seconds_of_children()
        finished = subprocess.run(_command(run_dir, folder), cwd=ROOT, capture_output=True, text=True)
        seconds, used = time.perf_counter() - start, _processor_seconds_of_children() - before
    print(finished.stderr.replace("\r", "\n").strip().splitlines()[-1])
    return {
        "photographs": len(finished.stdout.splitlines()) - 1,
        "exit_status": finished.returncode,
        "seconds": seconds,
        "a_second": count / seconds,
        "processor_seconds": used,
        "peak_mb_of_a_process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def measure_limits(run_dir: pathlib.Path, paths: Sequence[pathlib.Path]) -> dict[str, float]:
    """Measure milliseconds per image of reading alone, and of the network alone at the command's batch size."""
    from dr_tf.inference.prepare_images import prepare_image
    from dr_tf.inference.run import load_run

    run = load_run(run_dir, keras=True)
    start = time.perf_counter()
    prepared = [prepare_image(run.preparation, path) for path in paths[:32]]
    reading = (time.perf_counter() - start) / len(prepared)
    x = np.stack([image.pixels for image in prepared if image.pixels is not None][:16])
    run.network(x)
    starts = [(time.perf_counter(), run.network(x))[0] for _ in range(11)]
    return {"reading_ms": 1e3 * reading, "network_ms": 1e3 * statistics.median(np.diff(starts)) / len(x)}


def main() -> None:
    """Measure cold start and throughput and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    paths, run_dir = list(find_images([args.folder])), pathlib.Path(args.run_dir).resolve()
    by_stage = time_stages(run_dir, paths[0], args.rounds)
    first_decisions = [time_first_decision(run_dir, paths[0]) for _ in range(args.rounds)]
    by_stage["the command, to its first decision"] = first_decisions
    print(f"{'median of ' + str(args.rounds):35}   seconds  processor   (range of seconds)")
    for name, rounds in by_stage.items():
        wall, used = zip(*rounds, strict=True)
        span = f"({min(wall):.3f} to {max(wall):.3f})"
        print(f"{name:35}{statistics.median(wall):10.3f}{statistics.median(used):11.3f}   {span}")
    results = measure_folder(run_dir, paths, args.count) | measure_limits(run_dir, paths)
    for name, value in results.items():
        print(f"{name:35}{value:8.3f}")
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "opencv-python-headless")}
    machine = f"{processor()}, {os.cpu_count()} cores"
    medians = {name: np.median(rounds, axis=0).tolist() for name, rounds in by_stage.items()}
    print(json.dumps({"machine": machine, **versions, "load": os.getloadavg()[0], "cold_start": medians, **results}))


if __name__ == "__main__":
    main()
