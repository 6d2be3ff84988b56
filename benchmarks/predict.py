"""How long until the first answer of `python -m dr_tf.predict`, where do the seconds go, and how fast is a folder?

Cold start: fresh processes, whose stages are timed one after the other; then the command itself, from its start to the
first line of an answer. The limit of it is importing TensorFlow and Keras, without which there is no network: a row.
Folder: --count photographs, originals over and over with one in a hundred broken (empty, cut short, data
overwritten, a text), by the command; beside it what reading alone takes (the limit of one core, times the cores) and what
the network alone takes, by the same code in this process.

Needs a finished run and photographs. Where other work loads the machine, processor seconds say more than seconds.
  python benchmarks/predict.py --run_dir runs/idrid FOLDER [--count 1000] [--rounds 5]
"""

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

import numpy as np
from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dr_tf.inference.find_images import find  # noqa: E402

# What the command does for one photograph, a mark after each stage.
STAGES = """
import json, sys, time
marks = [["start", time.perf_counter(), time.process_time()]]
mark = lambda name: marks.append([name, time.perf_counter(), time.process_time()])
run_dir, path = sys.argv[1:]
from dr_tf.cli import predict
mark("our own light imports")
from dr_tf.runtime import starting_tensorflow
with starting_tensorflow(without=("sklearn", "matplotlib")):
    import tensorflow, keras
    mark("import TensorFlow and Keras")
    from dr_tf.inference import run
    from dr_tf.inference.predictor import Predictor
    mark("our own imports")
    run = run.load_run(run_dir)
    network, preparation = run.network, run.preparation
    mark("read the run, build the network")
from dr_tf.inference.prepare_images import read
found = read(preparation, path)
mark("read the photograph")
network(found.pixels[None])
mark("first pass: trace")
network(found.pixels[None])
mark("second pass")
print(json.dumps({new[0]: [new[1] - old[1], new[2] - old[2]] for old, new in zip(marks, marks[1:])}))
"""


def stages(run_dir, path, rounds):
    """{stage: [(seconds, processor seconds)] of each round}, the start of Python itself among them."""
    found = {"start Python": [_seconds([sys.executable, "-c", ""]) for _ in range(rounds)]}
    for _ in range(rounds):
        command = [sys.executable, "-c", STAGES, str(run_dir), str(path)]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name, seconds in json.loads(said.splitlines()[-1]).items():
            found.setdefault(name, []).append(seconds)
    return found


def first_answer(run_dir, path):
    """Seconds until the command has printed what it says of one photograph, and its processor seconds."""
    start, before = time.perf_counter(), _children()
    process = subprocess.Popen(_command(run_dir, path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.readline(), process.stdout.readline()  # the first is the header
    took = time.perf_counter() - start
    process.wait()
    return took, _children() - before


def _command(run_dir, place):
    return [sys.executable, "-m", "dr_tf.predict", "--run_dir", str(run_dir), str(place)]


def _seconds(command):
    start, before = time.perf_counter(), _children()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start, _children() - before


def _children():
    """Processor seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fill(folder, paths, count):
    """Links to photographs, and one in a hundred broken in turn by each of four ways."""
    first = paths[0].read_bytes()
    cut = first[: len(first) // 2] + first[len(first) // 2 + 5000 :]
    broken = (b"", first[: len(first) // 2], cut, b"no photograph")
    for number in range(count):
        path = folder / f"{number:05}.jpg"
        if number % 100 == 50:
            path.write_bytes(broken[number // 100 % len(broken)])
        else:
            path.symlink_to(paths[number % len(paths)].resolve())


def folder_figures(run_dir, paths, count):
    with tempfile.TemporaryDirectory() as place:
        fill(pathlib.Path(place), paths, count)
        start, before = time.perf_counter(), _children()
        done = subprocess.run(_command(run_dir, place), cwd=ROOT, capture_output=True, text=True)
        took, used = time.perf_counter() - start, _children() - before
    print(done.stderr.replace("\r", "\n").strip().splitlines()[-1])
    return {
        "photographs": len(done.stdout.splitlines()) - 1,
        "exit_status": done.returncode,
        "seconds": took,
        "a_second": count / took,
        "processor_seconds": used,
        "peak_mb_of_a_process": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def limits(run_dir, paths):
    """Milliseconds a photograph of reading alone, and of the network alone at the batch of the command, in this process."""
    from dr_tf.inference.prepare_images import read
    from dr_tf.inference.run import load_run

    run = load_run(run_dir)
    network, preparation = run.network, run.preparation
    start = time.perf_counter()
    found = [read(preparation, path) for path in paths[:32]]
    reading = (time.perf_counter() - start) / len(found)
    x = np.stack([one.pixels for one in found if one.pixels is not None][:16])
    network(x)
    passes = [(time.perf_counter(), network(x))[0] for _ in range(11)]
    return {"reading_ms": 1e3 * reading, "network_ms": 1e3 * statistics.median(np.diff(passes)) / len(x)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--run_dir", required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--bootstrap_samples", type=int, default=5)
    args = parser.parse_args()
    paths, run_dir = list(find([args.folder])), pathlib.Path(args.run_dir).resolve()
    by_stage = stages(run_dir, paths[0], args.rounds)
    by_stage["the command, to its first answer"] = [first_answer(run_dir, paths[0]) for _ in range(args.rounds)]
    print(f"{'median of ' + str(args.rounds):34}   seconds  processor   (range of seconds)")
    for name, rounds in by_stage.items():
        wall, used = zip(*rounds, strict=True)
        span = f"({min(wall):.3f} to {max(wall):.3f})"
        print(f"{name:34}{statistics.median(wall):10.3f}{statistics.median(used):11.3f}   {span}")
    figures = folder_figures(run_dir, paths, args.count) | limits(run_dir, paths)
    for name, value in figures.items():
        print(f"{name:34}{value:8.3f}")
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "opencv-python-headless")}
    machine = f"{processor()}, {os.cpu_count()} cores"
    medians = {name: np.median(rounds, axis=0).tolist() for name, rounds in by_stage.items()}
    print(json.dumps({"machine": machine, **versions, "load": os.getloadavg()[0], "cold_start": medians, **figures}))


if __name__ == "__main__":
    main()
