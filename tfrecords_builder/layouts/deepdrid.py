"""DeepDRiD, regular photographs: two tables as csv, the test labels as a table of Excel."""

import functools
import re

from dr_tf.grades import EYES
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect, first_folder, require
from tfrecords_builder.samples import Listing, Rejection
from tfrecords_builder.tables import read_table, whole_number

TREE = """\
  SOURCE/
    regular_fundus_images/                   (or SOURCE is this folder itself)
      regular-fundus-training/
        regular-fundus-training.csv          image_id,left_eye_DR_Level,right_eye_DR_Level, …
        Images/1/1_l1.jpg …                  1200 photographs
      regular-fundus-validation/
        regular-fundus-validation.csv
        Images/265/265_l1.jpg …              400
      Online-Challenge1&2-Evaluation/
        Challenge1_labels.xlsx (or .csv)     image_id,DR_Levels
        Images/347/347_l1.jpg …              400"""

ABOUT = f"""\
DeepDRiD (ISBI 2020): 500 patients of three screening projects in China, two photographs of each eye, each eye with an
ICDR grade (Liu et al., Patterns 2022). Its ultra-widefield photographs are not read.
Licence: the README names none and asks to be cited; ask the authors before you share anything.
From: GitHub, deepdrdoc/DeepDRiD (over 1 GB):
  git clone --depth 1 https://github.com/deepdrdoc/DeepDRiD SOURCE
The test labels are a table of Excel: pip install 'dr_tf[excel]', or save it as Challenge1_labels.csv.

{TREE}

Training, validation and evaluation (test) stay as published. The column image_path is wrong in the published tables
and not used. A photograph whose name says one eye and whose grade stands in the other's column (56_r3 and 56_l3)
goes to rejected.csv. --paired keeps the more gradable photograph of each eye.
Counts by grade 0-4: training and validation 714, 186, 326, 282, 92; test 200, 36, 72, 72, 20."""

_PARTS = (("train", "regular-fundus-training"), ("validation", "regular-fundus-validation"))
_TEST = "Online-Challenge1&2-Evaluation"
_NAME, _TEST_GRADE = "image_id", "DR_Levels"
_COLUMNS = {eye: f"{eye}_eye_DR_Level" for eye in EYES}


def read(source, flags):
    root = first_folder(source / "regular_fundus_images", source)
    entries = []
    for split, part in _PARTS:
        labels = require(root / part / f"{part}.csv", "file", TREE)
        entries += _entries(root / part, read_table(labels, required=(_NAME, *_COLUMNS.values())), split, _grade_of_eye)
    saved, published = (root / _TEST / f"Challenge1_labels.{kind}" for kind in ("csv", "xlsx"))
    labels = saved if saved.is_file() else published
    if labels.is_file():
        rows = read_table(labels, required=(_NAME, _TEST_GRADE))
        return collect(entries + _entries(root / _TEST, rows, "test", lambda row, eye: row[_TEST_GRADE]))
    listing = collect(entries)
    unlabelled = Rejection(_TEST, str(root / _TEST), f"unlabelled: {labels.name} is absent")
    return Listing(listing.samples, [*listing.rejections, unlabelled])


def _entries(folder, rows, split, grade):
    photographs = require(folder / "Images", "folder", TREE)
    return [
        (
            row[_NAME],
            photographs / row[_NAME].partition("_")[0] / f"{row[_NAME]}.jpg",
            functools.partial(_fields, row, split, grade),
        )
        for row in rows
    ]


def _fields(row, split, grade):
    parts = re.fullmatch(r"(\d+)_([lr])\d+", row[_NAME])
    if not parts:
        raise ValueError("its name is not PATIENT_l1, PATIENT_r1 or the like")
    eye = EYES["lr".index(parts[2])]
    return {
        "grade": whole_number(grade(row, eye), "grade", absent=-1),
        "patient_id": parts[1],
        "eye": eye,
        "split": split,
        "source": "deepdrid",
    }


def _grade_of_eye(row, eye):
    (fellow,) = set(EYES) - {eye}
    if row[_COLUMNS[fellow]] and not row[_COLUMNS[eye]]:
        raise ValueError(f"its name says {eye}, but its grade stands in {_COLUMNS[fellow]}")
    return row[_COLUMNS[eye]]


LAYOUT = Layout("DeepDRiD, regular photographs, as published", ABOUT, read)
