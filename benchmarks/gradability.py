"""Does `gradability` tell degraded photographs from clean ones, and what does it cost?

Clean: IDRiD's 103 official test photographs as published (some are dark or hazy by themselves and stay in), and
synthetic ones. Degraded: the same photographs through the models of `DEGRADATIONS`, each at several strengths. AUROC is
of the score, degraded against clean; the limit is 0.95 pooled over everything, on real and on synthetic photographs.
The curves were set on training photographs (`--split train`), never on these. Cross-camera: eyes of ODIR whose
keywords say that the view is poor against normal ones; no limit, since many a cataract leaves a clear view.

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

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from machine import processor

from dr_tf.fundus.enhance import field_mask, masked_blur
from dr_tf.fundus.gradability import GRADABLE, gradability

SHARED = pathlib.Path(os.environ.get("DR_TF_SHARED", pathlib.Path(__file__).resolve().parents[2] / "shared"))
IDRID = SHARED / "data/idrid/B. Disease Grading/1. Original Images"
ODIR = SHARED / "data/odir"
SIDE = 512
COLUMNS = ("auroc", "median", "low", "right_reason", "falls")
POOR_VIEW = ("cataract", "refractive media opacity", "low image quality")


def ramp(side, angle, centre, width):
    """0 to 1 across the square along `angle`, one half at `centre`; `centre` and `width` in sides."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    along = at[None, :] * np.cos(angle) + at[:, None] * np.sin(angle)
    return 1 / (1 + np.exp(-np.clip((along - centre) / width, -60, 60)))


def refilled(image, mask):
    """The surround filled with nearby retina: the lens blurs the retina, the black frame is added behind it."""
    near = masked_blur(image, mask, image.shape[0] / 40)
    return cv2.copyTo(image, mask, np.clip(np.rint(near), 0, 255).astype(np.uint8))


def blurred(image, mask, rng, share):
    return cv2.GaussianBlur(refilled(image, mask), (0, 0), share * image.shape[0])


def moved(image, mask, rng, share):
    length, angle = share * image.shape[0], rng.uniform(0, np.pi)
    middle = int(np.ceil(length)) // 2
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1), np.float32)
    reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(int(v) for v in np.rint(middle + sign * reach)) for sign in (-1, 1)]
    cv2.line(kernel, *ends, 1.0)
    return cv2.filter2D(refilled(image, mask), -1, kernel / kernel.sum())


def gained(image, mask, rng, gain):
    return cv2.LUT(image, np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8))


def curved(image, mask, rng, gamma):
    return cv2.LUT(image, np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8))


def hazed(image, mask, rng, share):
    """A bright, slightly warm veil, brighter on one side, over `share` of the light."""
    light = 150 + 70 * ramp(image.shape[0], rng.uniform(0, 2 * np.pi), 0, 0.25)[..., None]
    return np.rint((1 - share) * image + share * light * np.array([1.0, 0.93, 0.82])).astype(np.uint8)


def shaded(image, mask, rng, floor):
    """Light falls to `floor` over one half of the field, at any angle, across about a quarter of its width."""
    light = floor + (1 - floor) * ramp(image.shape[0], rng.uniform(0, 2 * np.pi), 0, 0.06)
    return np.rint(image * light[..., None]).astype(np.uint8)


def lidded(image, mask, rng, share):
    light = 0.03 + 0.97 * ramp(image.shape[0], np.pi / 2, share - 0.5, 0.015)
    return np.rint(image * light[..., None]).astype(np.uint8)


def cut(image, mask, rng, share):
    keep = ramp(image.shape[0], rng.uniform(0, 2 * np.pi), share - 0.5, 1e-4) > 0.5
    return image * keep[..., None].astype(np.uint8)


# name: (model, strengths from clearly degraded up, what they are, the reasons that would be right)
DEGRADATIONS = {
    "blur": (blurred, (3 / 512, 4 / 512, 6 / 512, 10 / 512), "sigma / side", "out of focus"),
    "motion": (moved, (16 / 512, 24 / 512, 36 / 512), "length / side", "out of focus"),
    "dark": (gained, (0.4, 0.3, 0.2, 0.1), "gain", "too dark"),
    "dark_gamma": (curved, (2.5, 3.0, 4.0), "gamma", "too dark"),
    "bright": (gained, (2.5, 3.0, 4.0), "gain, clipped", "too bright, only"),
    "bright_gamma": (curved, (0.4, 0.3, 0.2), "gamma", "too bright, hazy"),
    "haze": (hazed, (0.5, 0.6, 0.7, 0.8), "veil", "hazy"),
    "uneven": (shaded, (0.2, 0.1, 0.03), "light on the dark half", "too dark, only"),
    "eyelid": (lidded, (0.35, 0.5, 0.65), "share of the height", "only"),
    "cropped": (cut, (0.35, 0.5, 0.65), "share of the width", "only"),
}


def degrade(name, image, strength, rng, circle=None):
    mask = field_mask(image, circle)
    return cv2.copyTo(DEGRADATIONS[name][0](image, mask, rng, strength), mask)


def crop(path):
    """The square around what is brighter than black: enough for these photographs, all of one camera."""
    image = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4)[..., ::-1]
    lit = cv2.morphologyEx((image.max(axis=2) > 25).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    spans = [np.flatnonzero(lit.sum(axis) > 20)[[0, -1]] + [0, 1] for axis in (1, 0)]
    image = image[slice(*spans[0]), slice(*spans[1])]
    pads = [(max(image.shape[:2]) - length) // 2 for length in image.shape[:2]]
    side = max(image.shape[:2])
    square = np.zeros((side, side, 3), np.uint8)
    square[pads[0] : pads[0] + image.shape[0], pads[1] : pads[1] + image.shape[1]] = image
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def auroc(clean, degraded):
    """Chance that a clean photograph scores above a degraded one, ties one half."""
    clean, degraded = np.asarray(clean), np.sort(degraded)
    below, upto = np.searchsorted(degraded, clean, "left"), np.searchsorted(degraded, clean, "right")
    return float((below + upto).mean() / (2 * len(degraded)))


def measured(images, circles):
    """Rows of the table of one set of photographs: AUROC, median score, right reasons and steps that fall."""
    clean = [gradability(*pair).score for pair in zip(images, circles, strict=True)]
    rows, everything = {}, []
    for name, (_, strengths, _, right) in DEGRADATIONS.items():
        before = np.array(clean)
        for strength in strengths:
            rng, pairs = np.random.default_rng(0), zip(images, circles, strict=True)  # the same angles at each strength
            bad = [gradability(degrade(name, image, strength, rng, circle), circle) for image, circle in pairs]
            scores = np.array([result.score for result in bad])
            everything.append(scores)
            said = [r.reason for r in bad if r.reason]
            rows[f"{name} {strength:.3g}"] = {
                "auroc": auroc(clean, scores),
                "median": float(np.median(scores)),
                "low": float(np.mean(scores < GRADABLE)),
                "right_reason": float(np.mean([r.startswith(tuple(right.split(", "))) for r in said])) if said else 1.0,
                "falls": float(np.mean(scores <= before + 0.005)),
            }
            before = scores
    return clean, rows, auroc(clean, np.concatenate(everything))


def report(title, images, circles):
    clean, rows, pooled = measured(images, circles)
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


def square(eye):
    """The renderer's whole frame cut to the square around the circle, and the circle there."""
    cx, cy, r = eye.circle
    pad, side = int(np.ceil(r)), int(np.ceil(2 * r))
    left, top = round(cx - r), round(cy - r)
    framed = cv2.copyMakeBorder(eye.image, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    cropped = np.ascontiguousarray(framed[top + pad : top + pad + side, left + pad : left + pad + side])
    circle = (cx - left, cy - top, r)
    return cv2.copyTo(cropped, field_mask(cropped, circle)), circle


def synthetic(count):
    from dr_tf.fundus.synthesis import render_patient

    eyes = [eye for seed in range((count + 1) // 2) for eye in render_patient(seed).eyes][:count]
    return zip(*(square(eye) for eye in eyes), strict=True)


def odir_scores():
    """{"normal" or a keyword: scores of the eyes that carry it}."""
    scores = {}
    with open(ODIR / "full_df.csv", newline="") as table:
        for row in csv.DictReader(table):
            side = "Left" if "left" in row["filename"] else "Right"
            words = row[f"{side}-Diagnostic Keywords"]
            kind = next((word for word in POOR_VIEW if word in words), "normal" if words == "normal fundus" else None)
            image = cv2.imread(str(ODIR / "preprocessed_images" / row["filename"])) if kind else None
            if image is not None:
                scores.setdefault(kind, []).append(gradability(np.ascontiguousarray(image[..., ::-1])).score)
    return scores


def cross_camera():
    scores = odir_scores()
    normal = scores.pop("normal")
    low = float(np.mean(np.array(normal) < GRADABLE))
    print(f"\nODIR: {len(normal)} normal eyes, median {np.median(normal):.2f}, below {GRADABLE}: {low:.2f}")
    figures = {"normal": {"n": len(normal), "below": low}}
    for kind, poor in scores.items():
        figures[kind] = {
            "n": len(poor),
            "auroc": auroc(normal, poor),
            "below": float(np.mean(np.array(poor) < GRADABLE)),
        }
        print(f"  {kind:26} {figures[kind]}")
    return figures


def milliseconds(image, repeats=100):
    times = [(time.perf_counter(), gradability(image))[0] for _ in range(repeats)]
    return float(np.median(np.diff(times)) * 1e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--every", type=int, default=1, help="only each n-th photograph")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    folder = IDRID / {"test": "b. Testing Set", "train": "a. Training Set"}[args.split]
    images, drawn = [crop(path) for path in sorted(folder.glob("*.jpg"))[:: args.every]], list(synthetic(100))
    figures = {"machine": f"{processor()}, {os.cpu_count()} cores", "python": platform.python_version()}
    figures |= {name: importlib.metadata.version(name) for name in ("numpy", "opencv-python-headless")}
    if images:
        figures[f"idrid_{args.split}"] = report(f"IDRiD {args.split}", images, [None] * len(images))
    if args.split == "test":
        figures["synthetic"] = report("synthetic", *drawn)
        figures["odir"] = cross_camera() if ODIR.is_dir() else None
    figures["ms_per_photograph_512"] = milliseconds((images or drawn[0])[0])
    print(f"\n{figures['ms_per_photograph_512']:.2f} ms per photograph of {SIDE} px, one thread")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
