"""Is the retina renderer like real photographs, learnable, not trivially so, and fast?

Compares rendered photographs with IDRiD's 413 training photographs (in `data/idrid` of the folder that the environment
names in DR_TF_SHARED, default `../shared`), both brought to a circle of 512 pixels:

- medians of the mean and deviation of each RGB channel inside the circle, of the power spectrum's slope, of the vessel
  area and of the disc's diameter. Limit: within IDRiD's 5th to 95th percentile. Vessel area is the share of the circle
  where closing the flattened green channel with a 15-pixel disc raises it by more than 6 % of its surroundings; disc
  diameter is that of a circle with the area of the brightest blob above its half height. Both are crude, and the same
  for both sources.
- quadratic kappa (five folds by patient, grades 0-4 in equal shares) of logistic regressions on 3x32-bin histograms,
  mean brightness and file size (limit: at most 0.2 each), and on frozen EfficientNet-Lite0 features (at least 0.5).
- photographs of 512 pixels per second with two processes. Limit: at least 20. Others' work on the same cores lowers
  it, so the processor time per photograph is printed as well.
- AUROC on IDRiD (grade >= 2) of the same regression trained on rendered photographs alone. No limit: whatever it is.

Run: .venv/bin/python benchmarks/synthesis.py [--patients 240] [--side 481]. Some five minutes on two cores.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor

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
    *(f"{what} {channel}" for what in ("mean", "deviation") for channel in "RGB"),
    "spectrum slope", "vessel area", "disc diameter",
)  # fmt: skip


def find_circle(photo):
    """Centre and radius of a circle that is whole at the left and right, as IDRiD's are."""
    columns = np.flatnonzero((cv2.GaussianBlur(photo.max(2), (0, 0), 3) > 25).mean(0) > 0.02)
    return (columns[0] + columns[-1] + 1) / 2, photo.shape[0] / 2, (columns[-1] + 1 - columns[0]) / 2


def crop(photo, circle, side=SIDE):
    """The circle's bounding square at `side` pixels, black outside the photograph, and the mask of the retina in it."""
    cx, cy, r = circle
    scale = side / (2 * r)
    if scale < 0.8:
        photo = cv2.GaussianBlur(photo, (0, 0), 0.35 / scale)
    matrix = np.array(
        [[scale, 0, side / 2 - scale * cx - 0.5 + scale / 2], [0, scale, side / 2 - scale * cy - 0.5 + scale / 2]]
    )
    square = cv2.warpAffine(photo, matrix, (side, side))
    inside = cv2.warpAffine(np.full(photo.shape[:2], 255, np.uint8), matrix, (side, side)) > 250
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    return square, inside & (x * x + y * y < (0.47 * side) ** 2)


def _slope(green):
    """Slope of log power over log frequency, 4 to 64 cycles across the central 256 pixels."""
    window = np.hanning(256)
    middle = green[128:384, 128:384] - green[128:384, 128:384].mean()
    power = np.abs(np.fft.fftshift(np.fft.fft2(middle * window * window[:, None]))) ** 2
    y, x = np.mgrid[-128:128, -128:128]
    ring = np.hypot(x, y).astype(int)
    radial = np.bincount(ring.ravel(), power.ravel())[4:65] / np.bincount(ring.ravel())[4:65]
    return np.polyfit(np.log(np.arange(4, 65)), np.log(radial), 1)[0]


def _vessel_area(green, mask):
    filled = np.where(mask, green, np.median(green[mask])).astype(np.float32)
    flat = cv2.GaussianBlur(filled, (0, 0), 1) / (cv2.GaussianBlur(filled, (0, 0), 20) + 1)
    raised = cv2.morphologyEx(flat, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))) - flat
    inner = cv2.erode(mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    return float((raised[inner] > 0.06).mean())


def _disc_diameter(square, mask):
    """As a share of the circle's diameter; green alone, as red is often saturated."""
    green = cv2.GaussianBlur(np.where(mask, square[..., 1], 0).astype(np.float32), (0, 0), 6)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    level = green - cv2.GaussianBlur(
        np.where(mask, square[..., 1], np.median(square[..., 1][mask])).astype(np.float32), (0, 0), 60
    )
    level[~inner] = -255
    y, x = np.unravel_index(np.argmax(level), level.shape)
    _, parts = cv2.connectedComponents((level > 0.5 * level[y, x]).astype(np.uint8))
    return float(np.sqrt((parts == parts[y, x]).sum() * 4 / np.pi) / SIDE)


def measure(square, mask):
    """The nine STATISTICS of one cropped photograph."""
    values = square[mask].astype(float)
    green = square[..., 1].astype(float)
    return np.array(
        [*values.mean(0), *values.std(0), _slope(green), _vessel_area(green, mask), _disc_diameter(square, mask)]
    )


def network_input(square, mask, side):
    return cv2.resize(square * mask[..., None], (side, side), interpolation=cv2.INTER_AREA)


def real_photograph(job):
    path, side = job
    cv2.setNumThreads(1)
    photo = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4), cv2.COLOR_BGR2RGB)
    square, mask = crop(photo, find_circle(photo))
    return measure(square, mask), network_input(square, mask, side)


def rendered_patient(job):
    seed, side = job
    cv2.setNumThreads(1)
    rows = []
    for eye in render_patient(seed, grades=(seed % 5, seed % 5)).eyes:
        square, mask = crop(eye.image, eye.circle)
        histogram = np.concatenate([np.histogram(square[mask][:, c], 32, (0, 256))[0] for c in range(3)]) / mask.sum()
        plain = {"histograms": histogram, "mean brightness": [square[mask].mean()], "file size": [len(eye.encode())]}
        truth = (eye.disc[2] / eye.circle[2], eye.grade, seed)
        rows.append((measure(square, mask), network_input(square, mask, side), plain, truth))
    return rows


def _render(seed):
    cv2.setNumThreads(1)
    start = time.process_time()
    return len(render_patient(seed).eyes), time.process_time() - start


def speed(pool, patients=60):
    """Photographs per second of wall clock, and processor seconds per photograph."""
    list(pool.map(_render, range(8)))
    start = time.perf_counter()
    photographs, seconds = np.sum(list(pool.map(_render, range(1000, 1000 + patients))), axis=0)
    return photographs / (time.perf_counter() - start), seconds / photographs


def idrid_training():
    table = IDRID / "2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv"
    rows = [row for row in csv.reader(table.open()) if row and row[0].startswith("IDRiD")]
    folder = IDRID / "1. Original Images/a. Training Set"
    return [folder / f"{row[0]}.jpg" for row in rows], np.array([int(row[1]) for row in rows])


def network_features(images):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import keras_hub

    backbone = keras_hub.models.Backbone.from_preset(str(PRESET))
    pooled = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D()])
    return pooled.predict((np.asarray(images, np.float32) - 127) / 128, batch_size=16, verbose=0)


def regression(strength=1.0):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def kappa(features, grades, patients, strength=1.0):
    from sklearn.metrics import cohen_kappa_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(5, shuffle=True, random_state=0)
    guess = cross_val_predict(regression(strength), features, grades, groups=patients, cv=folds)
    return float(cohen_kappa_score(grades, guess, weights="quadratic"))


def table(real, rendered):
    """Prints the comparison; returns the medians and whether each lies within the limits."""
    print(f"{'':16}{'IDRiD 5 %':>12}{'50 %':>10}{'95 %':>10}{'rendered':>12}")
    low, middle, high = np.percentile(real, [5, 50, 95], axis=0)
    medians = np.median(rendered, axis=0)
    for name, *row in zip(STATISTICS, low, middle, high, medians, strict=True):
        verdict = "pass" if row[0] <= row[3] <= row[2] else "FAIL"
        print(f"{name:16}{row[0]:12.3f}{row[1]:10.3f}{row[2]:10.3f}{row[3]:12.3f}  {verdict}")
    return {name: round(float(value), 4) for name, value in zip(STATISTICS, medians, strict=True)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=240)
    parser.add_argument("--side", type=int, default=481, help="side of the network's input: 257 or 481")
    options = parser.parse_args()
    paths, real_grades = idrid_training()
    with ProcessPoolExecutor(2) as pool:
        rate, cost = speed(pool)
        rendered = [
            row
            for rows in pool.map(rendered_patient, [(s, options.side) for s in range(options.patients)])
            for row in rows
        ]
        real = list(pool.map(real_photograph, [(path, options.side) for path in paths], chunksize=8))
    figures = {"medians": table(np.array([row[0] for row in real]), np.array([row[0] for row in rendered]))}
    known, grades, patients = (np.array(column) for column in zip(*(row[3] for row in rendered), strict=True))
    print(f"disc diameter as drawn: median {np.median(known):.3f}")
    features = {name: np.array([row[2][name] for row in rendered]) for name in rendered[0][2]}
    features["EfficientNet-Lite0"] = network_features([row[1] for row in rendered])
    real_features = network_features([row[1] for row in real])
    figures["kappa"] = {}
    for name, values in features.items():
        strength = 0.01 if name == "EfficientNet-Lite0" else 1.0
        result = figures["kappa"][name] = round(kappa(values, grades, patients, strength), 3)
        passed = result >= 0.5 if name == "EfficientNet-Lite0" else result <= 0.2
        print(f"kappa, {name}: {result:.3f}  {'pass' if passed else 'FAIL'}")
    from sklearn.metrics import roc_auc_score

    model = regression(0.01).fit(features["EfficientNet-Lite0"], grades >= 2)
    score = model.predict_proba(real_features)[:, 1]
    figures["auroc_idrid"] = round(float(roc_auc_score(real_grades >= 2, score)), 3)
    print(f"AUROC on IDRiD, trained on rendered photographs alone: {figures['auroc_idrid']:.3f}")
    figures |= {"photographs_per_second": round(rate, 1), "processor_ms_per_photograph": round(1000 * cost, 1)}
    print(f"photographs per second, two processes: {rate:.1f}  {'pass' if rate >= 20 else 'FAIL'}")
    print(f"processor milliseconds per photograph: {1000 * cost:.1f}")
    figures |= {
        "patients": options.patients,
        "grade_shares": "equal",
        "side": options.side,
        "machine": processor(),
    }
    figures |= {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cv2": cv2.__version__,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
