"""DeepDRiD, regular fundus images (Liu et al., Patterns 2022): read two csv files, an Excel file, and the images.

Download: https://github.com/deepdrdoc/DeepDRiD. Licence: the README names none.
"""

import argparse
import functools
import pathlib
import re

from dr_tf.grades import EYES
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect_samples, first_existing_folder, require_path
from tfrecords_builder.samples import Listing, Rejection
from tfrecords_builder.tables import parse_whole_number, read_table

TREE = """\
  SOURCE/
    regular_fundus_images/                   (or SOURCE is this folder itself)
      regular-fundus-training/
        regular-fundus-training.csv          image_id,left_eye_DR_Level,right_eye_DR_Level, …
        Images/1/1_l1.jpg …                  1200 images
      regular-fundus-validation/
        regular-fundus-validation.csv
        Images/265/265_l1.jpg …              400
      Online-Challenge1&2-Evaluation/
        Challenge1_labels.xlsx (or .csv)     image_id,DR_Levels
        Images/347/347_l1.jpg …              400"""

ABOUT = f"""\
DeepDRiD (ISBI 2020): 500 patients of three screening projects in China, with two images of each eye and an ICDR grade
for each eye (Liu et al., Patterns 2022). The ultra-widefield images are not read.
Licence: the README names none and asks to be cited. Ask the authors before you share anything.
From: GitHub, deepdrdoc/DeepDRiD (over 1 GB):
  git clone --depth 1 https://github.com/deepdrdoc/DeepDRiD SOURCE
The test labels are an Excel file. Either pip install 'dr_tf[excel]', or save it as Challenge1_labels.csv.

{TREE}

The published training, validation and evaluation (test) splits are kept. The column image_path is not used, because it
is wrong in the published tables. An image is rejected if its file name names one eye and its grade is in the column of
the other eye (56_r3 and 56_l3). With --paired, the more gradable image of each eye is used.
Counts by grade 0-4: training and validation 714, 186, 326, 282, 92; test 200, 36, 72, 72, 20."""

_PARTS = (("train", "regular-fundus-training"), ("validation", "regular-fundus-validation"))
_TEST = "Online-Challenge1&2-Evaluation"
_NAME, _TEST_GRADE = "image_id", "DR_Levels"
_COLUMNS = {eye: f"{eye}_eye_DR_Level" for eye in EYES}


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of all three splits. The test split is left out where its labels are missing."""
    root = first_existing_folder(source / "regular_fundus_images", source)
    entries = []
    for split, part in _PARTS:
        labels = require_path(root / part / f"{part}.csv", "file", TREE)
        rows = read_table(labels, required=(_NAME, *_COLUMNS.values()))
        entries += _entries(root / part, rows, split, _grade_of_eye)
    saved, published = (root / _TEST / f"Challenge1_labels.{kind}" for kind in ("csv", "xlsx"))
    labels = saved if saved.is_file() else published
    if labels.is_file():
        rows = read_table(labels, required=(_NAME, _TEST_GRADE))
        return collect_samples(entries + _entries(root / _TEST, rows, "test", lambda row, eye: row[_TEST_GRADE]))
    listing = collect_samples(entries)
    unlabelled = Rejection(_TEST, str(root / _TEST), f"unlabelled: {labels.name} is missing")
    return Listing(listing.samples, [*listing.rejections, unlabelled])


def _entries(folder, rows, split, grade_text):
    images = require_path(folder / "Images", "folder", TREE)
    return [
        (
            row[_NAME],
            images / row[_NAME].partition("_")[0] / f"{row[_NAME]}.jpg",
            functools.partial(_fields, row, split, grade_text),
        )
        for row in rows
    ]


def _fields(row, split, grade_text):
    parts = re.fullmatch(r"(\d+)_([lr])\d+", row[_NAME])
    if not parts:
        raise ValueError("the file name does not have the form PATIENT_l1 or PATIENT_r1")
    eye = EYES["lr".index(parts[2])]
    return {
        "grade": parse_whole_number(grade_text(row, eye), "grade", absent=-1),
        "patient_id": parts[1],
        "eye": eye,
        "split": split,
        "source": "deepdrid",
    }


def _grade_of_eye(row, eye):
    (fellow,) = set(EYES) - {eye}
    if row[_COLUMNS[fellow]] and not row[_COLUMNS[eye]]:
        raise ValueError(f"the file name names the {eye} eye, but the grade is in the column {_COLUMNS[fellow]}")
    return row[_COLUMNS[eye]]


LAYOUT = Layout("DeepDRiD, regular fundus images, as published", ABOUT, read)
