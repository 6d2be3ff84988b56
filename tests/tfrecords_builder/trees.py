"""Small source trees with drawn images, and helpers that run the builder on them."""

import csv
import functools
import hashlib
import io
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests import commands
from tfrecords_builder.__main__ import main
from tfrecords_builder.crops import crop_sample

WIDTH, HEIGHT = 384, 300


@functools.cache
def photograph(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw an RGB image that passes as a fundus image: a round orange field with a disc and vessels on black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cx, cy = width / 2 + rng.uniform(-6, 6), height / 2 + rng.uniform(-6, 6)
    radius = 0.44 * min(height, width)
    far = np.hypot(x - cx, y - cy) / radius
    picture = np.array([190, 95, 45]) * rng.uniform(0.85, 1.1) * (1.05 - 0.4 * far**2)[..., None]
    picture += cv2.GaussianBlur(rng.normal(0, 12, (height, width, 1)).astype(np.float32), (0, 0), 3)[..., None]
    _draw_disc_and_vessels(picture, rng, (cx, cy), radius)
    picture = cv2.GaussianBlur(picture, (0, 0), 1.2)
    picture = np.where((far < 1)[..., None], np.clip(picture, 0, 255), 0).astype(np.uint8)
    picture.setflags(write=False)  # it is shared between tests
    return picture


def _draw_disc_and_vessels(picture, rng, centre, radius):
    cx, cy = centre
    side = 1 if rng.random() < 0.5 else -1
    # Eyes differ, because the leak audit would otherwise pair them as copies.
    disc = np.array([cx + side * rng.uniform(0.35, 0.6) * radius, cy + rng.uniform(-0.25, 0.25) * radius])
    cv2.circle(picture, [round(v) for v in disc], round(radius / 7), (230, 160, 95), -1, cv2.LINE_AA)
    for up in (-1, 1):
        for bend in rng.uniform(0.1, 1.1, 4):
            t = np.linspace(0, 1, 30)
            sway = 0.12 * np.sin(rng.uniform(3, 9) * t + rng.uniform(0, 6)) * t
            points = np.stack(
                [
                    disc[0] - side * 1.4 * radius * t * rng.uniform(0.5, 1),
                    disc[1] + up * radius * (bend * np.sin(2.4 * t) + sway),
                ],
                1,
            )
            cv2.polylines(picture, [points.astype(np.int32)], False, (140, 58, 30), max(1, round(radius / 60)))


def jpeg(rgb: np.ndarray | Image.Image, **options: Any) -> bytes:
    """Encode an RGB array or a Pillow image as a JPEG of quality 95."""
    return encoded(rgb, "jpeg", quality=95, **options)


def encoded(rgb: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """Encode an RGB array or a Pillow image as the bytes of a file."""
    picture = rgb if isinstance(rgb, Image.Image) else Image.fromarray(np.ascontiguousarray(rgb))
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def write(path: str | pathlib.Path, data: bytes) -> pathlib.Path:
    """Write a file and the folders above it."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_photographs(folder: str | pathlib.Path, names: Iterable[str], first_seed: int = 0) -> list[pathlib.Path]:
    """Write a JPEG for each name, each from its own seed."""
    return [write(pathlib.Path(folder) / name, jpeg(photograph(first_seed + i))) for i, name in enumerate(names)]


def write_table(
    path: str | pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[object]], separator: str = ","
) -> pathlib.Path:
    """Write a csv file and the folders above it."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def read_csv(path: str | pathlib.Path) -> list[dict[str, str]]:
    """Read the rows of a csv file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


IDRID_TRAIN = ((0, 0), (3, 2), (2, 1), (4, 2), (1, 0), (0, 0))  # grade, risk of macular edema
IDRID_TEST = ((2, 1), (0, 0))


def write_idrid(parent: str | pathlib.Path, *, draw: bool = True) -> pathlib.Path:
    """Write IDRiD's grading part as published: the same names in both parts, a trailing space, empty columns."""
    root = pathlib.Path(parent) / "B. Disease Grading"
    parts = (("a. Training", IDRID_TRAIN, 10), ("b. Testing", IDRID_TEST, 20))
    for part, labels, seed in parts:
        names = [f"IDRiD_{i + 1:03d}" for i in range(len(labels))]
        folder = root / "1. Original Images" / f"{part} Set"
        for i, name in enumerate(names):
            write(folder / f"{name}.jpg", jpeg(photograph(seed + i)) if draw else b"")
        write_table(
            root / "2. Groundtruths" / f"{part[:3]}IDRiD_Disease Grading_{part[3:]} Labels.csv",
            ("Image name", "Retinopathy grade", "Risk of macular edema ", "", "", ""),
            [(name, grade, dme, "", "", "") for name, (grade, dme) in zip(names, labels, strict=True)],
        )
    return root


def write_folder(
    source: str | pathlib.Path,
    splits: Sequence[str] = ("",),
    classes: Sequence[str] = ("none", "mild", "moderate", "severe", "proliferative"),
    each: int = 1,
) -> pathlib.Path:
    """Write SPLIT/CLASS/NN.jpg, or CLASS/NN.jpg where the split is ""."""
    seed = 0
    for split in splits:
        for name in classes:
            write_photographs(pathlib.Path(source) / split / name, [f"{i:02d}.jpg" for i in range(each)], seed)
            seed += each
    return pathlib.Path(source)


def digests(folder: str | pathlib.Path) -> dict[str, str]:
    """{path below `folder`: digest} of all files. Digests keep the messages of failed comparisons short."""
    paths = [path for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in paths}


def run_builder(*arguments: object) -> tuple[int, str, str]:
    """Run the command in this process. Return (exit status, standard output, standard error)."""
    return commands.run(main, *arguments)


class CrashingCrop:
    """`crop_sample`, except that one image crashes the process."""

    def __init__(self, path):
        self.path = path

    def __call__(self, sample, options):
        if sample.path == self.path:
            os._exit(11)
        return crop_sample(sample, options)
