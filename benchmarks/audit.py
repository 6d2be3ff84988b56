"""Measure how many copies the leak audit finds, how many false pairs it reports, and how long it takes.

1. Recall: photographs on which no threshold was chosen (IDRiD's test split, ODIR's patients of odd numbers) are
   rescaled, recompressed, cut, brightened, mirrored and rotated, cropped as a build crops them, and searched for among
   all untouched ones. At least 99 % must be found for each transform. A changed photograph in which the builder finds
   no retina never gets into records; these are counted separately.
2. False pairs: the pairs that the audit reports among all photographs of both sets, without those that a person
   confirmed as copies or as images of the same eye (CONFIRMED_PAIRS), per million pairs.
3. Cost: milliseconds per photograph for its signature, and the time of the whole audit of 100,000 images with 500
   copies among them. Each image blends the views of two real photographs in random orientations, so that borders, discs
   and vessels are as in nature. Each half is slightly distorted, as two blends that share a half would otherwise be two
   images of one eye.

Reads $DR_TF_SHARED/data (default ../shared).   python benchmarks/audit.py [--photographs 2000] [--many 100000]
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import pathlib
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from machine import processor

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from dr_tf.fundus.header import BadImageError  # noqa: E402
from dr_tf.fundus.prepare import prepare  # noqa: E402
from tfrecords_builder import copy_search  # noqa: E402
from tfrecords_builder.copy_search import SignatureIndex  # noqa: E402
from tfrecords_builder.descriptors import (  # noqa: E402
    ORIENTATIONS,
    VIEW_SIDE,
    ImageSignature,
    compute_descriptor,
    compute_signature,
    reorient_view,
)

DATA = pathlib.Path(os.environ.get("DR_TF_SHARED", ROOT.parent / "shared")) / "data"
SIZE = 256
# Pairs that a person confirmed by comparing both images side by side and as an overlay.
CONFIRMED_PAIRS = {
    "exact": {
        ("IDRiD_021", "IDRiD_391"), ("IDRiD_028", "IDRiD_327"), ("IDRiD_045", "IDRiD_333"), ("IDRiD_073", "IDRiD_375"),
        ("IDRiD_079", "IDRiD_279"), ("IDRiD_118", "IDRiD_064"),
    },
    "copy": {("2487_left", "3185_left"), ("2487_right", "3185_right")},
    "same_eye": {
        ("IDRiD_013", "IDRiD_397"), ("249_right", "569_right"), ("282_left", "398_left"), ("282_right", "398_right"),
        ("4296_left", "4419_left"),
    },
}  # fmt: skip


Transform = Callable[[np.ndarray], bytes]


def _encode(image: np.ndarray, quality: int = 92) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _scale(factor: float) -> Transform:
    return lambda image: _encode(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def _cut(left: float, top: float, right: float, bottom: float) -> Transform:
    def cut(image: np.ndarray) -> bytes:
        height, width = image.shape[:2]
        rows = slice(round(top * height), height - round(bottom * height))
        return _encode(image[rows, round(left * width) : width - round(right * width)])

    return cut


def _brighten(factor: float) -> Transform:
    return lambda image: _encode(cv2.convertScaleAbs(image, alpha=factor))


TRANSFORMS: dict[str, Transform] = {
    "scale 0.25": _scale(0.25), "scale 0.5": _scale(0.5), "scale 0.75": _scale(0.75),
    "JPEG 30": lambda image: _encode(image, 30), "JPEG 60": lambda image: _encode(image, 60),
    "JPEG 95": lambda image: _encode(image, 95),
    "5 % cut on all sides": _cut(0.05, 0.05, 0.05, 0.05), "5 % cut left and top": _cut(0.05, 0.05, 0, 0),
    "5 % cut right": _cut(0, 0, 0.05, 0),
    "30 % darker": _brighten(0.7), "30 % brighter": _brighten(1.3),
    "mirror": lambda image: _encode(image[:, ::-1]), "upside-down mirror": lambda image: _encode(image[::-1]),
    "turn 90": lambda image: _encode(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)),
    "turn 180": lambda image: _encode(cv2.rotate(image, cv2.ROTATE_180)),
    "turn 270": lambda image: _encode(cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)),
}  # fmt: skip


def image_paths() -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Return (all photographs, those on which no threshold was chosen)."""
    idrid = sorted((DATA / "idrid").glob("*/1*/*/*.jpg"))
    odir = sorted((DATA / "odir" / "preprocessed_images").glob("*.jpg"))
    held_out = [p for p in idrid if "Testing" in str(p)] + [p for p in odir if int(p.name.split("_")[0]) % 2]
    return idrid + odir, held_out


def signature_of(path: pathlib.Path, transform: str = "") -> ImageSignature | None:
    """Return the signature of a photograph, first changed by a transform; None if no retina is found."""
    cv2.setNumThreads(1)
    data = path.read_bytes()
    if transform:
        data = TRANSFORMS[transform](np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)))
    try:
        crop = prepare(data, size=SIZE)
    except BadImageError:
        return None
    return compute_signature(crop.image, crop.geometry, hashlib.sha256(data).hexdigest())


def measure_recall(
    originals: Mapping[pathlib.Path, ImageSignature],
    chosen: Sequence[pathlib.Path],
    transforms: Iterable[str],
    pool: concurrent.futures.Executor,
    folder: pathlib.Path,
) -> dict[str, tuple[int, int, int]]:
    """Search for changed photographs among the originals and print the recall.

    Args:
        originals: signatures of the untouched photographs.
        chosen: the photographs that are changed.
        transforms: names in TRANSFORMS.
        pool: computes signatures.
        folder: for temporary files.

    Returns:
        {transform: (found, searched for, without a retina after the change)}.
    """
    counts = {}
    for transform in transforms:
        changed = list(pool.map(signature_of, chosen, [transform] * len(chosen)))
        with SignatureIndex(folder / "views") as index:
            for path, signature in originals.items():
                index.add(str(path), signature, set_name="original")
            for path, changed_signature in zip(chosen, changed, strict=True):
                if changed_signature is not None:
                    index.add(f"{path} changed", changed_signature, set_name="changed")
            pairs = index.find_pairs(workers=2, across_sets=True)
        copies = {(p.a, p.b) for p in pairs if p.kind == "copy"}
        searched = [
            str(path)
            for path, signature in zip(chosen, changed, strict=True)
            if signature is not None and path in originals
        ]
        found = sum((name, f"{name} changed") in copies for name in searched)
        counts[transform] = found, len(searched), len(chosen) - len(searched)
        low, high = wilson_interval(found, len(searched))
        print(f"  {transform:22s} {found:4d} of {len(searched):4d}  {found / len(searched):7.2%}  "
              f"({low:.2%}-{high:.2%})", flush=True)  # fmt: skip
    return counts


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion (Wilson)."""
    middle = successes + z * z / 2
    half_width = z * math.sqrt(successes * (n - successes) / n + z * z / 4)
    return (middle - half_width) / (n + z * z), (middle + half_width) / (n + z * z)


def reported_pairs(
    signatures: Mapping[pathlib.Path, ImageSignature], folder: pathlib.Path
) -> list[tuple[str, str, str]]:
    """Return (name, name, kind) of all pairs that the audit reports in both sets together."""
    with SignatureIndex(folder / "views") as index:
        for path, signature in signatures.items():
            index.add(path.stem, signature)
        return [(p.a, p.b, p.kind) for p in index.find_pairs(workers=2)]


def blended_views(views: np.ndarray, count: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield `count` views, each an average of two real ones in random orientations, slightly distorted."""
    rng = np.random.default_rng(seed)
    orientations, maps = list(ORIENTATIONS), _distortions(rng)
    for _ in range(count):
        a, b = (reorient_view(views[rng.integers(len(views))], orientations[rng.integers(8)]) for _ in range(2))
        a, b = (cv2.remap(view, *maps[rng.integers(len(maps))], cv2.INTER_LINEAR) for view in (a, b))
        yield np.where((a > 0) & (b > 0), cv2.addWeighted(a, 0.5, b, 0.5, 0), cv2.max(a, b))


def _distortions(
    rng: np.random.Generator, count: int = 200, pixels: float = 1.5, smoothness: float = 14
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return maps that shift each pixel of a view smoothly, with a standard deviation of `pixels`."""
    noise = rng.normal(size=(count, 2, VIEW_SIDE, VIEW_SIDE)).astype(np.float32)
    fields: list[Any] = [[cv2.GaussianBlur(field, (0, 0), smoothness) for field in pair] for pair in noise]
    rows, columns = np.mgrid[:VIEW_SIDE, :VIEW_SIDE].astype(np.float32)
    return [(columns + x * (pixels / x.std()), rows + y * (pixels / y.std())) for x, y in fields]


def audit_many(views: np.ndarray, count: int, folder: pathlib.Path, copies: int = 500) -> dict[str, float]:
    """Audit `count` blended images with `copies` copies among them.

    Returns:
        {"retrieval": seconds, "candidates": pairs, "all": seconds, "cpu": seconds, "copies_found", "copies"}.
    """
    results: dict[str, float] = {}
    with timed_retrieval(results), SignatureIndex(folder / "views") as index:
        for i, view in enumerate(blended_views(views, count)):
            index.add(i, ImageSignature(str(i), view[None], compute_descriptor(view)[None].astype(np.float16)))
            if i < copies:
                changed = reorient_view(cv2.convertScaleAbs(cv2.GaussianBlur(view, (0, 0), 0.8), alpha=0.8), (1, 1, 0))
                changed[reorient_view(view, (1, 1, 0)) == 0] = 0
                descriptor = compute_descriptor(changed)[None].astype(np.float16)
                index.add(-1 - i, ImageSignature(f"-{i}", changed[None], descriptor))
        start, cpu_start = time.perf_counter(), cpu_seconds()
        pairs = index.find_pairs(workers=2)
        results["all"] = time.perf_counter() - start
        for worker in multiprocessing.active_children():
            worker.join(2)  # its processor time counts only once it has ended
        results["cpu"] = cpu_seconds() - cpu_start
    found = {(p.a, p.b) for p in pairs if p.kind == "copy"}
    return {**results, "copies_found": sum((i, -1 - i) in found for i in range(copies)), "copies": copies}


@contextlib.contextmanager
def timed_retrieval(results: dict[str, float]) -> Iterator[None]:
    """Write the seconds that the search for candidates takes, and their number, to `results`."""
    find_candidates = copy_search.find_candidates

    def timed(*args: Any, **kwargs: Any) -> np.ndarray:
        start = time.perf_counter()
        candidates = find_candidates(*args, **kwargs)
        results["retrieval"], results["candidates"] = time.perf_counter() - start, len(candidates)
        return candidates

    with mock.patch.object(copy_search, "find_candidates", timed):
        yield


def cpu_seconds() -> float:
    """Return the processor time of this process and its ended children, which varies less than the clock."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def signature_milliseconds(path: pathlib.Path) -> float:
    """Return the processor time of computing a signature from a crop of 512 pixels."""
    cv2.setNumThreads(1)
    crop = prepare(path.read_bytes(), size=512)
    start = time.process_time()
    for _ in range(100):
        compute_signature(crop.image, crop.geometry, "")
    return (time.process_time() - start) * 10


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photographs", type=int, default=2000, help="photographs that each transform changes (default: 2000)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(TRANSFORMS), default=list(TRANSFORMS), help="transforms (default: all)"
    )
    parser.add_argument("--many", type=int, default=100_000, help="blended images of the large audit (default: 100000)")
    flags = parser.parse_args()
    paths, held_out = image_paths()
    if not paths:
        sys.exit(f"no photographs below {DATA}; set DR_TF_SHARED to the folder that contains data")
    with concurrent.futures.ProcessPoolExecutor(2) as pool, tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        computed = dict(zip(paths, pool.map(signature_of, paths, chunksize=8), strict=True))
        signatures = {path: signature for path, signature in computed.items() if signature is not None}
        originals = {path: signatures[path] for path in held_out if path in signatures}
        chosen = held_out[:: max(1, len(held_out) // flags.photographs)]
        print(f"recall on {len(chosen)} photographs among {len(originals)} on which no threshold was chosen")
        recalls = measure_recall(originals, chosen, flags.only, pool, folder)
        pairs = reported_pairs(signatures, folder)
        false_pairs = [p for p in pairs if p[:2] not in CONFIRMED_PAIRS[p[2]]]
        million_pairs = len(signatures) * (len(signatures) - 1) / 2e6
        print(f"\n{len(pairs)} pairs reported among {len(signatures)} photographs ({million_pairs:.2f} million pairs)")
        print(f"  {len(false_pairs)} of them are not confirmed: {false_pairs}")
        views = np.concatenate([signature.views[:1] for signature in signatures.values()])
        large = audit_many(views, flags.many, folder, min(500, flags.many))
    milliseconds = signature_milliseconds(paths[0])
    peak = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"\n{flags.many} images: retrieval {large['retrieval']:.0f} s, {large['candidates']} candidates, in all "
          f"{large['all']:.0f} s ({large['cpu']:.0f} s of processor time); "
          f"{large['copies_found']} of {large['copies']} copies found; "
          f"peak memory {peak[0]:.0f} MiB (largest worker {peak[1]:.0f} MiB)")  # fmt: skip
    print(f"signature: {milliseconds:.2f} ms per photograph (512 pixels, one thread)")
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version(), "opencv": cv2.__version__, "numpy": np.__version__},
        "recall": {name: round(found / searched, 4) for name, (found, searched, _) in recalls.items()},
        "looked_for": {name: searched for name, (_, searched, _) in recalls.items()},
        "no_retina_any_more": {name: lost for name, (_, _, lost) in recalls.items() if lost},
        "reported": len(pairs), "false": len(false_pairs),
        "false_per_million_pairs": round(len(false_pairs) / million_pairs, 3),
        "many": {"photographs": flags.many, **{k: round(v, 1) for k, v in large.items()}},
        "trace_ms": round(milliseconds, 2), "peak_mib": [round(v) for v in peak],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
