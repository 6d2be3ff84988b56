"""How fast are the ten nearest of 100,000 training photographs found, and are they the right ones?

Compared with a float64 search over the same stored features (what must be found), with the same in float32 with no
re-ranking, and with scikit-learn's brute force. The limit for one query is reading the resident neighbours once, measured as
the fastest of three ways to read it; a single query may take twice that. In batches of 32 a query may take 5 ms.

  python benchmarks/neighbours.py [--rows 100000] [--features 512] [--repeats 15]
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

from machine import processor

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from dr_tf.inference.nearest_neighbours import K, build_neighbours, load_neighbours  # noqa: E402

BATCH = 32


def drawn(rows, features, queries, seed=0):
    """Features like a network's: rectified, about many centres, of uneven spread; queries are near some of them."""
    rng = np.random.default_rng(seed)
    centres = rng.gamma(1.0, 1.0, (64, features)).astype(np.float32)
    spread = rng.gamma(2.0, 0.2, features).astype(np.float32)

    def some(n):
        noise = rng.standard_normal((n, features), dtype=np.float32) * spread
        return np.maximum(centres[rng.integers(0, len(centres), n)] + noise, 0)

    return some(rows), rng.integers(0, 5, rows), some(queries)


def readings(stored):
    flat = stored.reshape(-1)
    ones = np.ones(stored.shape[1], np.float32)
    words = flat.view(np.uint64)
    return {
        "sum": lambda: flat.sum(),
        "or": lambda: np.bitwise_or.reduce(words),
        "times a vector": lambda: stored @ ones,
    }


def float64_search(stored, queries):
    rows = []
    for query in queries:
        squared = np.concatenate([((part - query) ** 2).sum(axis=1) for part in np.array_split(stored, 16)])
        rows.append(np.argsort(squared, kind="stable")[:K])
    return np.array(rows)


def float32_search(stored, squares, queries):
    rough = squares - 2 * (queries.astype(np.float32) @ stored.T)
    return np.argsort(rough, axis=1, kind="stable")[:, :K]


def in_turn(ways, repeats):
    """{way: (median, least)} in milliseconds, taken in turn so that a drifting machine is fair to all."""
    took = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if repeat:  # the first warms up
                took[name].append(1e3 * (time.perf_counter() - start))
    return {name: (statistics.median(values), min(values)) for name, values in took.items()}


def stored_and_loaded(neighbours):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "neighbours.npz"
        neighbours.save(path)
        return path.stat().st_size, load_neighbours(path)


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--rows", type=int, default=100_000)
    flags.add_argument("--features", type=int, default=512)
    flags.add_argument("--repeats", type=int, default=15)
    flags = flags.parse_args()
    import sklearn
    from sklearn.neighbors import NearestNeighbors

    features, classes, queries = drawn(flags.rows, flags.features, BATCH)
    on_disk, neighbours = stored_and_loaded(build_neighbours(features, classes, 5))
    stored, squares = neighbours._stored, neighbours._squares
    inside = (queries.astype(np.float64) - neighbours.mean) * neighbours.scale
    right = float64_search(stored, inside)
    same = int((neighbours.nearest(queries)[1] == right).all(axis=1).sum())
    plain = int((float32_search(stored, squares, inside) == right).all(axis=1).sum())
    peer = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(stored)
    few = inside.astype(np.float32)

    read = in_turn(readings(stored), flags.repeats)
    fastest = readings(stored)[min(read, key=read.get)]
    ways = {
        "one query": lambda: neighbours.nearest(queries[:1]),
        "one query, scikit-learn": lambda: peer.kneighbors(few[:1]),
        f"batch of {BATCH}": lambda: neighbours.nearest(queries),
        f"batch of {BATCH}, scikit-learn": lambda: peer.kneighbors(few),
        "limit: read the neighbours": fastest,
    }
    ms = in_turn(ways, flags.repeats)
    over = [one / limit for one, limit in zip(ms["one query"], ms["limit: read the neighbours"], strict=True)]
    each = {name: [v / BATCH for v in ms[name]] for name in ms if name.startswith("batch")}
    cells = flags.rows * flags.features

    print(f"\n{flags.rows} x {flags.features}, the {K} nearest, ms: median and least of {flags.repeats}")
    for name, (median, least) in ms.items():
        of_one = f"   a query {each[name][0]:6.2f} {each[name][1]:6.2f}" if name in each else ""
        print(f"  {name:28s} {median:8.1f} {least:8.1f}{of_one}")
    print(f"  one query over reading the neighbours once: {over[0]:.2f} {over[1]:.2f} (limit 2)")
    print(f"  bytes a feature: {on_disk / cells:.3f} on disk, {neighbours.resident_bytes / cells:.3f} in memory")
    print(f"  the same {K} as in float64: {same} of {BATCH} queries (float32 alone: {plain})")
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "rows": flags.rows, "features": flags.features, "k": K,
        "median_and_least": {
            "read_ms": {name: [round(v, 2) for v in both] for name, both in read.items()},
            "ms": {name: [round(v, 2) for v in both] for name, both in ms.items()},
            "ms_a_query": {name: [round(v, 3) for v in both] for name, both in each.items()},
            "one_query_over_limit": [round(v, 2) for v in over],
        },
        "bytes_a_feature": {"disk": round(on_disk / cells, 3), "memory": round(neighbours.resident_bytes / cells, 3)},
        "same_as_float64": {"ours": same, "float32": plain, "queries": BATCH},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
