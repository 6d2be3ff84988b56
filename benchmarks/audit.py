"""Does the leak audit find copies and nothing else, and what does it cost?

1. Recall: photographs that no threshold was chosen on (IDRiD's test split, ODIR's patients of odd numbers) are rescaled,
   recompressed, cut, brightened, mirrored and turned, cropped as a build crops them, and looked for among all
   untouched ones. The demand is 99 % for each transform. A changed photograph in which the builder recognizes no retina
   any more never gets into records; it is counted beside.
2. False pairs: what the audit reports among all photographs of both sets, but the copies and second photographs that
   were looked at and found right (VIEWED), per million pairs.
3. Cost: milliseconds a photograph for its signature, and the whole audit of 100,000 photographs, each a blend of two real
   ones in random variants (so that borders, discs and vessels are as in nature), with 500 copies among them. Each half
   is bent a little, as blends that share a half would be two photographs of one eye.

Reads $DR_TF_SHARED/data (default ../shared).   python benchmarks/audit.py [--photographs 2000] [--many 100000]
"""

import argparse
import concurrent.futures
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
VIEWED = {  # each was looked at, side by side and one laid on the other
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


def _encode(image, quality=92):
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _scale(factor):
    return lambda image: _encode(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def _cut(left, top, right, bottom):
    def cut(image):
        height, width = image.shape[:2]
        rows = slice(round(top * height), height - round(bottom * height))
        return _encode(image[rows, round(left * width) : width - round(right * width)])

    return cut


def _brighten(factor):
    return lambda image: _encode(cv2.convertScaleAbs(image, alpha=factor))


TRANSFORMS = {
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


def files():
    """(all photographs, those that no threshold was chosen on)."""
    idrid = sorted((DATA / "idrid").glob("*/1*/*/*.jpg"))
    odir = sorted((DATA / "odir" / "preprocessed_images").glob("*.jpg"))
    held_out = [p for p in idrid if "Testing" in str(p)] + [p for p in odir if int(p.name.split("_")[0]) % 2]
    return idrid + odir, held_out


def traced(path, name=""):
    """The ImageSignature of a photograph, changed by the transform of that name; None where no retina is found."""
    cv2.setNumThreads(1)
    data = pathlib.Path(path).read_bytes()
    if name:
        data = TRANSFORMS[name](cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    try:
        found = prepare(data, size=SIZE)
    except BadImageError:
        return None
    return compute_signature(found.image, found.geometry, hashlib.sha256(data).hexdigest())


def recall(originals, chosen, names, pool, folder):
    """{transform: (found, looked for, without a retina)}."""
    result = {}
    for name in names:
        changed = list(pool.map(traced, chosen, [name] * len(chosen)))
        with SignatureIndex(folder / "views") as index:
            for path, found in originals.items():
                index.add(str(path), found, set_name="original")
            for path, found in zip(chosen, changed, strict=True):
                if found is not None:
                    index.add(f"{path} changed", found, set_name="changed")
            pairs = index.find_pairs(workers=2, across_sets=True)
        copies = {(p.a, p.b) for p in pairs if p.kind == "copy"}
        there = [str(p) for p, found in zip(chosen, changed, strict=True) if found is not None and p in originals]
        result[name] = sum((p, f"{p} changed") in copies for p in there), len(there), len(chosen) - len(there)
        low, high = wilson(*result[name][:2])
        print(f"  {name:22s} {result[name][0]:4d} of {len(there):4d}  {result[name][0] / len(there):7.2%}  "
              f"({low:.2%}-{high:.2%})", flush=True)  # fmt: skip
    return result


def wilson(found, n, z=1.96):
    """The 95 % interval of a proportion."""
    middle, half = found + z * z / 2, z * math.sqrt(found * (n - found) / n + z * z / 4)
    return (middle - half) / (n + z * z), (middle + half) / (n + z * z)


def reported(everything, folder):
    """(name, name, kind) of all pairs in both sets together."""
    with SignatureIndex(folder / "views") as index:
        for path, found in everything.items():
            index.add(path.stem, found)
        return [(p.a, p.b, p.kind) for p in index.find_pairs(workers=2)]


def blends(views, count, seed=0):
    """`count` views, each half one retina and half another, in random variants, bent."""
    rng = np.random.default_rng(seed)
    variants, maps = list(ORIENTATIONS), _bends(rng)
    for _ in range(count):
        a, b = (reorient_view(views[rng.integers(len(views))], variants[rng.integers(8)]) for _ in range(2))
        a, b = (cv2.remap(view, *maps[rng.integers(len(maps))], cv2.INTER_LINEAR) for view in (a, b))
        yield np.where((a > 0) & (b > 0), cv2.addWeighted(a, 0.5, b, 0.5, 0), cv2.max(a, b))


def _bends(rng, count=200, pixels=1.5, smooth=14):
    """Maps that move each pixel of a view by about so many pixels, and neighbours alike."""
    noise = rng.normal(size=(count, 2, VIEW_SIDE, VIEW_SIDE)).astype(np.float32)
    fields = [[cv2.GaussianBlur(field, (0, 0), smooth) for field in pair] for pair in noise]
    rows, columns = np.mgrid[:VIEW_SIDE, :VIEW_SIDE].astype(np.float32)
    return [(columns + x * (pixels / x.std()), rows + y * (pixels / y.std())) for x, y in fields]


def many(views, count, folder, copies=500):
    """Seconds of retrieval and in all, candidates, and how many of the copies were found."""
    seconds = {}
    candidates = copy_search.find_candidates

    def timed(*args, **kwargs):
        start = time.perf_counter()
        result = candidates(*args, **kwargs)
        seconds["retrieval"], seconds["candidates"] = time.perf_counter() - start, len(result)
        return result

    copy_search.find_candidates = timed
    with SignatureIndex(folder / "views") as index:
        for i, view in enumerate(blends(views, count)):
            index.add(i, ImageSignature(str(i), view[None], compute_descriptor(view)[None].astype(np.float16)))
            if i < copies:
                changed = reorient_view(cv2.convertScaleAbs(cv2.GaussianBlur(view, (0, 0), 0.8), alpha=0.8), (1, 1, 0))
                changed[reorient_view(view, (1, 1, 0)) == 0] = 0
                index.add(
                    -1 - i, ImageSignature(f"-{i}", changed[None], compute_descriptor(changed)[None].astype(np.float16))
                )
        start, busy = time.perf_counter(), cpu_seconds()
        pairs = index.find_pairs(workers=2)
        seconds["all"] = time.perf_counter() - start
        for worker in multiprocessing.active_children():
            worker.join(2)  # until then, its seconds do not count
        seconds["cpu"] = cpu_seconds() - busy
    copy_search.find_candidates = candidates
    found = {(p.a, p.b) for p in pairs if p.kind == "copy"}
    return {**seconds, "copies_found": sum((i, -1 - i) in found for i in range(copies)), "copies": copies}


def cpu_seconds():
    """Of this process and of those that it has waited for: on a busy machine they say more than the clock."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def trace_milliseconds(path):
    cv2.setNumThreads(1)
    found = prepare(path.read_bytes(), size=512)
    start = time.process_time()
    for _ in range(100):
        compute_signature(found.image, found.geometry, "")
    return (time.process_time() - start) * 10


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--photographs", type=int, default=2000, help="that are changed in each way")
    flags.add_argument(
        "--only", nargs="+", choices=list(TRANSFORMS), default=list(TRANSFORMS), help="of the transforms"
    )
    flags.add_argument("--many", type=int, default=100_000)
    flags = flags.parse_args()
    every, held_out = files()
    if not every:
        sys.exit(f"no photographs: looked below {DATA}")
    with concurrent.futures.ProcessPoolExecutor(2) as pool, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        everything = dict(zip(every, pool.map(traced, every, chunksize=8), strict=True))
        everything = {path: found for path, found in everything.items() if found is not None}
        originals = {path: everything[path] for path in held_out if path in everything}
        chosen = held_out[:: max(1, len(held_out) // flags.photographs)]
        print(f"recall on {len(chosen)} photographs among {len(originals)} that no threshold was chosen on")
        recalls = recall(originals, chosen, flags.only, pool, folder)
        pairs = reported(everything, folder)
        strange = [p for p in pairs if p[:2] not in VIEWED[p[2]]]
        compared = len(everything) * (len(everything) - 1) / 2e6
        print(f"\n{len(pairs)} pairs reported among {len(everything)} photographs ({compared:.2f} million pairs)")
        print(f"  of them {len(strange)} were not viewed and judged right: {strange}")
        big = many(
            np.concatenate([found.views[:1] for found in everything.values()]), flags.many, folder, min(500, flags.many)
        )
    milliseconds = trace_milliseconds(every[0])
    peak = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"\n{flags.many} photographs: retrieval {big['retrieval']:.0f} s, {big['candidates']} candidates, in all "
          f"{big['all']:.0f} s ({big['cpu']:.0f} s of processors); {big['copies_found']} of {big['copies']} copies found; "
          f"peak memory {peak[0]:.0f} MiB (largest worker {peak[1]:.0f} MiB)")  # fmt: skip
    print(f"trace: {milliseconds:.2f} ms a photograph (512 pixels, one thread)")
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version(), "opencv": cv2.__version__, "numpy": np.__version__},
        "recall": {name: round(found / there, 4) for name, (found, there, _) in recalls.items()},
        "looked_for": {name: there for name, (_, there, _) in recalls.items()},
        "no_retina_any_more": {name: gone for name, (_, _, gone) in recalls.items() if gone},
        "reported": len(pairs), "false": len(strange), "false_per_million_pairs": round(len(strange) / compared, 3),
        "many": {"photographs": flags.many, **{k: round(v, 1) for k, v in big.items()}},
        "trace_ms": round(milliseconds, 2), "peak_mib": [round(v) for v in peak],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
