"""Synthetic patients, rendered by `dr_tf.fundus.synthesis`: draw images, lesion masks and labels, then list them.

No download is needed. Licence: Apache 2.0, as this project.
"""

import argparse
import csv
import functools
import json
import pathlib
from typing import Any

import cv2
import numpy as np

from dr_tf.console import UserError, progress
from tfrecords_builder.layouts import Layout
from tfrecords_builder.samples import Listing, make_sample
from tfrecords_builder.tables import read_table
from tfrecords_builder.workers import map_in_order

TREE = """\
  SOURCE/labels.csv                  grade, DME risk, ODIR labels and camera of every image
  SOURCE/images/00001_left.jpg …
  SOURCE/masks/00001_left/microaneurysms.png …"""

ABOUT = f"""\
Synthetic retinas, rendered from a seed. They need no download and no consent, and every lesion is known. Each patient
has two eyes with shared traits, ICDR grades by the published rules, other findings of the ODIR labels, and one of
several cameras.
The images are first written to SOURCE (about 50 KB each), and then become records like those of any other layout.
Images that an earlier run with the same flags has drawn are used again.
Licence: Apache 2.0, as this project.

{TREE}

These images test software. Metrics on them say nothing about real eyes."""

_GRADE_SHARES = "33,5,33,17,12"  # of IDRiD's training split, rounded
_COLUMNS = ("image_id", "patient_id", "eye", "age", "sex", "camera", "grade", "dme", "labels", "patient_labels")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this layout."""
    parser.add_argument("--name", default="synthetic", help="name of the record set (default: synthetic)")
    parser.add_argument(
        "--patients", type=int, default=100, help="number of patients, with two images each (default: 100)"
    )
    parser.add_argument("--side", type=int, default=512, help="diameter of the retina in pixels (default: 512)")
    parser.add_argument(
        "--grade_shares", default=_GRADE_SHARES, metavar="A,B,C,D,E",
        help="shares of patients with grade 0 to 4 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--findings_share", type=float, default=0.2,
        help="share of patients with a finding other than diabetic retinopathy (default: 0.2)",
    )  # fmt: skip
    parser.add_argument("--cameras", default="all", metavar="A,B,…", help="camera styles to draw from (default: all)")


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """Draw the images if they do not exist yet, and list them."""
    options = _options(flags)
    _draw_all(source, options, flags.workers)
    samples = [_sample(row, source, flags.paired) for row in read_table(source / "labels.csv", required=_COLUMNS)]
    return Listing(samples, [])


def _options(flags):
    from dr_tf.fundus.synthesis import CAMERAS

    cameras = list(CAMERAS) if flags.cameras == "all" else [name.strip() for name in flags.cameras.split(",")]
    if unknown := set(cameras) - set(CAMERAS):
        raise UserError(f"unknown camera {min(unknown)}; known: {', '.join(CAMERAS)}")
    try:
        shares = [float(share) for share in flags.grade_shares.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 5 or min(shares) < 0 or sum(shares) <= 0:
        raise UserError(f"--grade_shares {flags.grade_shares!r}: give five shares, for grades 0 to 4")
    if flags.patients < 1 or flags.side < 64 or not 0 <= flags.findings_share <= 1:
        raise UserError("--patients must be at least 1, --side at least 64, --findings_share from 0 to 1")
    return {
        "seed": flags.seed,
        "patients": flags.patients,
        "side": flags.side,
        "grade_shares": [share / sum(shares) for share in shares],
        "findings_share": flags.findings_share,
        "cameras": cameras,
    }


def _draw_all(source, options, workers):
    """Draw all patients. labels.csv is written last, so its existence shows that the images are complete."""
    marker = source / "options.json"
    if source.exists() and any(source.iterdir()) and not marker.exists():
        raise UserError(f"{source} contains other files; give an empty or new folder for the images")
    if marker.exists() and _read_options(marker) != options:
        raise UserError(f"{source} contains images drawn with other flags; give another folder")
    if (source / "labels.csv").exists():
        return
    (source / "images").mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(options))
    draw = functools.partial(draw_patient, source=source, options=options)
    rows = []
    with progress(options["patients"], "drawing", "patients") as bar:
        patients = range(options["patients"])
        for patient_rows in map_in_order(draw, patients, workers=workers, on_crash=_raise_crashed):
            rows += patient_rows
            bar.update()
    unfinished = source / ".labels.csv.unfinished"
    with open(unfinished, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    unfinished.rename(source / "labels.csv")


def _read_options(marker):
    try:
        return json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{marker} cannot be read: {error}; give another folder, or delete this one") from error


def _raise_crashed(index):
    raise UserError(f"the process that drew patient {index + 1} crashed; is there enough memory?")


def draw_patient(index: int, source: pathlib.Path, options: dict[str, Any]) -> list[tuple]:
    """Draw a patient, and write the images and masks. Called in worker processes.

    Args:
        index: Number of the patient, from 0.
        source: The folder of images and masks.
        options: As stored in options.json.

    Returns:
        The patient's rows of labels.csv.
    """
    from dr_tf.fundus.synthesis import draw_grades, render_patient

    rng = np.random.default_rng((options["seed"], index))
    grades = draw_grades(rng, options["grade_shares"])
    findings = (str(rng.choice(list("GCAHMO"))),) if rng.random() < options["findings_share"] else ()
    camera = str(rng.choice(options["cameras"]))
    seed = int(rng.integers(2**31))
    patient = render_patient(seed, side=options["side"], grades=grades, findings=findings, camera=camera)
    name = f"{index + 1:05d}"
    return [_write_eye(source, name, patient, eye) for eye in patient.eyes]


def _write_eye(source, name, patient, eye):
    image_id = f"{name}_{eye.eye}"
    masks = source / "masks" / image_id
    masks.mkdir(parents=True, exist_ok=True)
    for lesion, mask in eye.masks.items():
        cv2.imwrite(str(masks / f"{lesion}.png"), mask * 255)
    (source / "images" / f"{image_id}.jpg").write_bytes(eye.encode())
    labels, patient_labels = ("".join(map(str, labelled.labels)) for labelled in (eye, patient))
    return (image_id, name, eye.eye, patient.age, patient.sex, eye.camera, eye.grade, eye.dme, labels, patient_labels)


def _sample(row, source, paired):
    masks = sorted((source / "masks" / row["image_id"]).glob("*.png"))
    labels = row["patient_labels" if paired else "labels"]
    return make_sample(
        image_id=row["image_id"],
        path=source / "images" / f"{row['image_id']}.jpg",
        patient_id=row["patient_id"],
        eye=row["eye"],
        age=int(row["age"]),
        sex=row["sex"],
        source=row["camera"],
        camera=row["camera"],
        grade=int(row["grade"]),
        dme=int(row["dme"]),
        labels=tuple(int(label) for label in labels),
        masks=tuple((path.stem, path) for path in masks),
    )


LAYOUT = Layout("synthetic patients with known lesions", ABOUT, read, add_flags, lambda flags: flags.name)
