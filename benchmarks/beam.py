"""Measure how many photographs a second `dr_tf predict` decides on, locally and on Apache Beam with one and two workers.

The photographs are those of 30 synthetic patients, repeated. All runs use the model that comes with dr_tf, and the whole command is timed, its
start included. The local run already reads with a process per core, so on one machine Beam can only add to the work: the limit is
the local run. The rows of all runs must be equal.

Needs apache-beam.
  python benchmarks/beam.py [--count 3000]
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

from machine import processor

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import apache_beam  # noqa: E402

from dr_tf.fundus.synthesis import render_patient  # noqa: E402

PATIENTS = 30
TWO_WORKERS = ("direct_running_mode=multi_processing", "direct_num_workers=2")


def draw(folder: pathlib.Path, count: int) -> None:
    """Write the photographs of a few patients, again and again until there are `count`."""
    eyes = [eye.jpeg for seed in range(min(PATIENTS, -(-count // 2))) for eye in render_patient(seed).eyes]
    for number in range(count):
        (folder / f"{number:06d}.jpg").write_bytes(eyes[number % len(eyes)])


def predict(*flags: object) -> tuple[str, float]:
    """Run the command; return what it printed, and the seconds that it took."""
    command = [sys.executable, "-m", "dr_tf", "predict", "--format", "csv", *map(str, flags)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout:  # 1 is also the status of a traceback
        sys.exit(done.stderr)
    return done.stdout, time.perf_counter() - start


def on_beam(folder: pathlib.Path, output: pathlib.Path, options: tuple[str, ...]) -> tuple[str, float]:
    """Run the command on Beam; return the rows of all shards as one table, and the seconds that it took."""
    flags = [flag for option in options for flag in ("--beam_option", option)]
    _, seconds = predict("--beam_runner", "DirectRunner", *flags, "--output", output, folder)
    shards = [path.read_text(encoding="utf-8") for path in sorted(output.glob("decisions-*"))]
    return shards[0] + "".join(shard.partition("\n")[2] for shard in shards[1:]), seconds


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000, help="number of photographs (default: %(default)s)")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root, "photographs")
        folder.mkdir()
        draw(folder, count)
        runs = {
            "local": predict(folder),
            "Beam, 1 worker": on_beam(folder, pathlib.Path(root, "one"), ()),
            "Beam, 2 workers": on_beam(folder, pathlib.Path(root, "two"), TWO_WORKERS),
        }
    tables = {table for table, _ in runs.values()}
    print(f"{'run':16} {'seconds':>8} {'photographs/s':>14}")
    for name, (_, seconds) in runs.items():
        print(f"{name:16} {seconds:8.0f} {count / seconds:14.1f}")
    print("the rows of all runs are equal" if len(tables) == 1 else "THE ROWS DIFFER")
    figures = {
        "processor": processor(),
        "python": platform.python_version(),
        "apache_beam": apache_beam.__version__,
        "load": os.getloadavg(),
        "photographs": count,
        "equal": len(tables) == 1,
        "seconds": {name: round(seconds, 1) for name, (_, seconds) in runs.items()},
    }
    print(json.dumps(figures))
    sys.exit(len(tables) != 1)


if __name__ == "__main__":
    main()
