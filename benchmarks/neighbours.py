"""Speed and correctness of the search for the ten nearest of 100,000 training images.

Compared with a float64 search over the same stored features (the correct result), with a float32 search without
re-ranking, and with scikit-learn's brute force. The lower bound for one query is reading the features in memory once,
measured as the fastest of three ways to read them. The limits: a single query takes at most twice that; in batches of
32 a query takes at most 5 ms.

    python benchmarks/neighbours.py [--rows 100000] [--features 512] [--repeats 15]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

from machine import processor

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from dr_tf.inference.nearest_neighbours import K, Neighbours, build_neighbours, load_neighbours  # noqa: E402

BATCH = 32


def sample_features(rows: int, features: int, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample features like a network's: rectified, around 64 centres, with a different spread in each dimension.

    Returns:
        (features [rows, features], classes [rows], queries [queries, features]).
    """
    rng = np.random.default_rng(seed)
    centres = rng.gamma(1.0, 1.0, (64, features)).astype(np.float32)
    spread = rng.gamma(2.0, 0.2, features).astype(np.float32)

    def sample(n):
        noise = rng.standard_normal((n, features), dtype=np.float32) * spread
        return np.maximum(centres[rng.integers(0, len(centres), n)] + noise, 0)

    return sample(rows), rng.integers(0, 5, rows), sample(queries)


def ways_to_read(stored: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return {name: function} of three operations that read the whole array once."""
    flat = stored.reshape(-1)
    ones = np.ones(stored.shape[1], np.float32)
    words = flat.view(np.uint64)
    return {
        "sum": lambda: flat.sum(),
        "or": lambda: np.bitwise_or.reduce(words),
        "times a vector": lambda: stored @ ones,
    }


def float64_search(stored: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Find the rows [queries, K] of the nearest neighbours by distances in float64."""
    rows = []
    for query in queries:
        squared = np.concatenate([((part - query) ** 2).sum(axis=1) for part in np.array_split(stored, 16)])
        rows.append(np.argsort(squared, kind="stable")[:K])
    return np.array(rows)


def float32_search(stored: np.ndarray, squared_norms: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Find the rows [queries, K] of the nearest neighbours by a float32 matrix product, without re-ranking."""
    squared = squared_norms - 2 * (queries.astype(np.float32) @ stored.T)
    return np.argsort(squared, axis=1, kind="stable")[:, :K]


def time_in_turn(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Time functions in turn, so that a change in the machine's load affects them all.

    Returns:
        {name: (median, minimum) in milliseconds}.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if repeat:  # the first one is a warm-up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: (statistics.median(values), min(values)) for name, values in times.items()}


def save_and_load(neighbours: Neighbours) -> tuple[int, Neighbours]:
    """Return the size of the file in bytes, and the neighbours read from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "neighbours.npz"
        neighbours.save(path)
        return path.stat().st_size, load_neighbours(path)


def main() -> None:
    """Time all searches, compare their results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=15)
    flags = parser.parse_args()
    import sklearn
    from sklearn.neighbors import NearestNeighbors

    features, classes, queries = sample_features(flags.rows, flags.features, BATCH)
    bytes_on_disk, neighbours = save_and_load(build_neighbours(features, classes, 5))
    stored, squared_norms = neighbours._stored, neighbours._squared_norms
    scaled = (queries.astype(np.float64) - neighbours.mean) * neighbours.scale
    correct = float64_search(stored, scaled)
    ours_correct = int((neighbours.nearest(queries)[1] == correct).all(axis=1).sum())
    float32_correct = int((float32_search(stored, squared_norms, scaled) == correct).all(axis=1).sum())
    peer = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(stored)
    peer_queries = scaled.astype(np.float32)

    read = time_in_turn(ways_to_read(stored), flags.repeats)
    fastest = ways_to_read(stored)[min(read, key=lambda name: read[name])]
    functions = {
        "one query": lambda: neighbours.nearest(queries[:1]),
        "one query, scikit-learn": lambda: peer.kneighbors(peer_queries[:1]),
        f"batch of {BATCH}": lambda: neighbours.nearest(queries),
        f"batch of {BATCH}, scikit-learn": lambda: peer.kneighbors(peer_queries),
        "limit: read the neighbours": fastest,
    }
    ms = time_in_turn(functions, flags.repeats)
    ratios = [one / limit for one, limit in zip(ms["one query"], ms["limit: read the neighbours"], strict=True)]
    per_query = {name: [v / BATCH for v in ms[name]] for name in ms if name.startswith("batch")}
    cells = flags.rows * flags.features

    print(f"\n{flags.rows} x {flags.features}, the {K} nearest, ms: median and minimum of {flags.repeats}")
    for name, (median, minimum) in ms.items():
        a_query = f"   a query {per_query[name][0]:6.2f} {per_query[name][1]:6.2f}" if name in per_query else ""
        print(f"  {name:28s} {median:8.1f} {minimum:8.1f}{a_query}")
    print(f"  one query over reading the neighbours once: {ratios[0]:.2f} {ratios[1]:.2f} (limit 2)")
    print(f"  bytes a feature: {bytes_on_disk / cells:.3f} on disk, {neighbours.resident_bytes / cells:.3f} in memory")
    print(f"  the same {K} as in float64: {ours_correct} of {BATCH} queries (float32 alone: {float32_correct})")
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "rows": flags.rows, "features": flags.features, "k": K,
        "median_and_least": {
            "read_ms": {name: [round(v, 2) for v in both] for name, both in read.items()},
            "ms": {name: [round(v, 2) for v in both] for name, both in ms.items()},
            "ms_a_query": {name: [round(v, 3) for v in both] for name, both in per_query.items()},
            "one_query_over_limit": [round(v, 2) for v in ratios],
        },
        "bytes_a_feature": {
            "disk": round(bytes_on_disk / cells, 3), "memory": round(neighbours.resident_bytes / cells, 3),
        },
        "same_as_float64": {"ours": ours_correct, "float32": float32_correct, "queries": BATCH},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
