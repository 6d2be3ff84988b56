"""Compare `dr_tf serve` under simultaneous clients with `dr_tf predict` on a folder of the same photographs.

--clients clients send one photograph after the other over loopback for --seconds. A client that is refused (429) waits as
long as Retry-After says and sends the same photograph again. Each answer must be the line of `predict` for its file (numbers up to a
relative 1e-9), and none may be lost. The load comes in rounds, and `predict` runs before and after each, so that other work of the machine
falls on both. Rates are counted from the first decisions on, and without
the last ones of `predict`, which it has read before. The limit of the median ratio is 0.8. The clients
run on the same cores: their processor time is in the table.

Photographs: a folder, or synthetic ones of 1,000 to 2,000 pixels.
  python benchmarks/serve.py [--folder DIR] [--clients 200] [--seconds 120] [--queue 160] [--count 200] [--rounds 2]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from http_clients import Tally, drive  # noqa: E402
from machine import processor  # noqa: E402

from dr_tf.fundus.synthesis import render_patient  # noqa: E402
from dr_tf.inference.find_images import find_images  # noqa: E402

LIMIT = 0.8
BATCH = 16  # decisions that `predict` prints at a time
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE.parent)}


def draw(folder: pathlib.Path, patients: int) -> None:
    """Write two synthetic photographs of each patient, of 1,000 to 2,000 pixels on a side."""
    for seed in range(patients):
        for eye, side in zip(
            render_patient(seed, side=1000 + 1000 * seed // max(1, patients - 1)).eyes, "lr", strict=True
        ):
            (folder / f"{seed:03d}_{side}.jpg").write_bytes(eye.encode())


def repeat(folder: pathlib.Path, paths: Sequence[pathlib.Path], count: int) -> None:
    """Fill a folder with `count` links to the photographs."""
    for number, path in zip(range(count), itertools.cycle(paths)):
        (folder / f"{number:06d}{path.suffix}").symlink_to(path)


def predict(folder: pathlib.Path, *flags: str) -> tuple[list[dict], float, float]:
    """Run `dr_tf predict` on a folder.

    Returns:
        (its decisions, photographs a second after the first ones, processor seconds of the whole command).
    """
    before, times, lines = _children(), [], []
    command = [sys.executable, "-m", "dr_tf", "predict", "--format", "json", *flags, "."]
    with subprocess.Popen(
        command, cwd=folder, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            times.append(time.perf_counter())
            lines.append(json.loads(line))
    return lines, rate(times[: -3 * BATCH]), _children() - before  # the last ones were read ahead


def rate(times: Sequence[float]) -> float:
    """Return decisions a second, from the first ones on, from the times at which they came."""
    return (len(times) - BATCH) / (times[-1] - times[BATCH - 1]) if len(times) > BATCH else 0.0


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def serving(*flags: str) -> Iterator[tuple[int, int]]:
    """Start `dr_tf serve` on a free port; yield (port, process id); stop it by SIGTERM."""
    command = [sys.executable, "-m", "dr_tf", "serve", "--port", "0", *flags]
    with subprocess.Popen(command, env=_ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if match := re.search(r"serves on \S+:(\d+);", line):
                break
        else:
            raise RuntimeError("the service did not start")
        try:
            yield int(match[1]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def tree_seconds(pid: int) -> float:
    """Return the processor seconds of a process and its children."""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if pid in (int(stat.parent.name), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Round:
    """Photographs a second of `predict` before and after a part of the load, and of the service under it."""

    before: float
    service: float
    after: float

    @property
    def ratio(self) -> float:
        """Of the service to `predict`."""
        return 2 * self.service / max(1e-9, self.before + self.after)


def measure(
    paths: Sequence[pathlib.Path], args: argparse.Namespace
) -> tuple[list[Round], dict[str, float], list[Tally]]:
    """Run `predict` and the service in turn; return the rounds, processor milliseconds a photograph, and what clients saw."""
    with tempfile.TemporaryDirectory() as root:
        distinct, many = pathlib.Path(root, "distinct"), pathlib.Path(root, "many")
        distinct.mkdir(), many.mkdir()
        for path in paths:
            (distinct / path.name).symlink_to(path.resolve())
        repeat(many, [path.resolve() for path in paths], args.count)
        expected = {decision["case"]: decision for decision in predict(distinct)[0]}
        photographs = {path.name: path.read_bytes() for path in paths}
        runs, tallies, used, own = [predict(many)], [], 0.0, 0.0
        with serving("--queue", str(args.queue), "--timeout", "120") as (port, pid):
            for _ in range(args.rounds):
                before, began = tree_seconds(pid), time.process_time()
                load = drive(port, photographs, expected, clients=args.clients, seconds=args.seconds / args.rounds)
                tallies.append(asyncio.run(load))
                used, own = used + tree_seconds(pid) - before, own + time.process_time() - began
                runs.append(predict(many))
    in_turn = zip(runs, tallies, runs[1:], strict=False)
    rounds = [Round(before[1], rate(tally.times), after[1]) for before, tally, after in in_turn]
    answered = max(1, sum(tally.answered for tally in tallies))
    processor_ms = {
        "predict": 1e3 * sum(run[2] for run in runs) / (len(runs) * args.count),
        "serve": 1e3 * used / answered,
        "clients": 1e3 * own / answered,
    }
    return rounds, processor_ms, tallies


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, help="of photographs (default: synthetic ones)")
    parser.add_argument("--patients", type=int, default=20, help="synthetic patients (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120, help="of all rounds together (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--queue", type=int, default=160, help="of the service (default: %(default)s)")
    parser.add_argument("--count", type=int, default=200, help="photographs for predict (default: %(default)s)")
    args = parser.parse_args()
    drawn = pathlib.Path(tempfile.mkdtemp())
    try:
        if args.folder is None:
            draw(drawn, args.patients)
        report(args, *measure(list(find_images([args.folder or drawn])), args))
    finally:
        shutil.rmtree(drawn)


def report(args: argparse.Namespace, rounds: Sequence[Round], processor_ms: dict, tallies: Sequence[Tally]) -> None:
    """Print the table and the line of JSON."""
    print("photographs/s:   predict   serve  predict   ratio")
    for one in rounds:
        print(f"{'':14} {one.before:9.1f} {one.service:7.1f} {one.after:8.1f} {one.ratio:7.2f}")
    ratio = statistics.median(one.ratio for one in rounds)
    print(f"median ratio: {ratio:.2f} (limit: {LIMIT})")
    print("processor ms a photograph: " + ", ".join(f"{name} {value:.0f}" for name, value in processor_ms.items()))
    total = Tally.sum(tallies)
    print(f"answered {total.answered}, wrong {len(total.wrong)}, lost {len(total.lost)}, refused {total.refused}")
    latency = statistics.quantiles(total.seconds, n=20) if len(total.seconds) > 1 else [0.0] * 19
    figures = {
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("fastapi", "uvicorn", "onnxruntime")},
        "load": os.getloadavg(),
        "clients": args.clients,
        "photographs_a_second": [dataclasses.astuple(one) for one in rounds],
        "processor_ms": processor_ms,
        "answered": total.answered,
        "wrong": total.wrong[:5],
        "lost": total.lost[:5],
        "refused": total.refused,
        "seconds_median": latency[9],
        "seconds_95_percent": latency[18],
        "ratios": [one.ratio for one in rounds],
        "ratio": ratio,
    }
    print(json.dumps(figures))
    sys.exit(bool(total.wrong or total.lost or ratio < LIMIT))


if __name__ == "__main__":
    main()
