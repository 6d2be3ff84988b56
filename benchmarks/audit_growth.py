"""Measure how the time and the memory of the leak audit grow with the number of photographs.

The descriptors are drawn from the distribution of real ones: the mean of a real descriptor in a random orientation and of a
normal variable with the same covariance. A copy is its original plus noise, in a random orientation, with a cosine of 0.8 to 1.0.
Each photograph has the view of a real one, and a copy that of its original, so that views are compared for the time that
it takes in nature.

Each size runs in a process of its own; 1,000,000 photographs take 9 GB on disk. Reads $DR_TF_SHARED/data (default ../shared).

    python benchmarks/audit_growth.py [--photographs 10000 100000 1000000]
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import sys
import tempfile
import time

import numpy as np
from audit import cpu_seconds, image_paths, signature_of, timed_retrieval, wilson_interval
from machine import processor

from tfrecords_builder.candidate_pairs import Whitening
from tfrecords_builder.copy_search import SignatureIndex
from tfrecords_builder.descriptors import ORIENTATIONS, ImageSignature, reorient_descriptors, reorient_view

COPIES = 5_000
_BLOCK = 50_000


def real_signatures(every: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the descriptors and views of every n-th photograph."""
    paths, _ = image_paths()
    if not paths:
        sys.exit("no photographs below $DR_TF_SHARED/data")
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        signatures = [found for found in pool.map(signature_of, paths[::every], chunksize=8) if found is not None]
    return (
        np.stack([found.descriptors[0] for found in signatures]).astype(np.float32),
        np.stack([found.views[0] for found in signatures]),
    )


def drawn_descriptors(real: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw descriptors from the distribution of the real ones."""
    oriented = np.concatenate([reorient_descriptors(real, orientation) for orientation in ORIENTATIONS])
    values, vectors = np.linalg.eigh(np.cov(oriented.T))
    root = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
    chosen = oriented[rng.integers(len(oriented), size=count)]
    return np.sqrt(0.5) * (chosen + rng.normal(size=chosen.shape).astype(np.float32) @ root.T)


def copies_of(descriptors: np.ndarray, others: np.ndarray, cosines: np.ndarray, whitening: Whitening) -> np.ndarray:
    """Mix descriptors with others so that they have these cosines, once they are whitened."""
    scale = np.linalg.norm(descriptors / whitening.scale, axis=1, keepdims=True)
    noise = others / whitening.scale
    noise *= scale / np.linalg.norm(noise, axis=1, keepdims=True)
    cosines = cosines[:, None]
    return (cosines * descriptors + np.sqrt(1 - cosines**2) * noise * whitening.scale).astype(np.float32)


def add_photographs(index: SignatureIndex, real: np.ndarray, views: np.ndarray, count: int, copies: int) -> None:
    """Add photographs 0, 1, … and the copies -1, -2, … of the first ones."""
    rng = np.random.default_rng(0)
    whitening, view_of = Whitening(real), rng.integers(len(views), size=count - copies)

    def add(number: int, descriptor: np.ndarray, view: np.ndarray) -> None:
        index.add(number, ImageSignature(str(number), view[None], descriptor[None].astype(np.float16)))

    originals = np.zeros((0, real.shape[1]), np.float32)
    for start in range(0, count - copies, _BLOCK):
        descriptors = drawn_descriptors(real, min(_BLOCK, count - copies - start), rng)
        originals = np.concatenate([originals, descriptors])[:copies]
        for number, descriptor in enumerate(descriptors, start):
            add(number, descriptor, views[view_of[number]])
    noisy = copies_of(originals, drawn_descriptors(real, copies, rng), rng.uniform(0.8, 1, copies), whitening)
    for number, descriptor in enumerate(noisy):
        orientation = list(ORIENTATIONS)[rng.integers(8)]
        reoriented = reorient_descriptors(descriptor[None], orientation)[0]
        add(-1 - number, reoriented, reorient_view(views[view_of[number]], orientation))


def measure(real: np.ndarray, views: np.ndarray, count: int, copies: int) -> dict[str, float]:
    """Audit photographs with copies among them; return seconds, counts, and bytes of memory."""
    results: dict[str, float] = {}
    with (
        timed_retrieval(results),
        tempfile.TemporaryDirectory() as folder,
        SignatureIndex(pathlib.Path(folder) / "views") as index,
    ):
        add_photographs(index, real, views, count, copies)
        start, cpu = time.perf_counter(), cpu_seconds()
        pairs = index.find_pairs(workers=2)
        results["all"] = time.perf_counter() - start
    for worker in multiprocessing.active_children():
        worker.join(2)  # its processor time counts only once it has ended
    results["cpu"] = cpu_seconds() - cpu
    results["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {(pair.a, pair.b) for pair in pairs if pair.kind == "copy"}
    results["found"] = sum((number, -1 - number) in found for number in range(copies))
    return results


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, nargs="+", default=[10_000, 100_000], metavar="N")
    parser.add_argument("--every", type=int, default=4, help="use every n-th real photograph (default: 4)")
    flags = parser.parse_args()
    real, views = real_signatures(flags.every)
    print(f"{len(real)} real photographs; {processor()}, {os.cpu_count()} cores")
    table = []
    for count in flags.photographs:
        copies = min(COPIES, count // 10)
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            result = pool.submit(measure, real, views, count, copies).result()
        low, high = wilson_interval(result["found"], copies)
        print(f"{count:9,} photographs: {result['all']:6.0f} s by the clock ({result['retrieval']:.0f} s of it for retrieval), "
              f"{1e3 * result['cpu'] / count:.2f} ms of a processor and {result['peak'] / count:,.0f} bytes each, "
              f"{result['candidates']:,.0f} candidates; {result['found']} of {copies} copies found ({low:.1%}-{high:.1%})",
              flush=True)  # fmt: skip
        table.append(
            {"photographs": count, "copies": copies} | {name: round(value, 1) for name, value in result.items()}
        )
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    print(
        json.dumps(
            {"machine": {"cores": os.cpu_count(), "processor": processor()}, "versions": versions, "sizes": table}
        )
    )


if __name__ == "__main__":
    main()
