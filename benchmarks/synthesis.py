"""Measure whether synthetic fundus photographs are like real ones, learnable, not trivially so, and fast to render.

Rendered photographs are compared with IDRiD's 413 training photographs (in `data/idrid` of the folder that the
environment variable DR_TF_SHARED names, default `../shared`). Both are scaled to a circle of 512 pixels.

- Image statistics: the mean and standard deviation of each RGB channel inside the circle, the slope of the power
  spectrum, the vessel area and the diameter of the optic disc. Limit: the medians lie within IDRiD's 5th to 95th
  percentile. Vessel area is the share of the circle where closing the flattened green channel with a 15-pixel disc
  raises it by more than 6 % of its surroundings. Disc diameter is that of a circle with the area of the brightest blob
  above half its height. Both are crude, and the same for both sources.
- Quadratic kappa (five folds by patient, grades 0-4 in equal shares) of logistic regressions. On 3x32-bin histograms,
  mean brightness and file size, the limit is at most 0.2 each; on frozen EfficientNet-Lite0 features, at least 0.5.
- Photographs of 512 pixels per second with two processes. Limit: at least 20. Other processes on the same cores lower
  it, so the processor time per photograph is printed as well.
- AUROC on IDRiD (grade >= 2) of the same regression, trained on rendered photographs alone. It has no limit.

Run: .venv/bin/python benchmarks/synthesis.py [--patients 240] [--side 481]. It takes about five minutes on two cores.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cv2
import numpy as np
from machine import processor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from dr_tf.fundus.synthesis import render_patient

SIDE = 512
SHARED = pathlib.Path(os.environ.get("DR_TF_SHARED", pathlib.Path(__file__).resolve().parents[2] / "shared"))
IDRID = SHARED / "data/idrid/B. Disease Grading"
PRESET = SHARED / "presets/efficientnet_lite0_imagenet"
STATISTICS = (
    *(f"{statistic} {channel}" for statistic in ("mean", "deviation") for channel in "RGB"),
    "spectrum slope", "vessel area", "disc diameter",
)  # fmt: skip


def find_circle(image: np.ndarray) -> tuple[float, float, float]:
    """Return centre and radius of a circle that is whole at the left and right, as IDRiD's are."""
    columns = np.flatnonzero((cv2.GaussianBlur(image.max(2), (0, 0), 3) > 25).mean(0) > 0.02)
    return (columns[0] + columns[-1] + 1) / 2, image.shape[0] / 2, (columns[-1] + 1 - columns[0]) / 2


def crop(image: np.ndarray, circle: tuple[float, float, float], side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Return the circle's bounding square at `side` pixels, black outside the image, and the retina's mask in it."""
    cx, cy, r = circle
    scale = side / (2 * r)
    if scale < 0.8:
        image = cv2.GaussianBlur(image, (0, 0), 0.35 / scale)
    matrix = np.array(
        [[scale, 0, side / 2 - scale * cx - 0.5 + scale / 2], [0, scale, side / 2 - scale * cy - 0.5 + scale / 2]]
    )
    square = cv2.warpAffine(image, matrix, (side, side))
    inside = cv2.warpAffine(np.full(image.shape[:2], 255, np.uint8), matrix, (side, side)) > 250
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    return square, inside & (x * x + y * y < (0.47 * side) ** 2)


def _spectrum_slope(green: np.ndarray) -> float:
    """Return the slope of log power over log frequency, 4 to 64 cycles across the central 256 pixels."""
    window = np.hanning(256)
    middle = green[128:384, 128:384] - green[128:384, 128:384].mean()
    power = np.abs(np.fft.fftshift(np.fft.fft2(middle * window * window[:, None]))) ** 2
    y, x = np.mgrid[-128:128, -128:128]
    ring = np.hypot(x, y).astype(int)
    radial = np.bincount(ring.ravel(), power.ravel())[4:65] / np.bincount(ring.ravel())[4:65]
    return np.polyfit(np.log(np.arange(4, 65)), np.log(radial), 1)[0]


def _vessel_area(green: np.ndarray, mask: np.ndarray) -> float:
    filled = np.where(mask, green, np.median(green[mask])).astype(np.float32)
    flat: Any = cv2.GaussianBlur(filled, (0, 0), 1) / (cv2.GaussianBlur(filled, (0, 0), 20) + 1)
    raised = cv2.morphologyEx(flat, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))) - flat
    inner = cv2.erode(mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    return float((raised[inner] > 0.06).mean())


def _disc_diameter(square: np.ndarray, mask: np.ndarray) -> float:
    """Return the diameter as a share of the circle's, measured in green alone, as red is often saturated."""
    green = cv2.GaussianBlur(np.where(mask, square[..., 1], 0).astype(np.float32), (0, 0), 6)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    level = green - cv2.GaussianBlur(
        np.where(mask, square[..., 1], np.median(square[..., 1][mask])).astype(np.float32), (0, 0), 60
    )
    level[~inner] = -255
    y, x = np.unravel_index(np.argmax(level), level.shape)
    _, labels = cv2.connectedComponents((level > 0.5 * level[y, x]).astype(np.uint8))
    return float(np.sqrt((labels == labels[y, x]).sum() * 4 / np.pi) / SIDE)


def measure(square: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the nine STATISTICS of one cropped photograph."""
    values = square[mask].astype(float)
    green = square[..., 1].astype(float)
    statistics = (_spectrum_slope(green), _vessel_area(green, mask), _disc_diameter(square, mask))
    return np.array([*values.mean(0), *values.std(0), *statistics])


def network_input(square: np.ndarray, mask: np.ndarray, side: int) -> np.ndarray:
    """Return the crop, black beyond the retina, at the size of the network's input."""
    return cv2.resize(square * mask[..., None], (side, side), interpolation=cv2.INTER_AREA)


def measure_real_photograph(job: tuple[pathlib.Path, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return (statistics, network input) of a photograph of IDRiD; `job` is (path, side of the network's input)."""
    path, side = job
    cv2.setNumThreads(1)
    image = cv2.cvtColor(np.asarray(cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4)), cv2.COLOR_BGR2RGB)
    square, mask = crop(image, find_circle(image))
    return measure(square, mask), network_input(square, mask, side)


def measure_rendered_patient(job: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray, dict[str, Any], tuple]]:
    """Return (statistics, network input, simple features, truth) of both eyes; `job` is (seed, side of the input)."""
    seed, side = job
    cv2.setNumThreads(1)
    rows = []
    for eye in render_patient(seed, grades=(seed % 5, seed % 5)).eyes:
        square, mask = crop(eye.image, eye.circle)
        histogram = np.concatenate([np.histogram(square[mask][:, c], 32, (0, 256))[0] for c in range(3)]) / mask.sum()
        simple = {"histograms": histogram, "mean brightness": [square[mask].mean()], "file size": [len(eye.encode())]}
        truth = (eye.disc[2] / eye.circle[2], eye.grade, seed)
        rows.append((measure(square, mask), network_input(square, mask, side), simple, truth))
    return rows


def _time_patient(seed: int) -> tuple[int, float]:
    cv2.setNumThreads(1)
    start = time.process_time()
    return len(render_patient(seed).eyes), time.process_time() - start


def rendering_speed(pool: ProcessPoolExecutor, patients: int = 60) -> tuple[float, float]:
    """Return (photographs per second of wall clock, processor seconds per photograph)."""
    list(pool.map(_time_patient, range(8)))
    start = time.perf_counter()
    photographs, seconds = np.sum(list(pool.map(_time_patient, range(1000, 1000 + patients))), axis=0)
    return photographs / (time.perf_counter() - start), seconds / photographs


def idrid_training() -> tuple[list[pathlib.Path], np.ndarray]:
    """Return the paths and grades of IDRiD's training photographs."""
    table = IDRID / "2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"
    rows = [row for row in csv.reader(table.open()) if row and row[0].startswith("IDRiD")]
    folder = IDRID / "1. Original Images/a. Training Set"
    return [folder / f"{row[0]}.jpg" for row in rows], np.array([int(row[1]) for row in rows])


def network_features(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the pooled EfficientNet-Lite0 features of images."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import keras_hub

    backbone = keras_hub.models.Backbone.from_preset(str(PRESET))
    pooled = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D()])
    return pooled.predict((np.asarray(images, np.float32) - 127) / 128, batch_size=16, verbose=0)


def regression(inverse_regularization: float = 1.0) -> Any:
    """Return a logistic regression on standardized features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=inverse_regularization, max_iter=2000))


def kappa(features: np.ndarray, grades: np.ndarray, patients: np.ndarray, inverse_regularization: float = 1.0) -> float:
    """Return the cross-validated quadratic kappa of a logistic regression."""
    from sklearn.metrics import cohen_kappa_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(regression(inverse_regularization), features, grades, groups=patients, cv=folds)
    return float(cohen_kappa_score(grades, predicted, weights="quadratic"))


def compare_statistics(real: np.ndarray, rendered: np.ndarray) -> dict[str, float]:
    """Print the statistics of both sources, and whether each is within the limit; return the rendered medians."""
    print(f"{'':16}{'IDRiD 5 %':>12}{'50 %':>10}{'95 %':>10}{'rendered':>12}")
    low, middle, high = np.percentile(real, [5, 50, 95], axis=0)
    medians = np.median(rendered, axis=0)
    for name, *row in zip(STATISTICS, low, middle, high, medians, strict=True):
        verdict = "pass" if row[0] <= row[3] <= row[2] else "FAIL"
        print(f"{name:16}{row[0]:12.3f}{row[1]:10.3f}{row[2]:10.3f}{row[3]:12.3f}  {verdict}")
    return {name: round(float(value), 4) for name, value in zip(STATISTICS, medians, strict=True)}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=240, help="synthetic patients to render (default: 240)")
    parser.add_argument("--side", type=int, default=481, help="side of the network's input: 257 or 481 (default: 481)")
    options = parser.parse_args()
    paths, real_grades = idrid_training()
    with ProcessPoolExecutor(2) as pool:
        rate, cost = rendering_speed(pool)
        jobs = [(seed, options.side) for seed in range(options.patients)]
        rendered = [row for rows in pool.map(measure_rendered_patient, jobs) for row in rows]
        real = list(pool.map(measure_real_photograph, [(path, options.side) for path in paths], chunksize=8))
    results: dict[str, Any] = {
        "medians": compare_statistics(np.array([row[0] for row in real]), np.array([row[0] for row in rendered]))
    }
    disc_diameters, grades, patients = (np.array(column) for column in zip(*(row[3] for row in rendered), strict=True))
    print(f"disc diameter as drawn: median {np.median(disc_diameters):.3f}")
    features = {name: np.array([row[2][name] for row in rendered]) for name in rendered[0][2]}
    features["EfficientNet-Lite0"] = network_features([row[1] for row in rendered])
    real_features = network_features([row[1] for row in real])
    results["kappa"] = {}
    for name, values in features.items():
        inverse_regularization = 0.01 if name == "EfficientNet-Lite0" else 1.0
        result = results["kappa"][name] = round(kappa(values, grades, patients, inverse_regularization), 3)
        passed = result >= 0.5 if name == "EfficientNet-Lite0" else result <= 0.2
        print(f"kappa, {name}: {result:.3f}  {'pass' if passed else 'FAIL'}")
    from sklearn.metrics import roc_auc_score

    model = regression(0.01).fit(features["EfficientNet-Lite0"], grades >= 2)
    score = model.predict_proba(real_features)[:, 1]
    results["auroc_idrid"] = round(float(roc_auc_score(real_grades >= 2, score)), 3)
    print(f"AUROC on IDRiD, trained on rendered photographs alone: {results['auroc_idrid']:.3f}")
    results |= {"photographs_per_second": round(rate, 1), "processor_ms_per_photograph": round(1000 * cost, 1)}
    print(f"photographs per second, two processes: {rate:.1f}  {'pass' if rate >= 20 else 'FAIL'}")
    print(f"processor milliseconds per photograph: {1000 * cost:.1f}")
    results |= {
        "patients": options.patients,
        "grade_shares": "equal",
        "side": options.side,
        "machine": processor(),
    }
    results |= {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cv2": cv2.__version__,
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
