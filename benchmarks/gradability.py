"""Measure how well `gradability` separates degraded from clean fundus photographs, and how long it takes.

Clean images are the 103 photographs of IDRiD's official test split as published (some are dark or hazy by themselves
and stay in), and synthetic ones. Degraded images are the same ones, degraded by each model of `DEGRADATIONS` at
several strengths. The AUROC is that of the score, degraded against clean. The limit is 0.95, pooled over all
degradations, on real and on synthetic images. The thresholds of the score were set on training photographs (`--split
train`), never on these.

Across cameras, eyes of ODIR whose keywords state a poor view are compared with normal ones. There is no limit, since
many cataracts leave a clear view.

    python benchmarks/gradability.py [--split test|train] [--every 1]      # DR_TF_SHARED: the folder of real data
"""

import argparse
import csv
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from machine import processor
from numpy.typing import ArrayLike

from dr_tf.fundus.enhance import Circle, field_mask, masked_blur
from dr_tf.fundus.gradability import GRADABLE, gradability
from dr_tf.fundus.synthesis import Eye

SHARED = pathlib.Path(os.environ.get("DR_TF_SHARED", pathlib.Path(__file__).resolve().parents[2] / "shared"))
IDRID = SHARED / "data/idrid/B. Disease Grading/1. Original Images"
ODIR = SHARED / "data/odir"
SIDE = 512
COLUMNS = ("auroc", "median", "low", "right_reason", "falls")
POOR_VIEW = ("cataract", "refractive media opacity", "low image quality")


def ramp(side: int, angle: float, centre: float, width: float) -> np.ndarray:
    """Return a sigmoid from 0 to 1 across the square along `angle`, 1/2 at `centre`; lengths are shares of the side."""
    position = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    along = position[None, :] * np.cos(angle) + position[:, None] * np.sin(angle)
    return 1 / (1 + np.exp(-np.clip((along - centre) / width, -60, 60)))


def fill_surround(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fill the surround with nearby retina before a blur: the lens blurs the retina, not the black frame behind it."""
    blurred = masked_blur(image, mask, image.shape[0] / 40)
    return cv2.copyTo(image, mask, np.clip(np.rint(blurred), 0, 255).astype(np.uint8))


def blur(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Blur with a Gaussian whose sigma is `share` of the side."""
    return cv2.GaussianBlur(fill_surround(image, mask), (0, 0), share * image.shape[0])


def motion_blur(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Blur along a line of `share` of the side, at any angle."""
    length, angle = share * image.shape[0], rng.uniform(0, np.pi)
    middle = int(np.ceil(length)) // 2
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1), np.float32)
    reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    (x0, y0), (x1, y1) = ((int(v) for v in np.rint(middle + sign * reach)) for sign in (-1, 1))
    cv2.line(kernel, (x0, y0), (x1, y1), (1.0,))
    return cv2.filter2D(fill_surround(image, mask), -1, kernel / kernel.sum())


def change_gain(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, gain: float) -> np.ndarray:
    """Multiply by `gain` and clip."""
    return cv2.LUT(image, np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8))


def change_gamma(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, gamma: float) -> np.ndarray:
    """Apply a gamma curve."""
    return cv2.LUT(image, np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8))


def add_haze(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Replace `share` of the light by a bright, slightly warm veil, brighter on one side."""
    veil = 150 + 70 * ramp(image.shape[0], rng.uniform(0, 2 * np.pi), 0, 0.25)[..., None]
    return np.rint((1 - share) * image + share * veil * np.array([1.0, 0.93, 0.82])).astype(np.uint8)


def darken_half(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, least: float) -> np.ndarray:
    """Let the light fall to `least` over one half of the field, at any angle, within about a quarter of its width."""
    light = least + (1 - least) * ramp(image.shape[0], rng.uniform(0, 2 * np.pi), 0, 0.06)
    return np.rint(image * light[..., None]).astype(np.uint8)


def cover_by_eyelid(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Darken the upper `share` of the height."""
    light = 0.03 + 0.97 * ramp(image.shape[0], np.pi / 2, share - 0.5, 0.015)
    return np.rint(image * light[..., None]).astype(np.uint8)


def cut_off(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Blacken `share` of the width from one side, at any angle."""
    keep = ramp(image.shape[0], rng.uniform(0, 2 * np.pi), share - 0.5, 1e-4) > 0.5
    return image * keep[..., None].astype(np.uint8)


# name: (model, strengths from clearly degraded up, their meaning, the beginnings of a right reason)
DEGRADATIONS = {
    "blur": (blur, (3 / 512, 4 / 512, 6 / 512, 10 / 512), "sigma / side", "out of focus"),
    "motion": (motion_blur, (16 / 512, 24 / 512, 36 / 512), "length / side", "out of focus"),
    "dark": (change_gain, (0.4, 0.3, 0.2, 0.1), "gain", "too dark"),
    "dark_gamma": (change_gamma, (2.5, 3.0, 4.0), "gamma", "too dark"),
    "bright": (change_gain, (2.5, 3.0, 4.0), "gain, clipped", "too bright, only"),
    "bright_gamma": (change_gamma, (0.4, 0.3, 0.2), "gamma", "too bright, hazy"),
    "haze": (add_haze, (0.5, 0.6, 0.7, 0.8), "veil", "hazy"),
    "uneven": (darken_half, (0.2, 0.1, 0.03), "light on the dark half", "too dark, only"),
    "eyelid": (cover_by_eyelid, (0.35, 0.5, 0.65), "share of the height", "only"),
    "cropped": (cut_off, (0.35, 0.5, 0.65), "share of the width", "only"),
}


def degrade(
    name: str, image: np.ndarray, strength: float, rng: np.random.Generator, circle: Circle | None = None
) -> np.ndarray:
    """Degrade the retina by one of `DEGRADATIONS`; the surround stays black."""
    mask = field_mask(image, circle)
    return cv2.copyTo(DEGRADATIONS[name][0](image, mask, rng, strength), mask)


def crop(path: pathlib.Path) -> np.ndarray:
    """Return the square around the lit pixels, which is enough for these photographs, all of one camera."""
    image = np.asarray(cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4))[..., ::-1]
    lit = cv2.morphologyEx((image.max(axis=2) > 25).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    spans = [np.flatnonzero(lit.sum(axis) > 20)[[0, -1]] + [0, 1] for axis in (1, 0)]
    image = image[slice(*spans[0]), slice(*spans[1])]
    pads = [(max(image.shape[:2]) - length) // 2 for length in image.shape[:2]]
    side = max(image.shape[:2])
    square = np.zeros((side, side, 3), np.uint8)
    square[pads[0] : pads[0] + image.shape[0], pads[1] : pads[1] + image.shape[1]] = image
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def auroc(clean: ArrayLike, degraded: ArrayLike) -> float:
    """Return the probability that a clean image scores above a degraded one; ties count one half."""
    clean, degraded = np.asarray(clean), np.sort(np.asarray(degraded))
    below, up_to = np.searchsorted(degraded, clean, "left"), np.searchsorted(degraded, clean, "right")
    return float((below + up_to).mean() / (2 * len(degraded)))


def measure(
    images: Sequence[np.ndarray], circles: Sequence[Circle | None]
) -> tuple[list[float], dict[str, dict[str, float]], float]:
    """Return (scores of the clean images, table rows by degradation, AUROC pooled over all degradations)."""
    clean = [gradability(image, circle).score for image, circle in zip(images, circles, strict=True)]
    rows, all_scores = {}, []
    for name, (_, strengths, _, right_reasons) in DEGRADATIONS.items():
        previous = np.array(clean)
        for strength in strengths:
            rng = np.random.default_rng(0)  # the same angles at each strength
            results = [
                gradability(degrade(name, image, strength, rng, circle), circle)
                for image, circle in zip(images, circles, strict=True)
            ]
            scores = np.array([result.score for result in results])
            all_scores.append(scores)
            starts = tuple(right_reasons.split(", "))
            is_right = [result.reason.startswith(starts) for result in results if result.reason]
            rows[f"{name} {strength:.3g}"] = {
                "auroc": auroc(clean, scores),
                "median": float(np.median(scores)),
                "low": float(np.mean(scores < GRADABLE)),
                "right_reason": float(np.mean(is_right)) if is_right else 1.0,
                "falls": float(np.mean(scores <= previous + 0.005)),
            }
            previous = scores
    return clean, rows, auroc(clean, np.concatenate(all_scores))


def report(title: str, images: Sequence[np.ndarray], circles: Sequence[Circle | None]) -> dict[str, Any]:
    """Measure a set of images, print its table, and return its metrics."""
    clean, rows, pooled = measure(images, circles)
    print(
        f"\n{title}: {len(images)} photographs; clean score 5 / 50 / 95 %:",
        np.round(np.percentile(clean, (5, 50, 95)), 2),
    )
    print(f"{'degradation':22}" + "".join(f"{column:>14}" for column in COLUMNS))
    for name, row in rows.items():
        print(f"{name:22}" + "".join(f"{row[column]:14.3f}" for column in COLUMNS))
    gradable = float(np.mean(np.array(clean) >= GRADABLE))
    print(f"pooled auroc {pooled:.4f}; clean at or above {GRADABLE}: {gradable:.3f}")
    return {"n": len(images), "pooled_auroc": pooled, "clean_gradable": gradable, "rows": rows}


def crop_synthetic(eye: Eye) -> tuple[np.ndarray, Circle]:
    """Return the square around the circle of a synthetic photograph, and the circle in it."""
    cx, cy, r = eye.circle
    pad, side = int(np.ceil(r)), int(np.ceil(2 * r))
    left, top = round(cx - r), round(cy - r)
    framed = cv2.copyMakeBorder(eye.image, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    cropped = np.ascontiguousarray(framed[top + pad : top + pad + side, left + pad : left + pad + side])
    circle = (cx - left, cy - top, r)
    return cv2.copyTo(cropped, field_mask(cropped, circle)), circle


def synthetic_crops(count: int) -> Iterator[tuple[np.ndarray, Circle]]:
    """Yield crops of synthetic photographs and their circles."""
    from dr_tf.fundus.synthesis import render_patient

    eyes = [eye for seed in range((count + 1) // 2) for eye in render_patient(seed).eyes][:count]
    return map(crop_synthetic, eyes)


def odir_scores() -> dict[str, list[float]]:
    """Return {"normal" or a keyword: the scores of the eyes with it}."""
    scores: dict[str, list[float]] = {}
    with open(ODIR / "full_df.csv", newline="") as table:
        for row in csv.DictReader(table):
            side = "Left" if "left" in row["filename"] else "Right"
            words = row[f"{side}-Diagnostic Keywords"]
            kind = next((word for word in POOR_VIEW if word in words), "normal" if words == "normal fundus" else None)
            image = cv2.imread(str(ODIR / "preprocessed_images" / row["filename"])) if kind else None
            if kind and image is not None:
                scores.setdefault(kind, []).append(gradability(np.ascontiguousarray(image[..., ::-1])).score)
    return scores


def cross_camera() -> dict[str, dict[str, float]]:
    """Compare eyes of ODIR with a poor view to normal ones, print the result and return it."""
    scores = odir_scores()
    normal = scores.pop("normal")
    low = float(np.mean(np.array(normal) < GRADABLE))
    print(f"\nODIR: {len(normal)} normal eyes, median {np.median(normal):.2f}, below {GRADABLE}: {low:.2f}")
    metrics: dict[str, dict[str, float]] = {"normal": {"n": len(normal), "below": low}}
    for kind, poor in scores.items():
        metrics[kind] = {
            "n": len(poor),
            "auroc": auroc(normal, poor),
            "below": float(np.mean(np.array(poor) < GRADABLE)),
        }
        print(f"  {kind:26} {metrics[kind]}")
    return metrics


def milliseconds(image: np.ndarray, repeats: int = 100) -> float:
    """Return the median time of scoring an image."""
    times = [(time.perf_counter(), gradability(image))[0] for _ in range(repeats)]
    return float(np.median(np.diff(times)) * 1e3)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("test", "train"), default="test", help="of IDRiD (default: test)")
    parser.add_argument("--every", type=int, default=1, help="use only each n-th photograph (default: 1)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    folder = IDRID / {"test": "b. Testing Set", "train": "a. Training Set"}[args.split]
    images = [crop(path) for path in sorted(folder.glob("*.jpg"))[:: args.every]]
    synthetic, circles = zip(*synthetic_crops(100), strict=True)
    results: dict[str, Any] = {"machine": f"{processor()}, {os.cpu_count()} cores", "python": platform.python_version()}
    results |= {name: importlib.metadata.version(name) for name in ("numpy", "opencv-python-headless")}
    if images:
        results[f"idrid_{args.split}"] = report(f"IDRiD {args.split}", images, [None] * len(images))
    if args.split == "test":
        results["synthetic"] = report("synthetic", synthetic, circles)
        results["odir"] = cross_camera() if ODIR.is_dir() else None
    results["ms_per_photograph_512"] = milliseconds((images or synthetic)[0])
    print(f"\n{results['ms_per_photograph_512']:.2f} ms per photograph of {SIDE} px, one thread")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
