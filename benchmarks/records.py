"""Measure how fast photographs become crops, compared with plain TensorFlow, and what quality is lost.

The plain TensorFlow version decodes a photograph in full, crops it, pads it to a square, resizes it with
`tf.image.resize(antialias=True)` and encodes a JPEG. It is given the rectangle to crop, and so is "dr_tf, same work".
"dr_tf, all of it" also finds the border, checks that the image shows a retina, and measures gradability, as every
record needs. All read the same files from memory and encode at quality 95.

The limit is the time of reading the entropy-coded data once: that of decoding at 1/8 scale, given as the last row. All
use one core: one thread of OpenCV, one of TensorFlow. Then the whole record set is built with one worker and with two,
and peak memory is compared between builds of 104 and of 404 photographs.

Needs IDRiD's disease grading below $DR_TF_SHARED/data/idrid (default ../shared): JPEGs of 4288 x 2848.
  python benchmarks/records.py [--count 60] [--image_size 256]
"""

import argparse
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from machine import processor

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from dr_tf.fundus.decode import decode  # noqa: E402
from dr_tf.fundus.geometry import Geometry  # noqa: E402
from dr_tf.fundus.prepare import crop, encode_jpeg, prepare  # noqa: E402

SOURCE = pathlib.Path(os.environ.get("DR_TF_SHARED", ROOT.parent / "shared")) / "data" / "idrid"

Method = Callable[[bytes, Geometry], object]


def plain_tensorflow() -> Method:
    """Return the TensorFlow version: a function (file, geometry) -> JPEG bytes, traced once."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    @tf.function(
        input_signature=[
            tf.TensorSpec((), tf.string),
            tf.TensorSpec((4,), tf.int32),
            tf.TensorSpec((4,), tf.int32),
            tf.TensorSpec((), tf.int32),
        ]
    )
    def run(data, box, padding, size):
        image = tf.io.decode_jpeg(data, channels=3)
        image = image[box[1] : box[3], box[0] : box[2]]
        image = tf.pad(image, [[padding[1], padding[3]], [padding[0], padding[2]], [0, 0]])
        image = tf.image.resize(image, (size, size), antialias=True)
        return tf.io.encode_jpeg(tf.cast(tf.round(image), tf.uint8), quality=95)

    return lambda data, g: run(
        tf.constant(data), tf.constant(g.rectangle), tf.constant(g.padding), tf.constant(g.size)
    ).numpy()


def same_work(data: bytes, geometry: Geometry) -> bytes:
    """Do the work of the TensorFlow version: decode, crop, pad, resize and encode, with the rectangle given."""
    decoded = decode(data, side=math.ceil(geometry.size * 1.3))
    return encode_jpeg(crop(decoded.rgb, geometry, reduction=decoded.reduction))


def seconds_per_image(images: Sequence[tuple[bytes, Geometry]], methods: Mapping[str, Method]) -> dict[str, float]:
    """Return the median time of each method. They take turns, so that a drifting clock speed affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for data, geometry in images:
        for name, method in methods.items():
            start = time.perf_counter()
            method(data, geometry)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two images in dB."""
    return 10 * math.log10(255**2 / max(np.mean((one.astype(np.float64) - other) ** 2), 1e-9))


def loss_of_reduced_decoding(images: Sequence[tuple[bytes, Geometry]], size: int) -> list[float]:
    """Return the PSNR of our crops against crops of full decodes with the same geometry, before the JPEG."""
    return [psnr(prepare(data, size=size).image, crop(decode(data).rgb, geometry)) for data, geometry in images]


def time_build(source: pathlib.Path, size: int, workers: int) -> tuple[float, float, list[float]]:
    """Build a record set in a process of its own.

    Returns:
        (seconds of cropping, seconds in all, peak MiB of the builder and of its largest worker).
    """
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import resource, sys, time\n"
            "from tfrecords_builder import build\n"
            "from tfrecords_builder.__main__ import main\n"
            "crop_all = build._crop_all\n"
            "def timed(*a):\n"
            "    start = time.monotonic()\n"
            "    try: return crop_all(*a)\n"
            "    finally: print('cropping', time.monotonic() - start)\n"
            "build._crop_all = timed\n"
            "if __name__ == '__main__':\n"
            "    main(sys.argv[1:])\n"
            "    peak = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
            "    print('peak', *peak)\n"
        )
        script = pathlib.Path(folder) / "timed_build.py"
        script.write_text(code)
        flags = ["idrid", "--source", source, "--records", folder, "--image_size", size, "--workers", workers]
        start = time.monotonic()
        output = subprocess.run(
            [sys.executable, script, *map(str, flags)],
            check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        ).stdout  # fmt: skip
        total = time.monotonic() - start
    words = {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.startswith(("cropping", "peak"))}
    return float(words["cropping"][0]), total, [int(v) / 1024 for v in words["peak"]]


def link_subset(source: pathlib.Path, count: int, folder: str) -> pathlib.Path:
    """Create a source tree in `folder` with links to the first `count` training photographs and to 4 test ones."""
    root, subset = source / "B. Disease Grading", pathlib.Path(folder) / "B. Disease Grading"
    for split, n in (("a. Training Set", count), ("b. Testing Set", 4)):
        target = subset / "1. Original Images" / split
        target.mkdir(parents=True)
        for path in sorted((root / "1. Original Images" / split).glob("*.jpg"))[:n]:
            (target / path.name).symlink_to(path)
    tables = subset / "2. Groundtruths"
    tables.mkdir()
    for path, n in zip(sorted((root / "2. Groundtruths").glob("*.csv")), (count, 4), strict=True):
        (tables / path.name).write_text("\n".join(path.read_text().splitlines()[: n + 1]))
    return pathlib.Path(folder)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--count", type=int, default=60, help="photographs for the comparison on one core (default: 60)"
    )
    parser.add_argument("--image_size", type=int, default=256, help="pixels on a side of a crop (default: 256)")
    flags = parser.parse_args()
    if not SOURCE.is_dir():
        sys.exit(f"no photographs in {SOURCE}; set DR_TF_SHARED to the folder that contains data/idrid")
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {0})
    paths = sorted(SOURCE.glob("*/1*/a*/*.jpg"))
    paths = paths[:: max(1, len(paths) // flags.count)][: flags.count]
    size = flags.image_size
    images = [(data, prepare(data, size=size).geometry) for data in (path.read_bytes() for path in paths)]
    tensorflow_method = plain_tensorflow()
    methods: dict[str, Method] = {
        "plain TensorFlow": tensorflow_method,
        "dr_tf, same work": same_work,
        "dr_tf, all of it": lambda data, _: encode_jpeg(prepare(data, size=size).image),
        "limit: 1/8 decode": lambda data, _: decode(data, side=1),
    }
    tensorflow_method(*images[0])
    seconds = seconds_per_image(images, methods)
    quality = loss_of_reduced_decoding(images, size)
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))

    print(f"\n{len(images)} photographs of 4288 x 2848 -> {size} px, one core, median")
    base = seconds["plain TensorFlow"]
    for name, value in seconds.items():
        print(f"  {name:20s} {value * 1e3:7.1f} ms   {base / value:5.1f} x")
    print(f"  PSNR against a full decode: least {min(quality):.1f} dB, median {statistics.median(quality):.1f} dB")

    builds = {workers: [time_build(SOURCE, size, workers) for _ in range(2)] for workers in (1, 2)}
    best = {workers: min(results) for workers, results in builds.items()}
    print("\nbuild of all 516 photographs (best of 2)")
    for workers, (cropping, total, _) in best.items():
        print(f"  {workers} worker(s): cropping {cropping:5.1f} s, in all {total:5.1f} s")
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        few = time_build(link_subset(SOURCE, 100, a), size, 2)[2]
        many = time_build(link_subset(SOURCE, 400, b), size, 2)[2]
    print("\npeak memory, MiB (builder, largest worker)")
    print(f"  104 photographs {few[0]:6.0f} {few[1]:6.0f}\n  404 photographs {many[0]:6.0f} {many[1]:6.0f}")
    print(json.dumps({
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": {"python": platform.python_version(), "opencv": cv2.__version__, "tensorflow": tensorflow_version()},
        "image_size": size, "photographs": len(images),
        "ms": {name: round(value * 1e3, 2) for name, value in seconds.items()},
        "speed_up": {name: round(base / value, 2) for name, value in seconds.items()},
        "psnr_db": {"least": round(min(quality), 2), "median": round(statistics.median(quality), 2)},
        "build_seconds": {w: {"cropping": round(b[0], 2), "all": round(b[1], 2)} for w, b in best.items()},
        "two_workers": {"cropping": round(best[1][0] / best[2][0], 2), "all": round(best[1][1] / best[2][1], 2)},
        "peak_mib": {"104": [round(v) for v in few], "404": [round(v) for v in many]},
    }))  # fmt: skip


def tensorflow_version() -> str:
    """Return the version of TensorFlow."""
    import tensorflow as tf

    return tf.__version__


if __name__ == "__main__":
    main()
