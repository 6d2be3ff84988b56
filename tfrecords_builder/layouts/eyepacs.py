"""EyePACS (Kaggle Diabetic Retinopathy Detection): two label tables beside two folders of photographs."""

import functools
import re

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect, require
from tfrecords_builder.samples import Listing, Rejection
from tfrecords_builder.tables import read_table, whole_number

TREE = """\
  SOURCE/
    trainLabels.csv              image,level
    train/10_left.jpeg …         35126 photographs
    retinopathy_solution.csv     image,level,Usage        (may be absent, with test/)
    test/1_left.jpeg …           53576 photographs"""

ABOUT = f"""\
EyePACS, the set of the competition Diabetic Retinopathy Detection (2015): both eyes of 44351 patients, by several
cameras, each photograph with an ICDR grade by one doctor. The publisher warns of noise in pictures and labels.
Licence: the rules of the competition, which its page asks you to accept.
From: Kaggle, competition diabetic-retinopathy-detection, with its own tool (over 80 GB):
  kaggle competitions download -c diabetic-retinopathy-detection
  unzip trainLabels.csv.zip -d SOURCE
  cat train.zip.0* > train.zip; unzip train.zip -d SOURCE      (7z x train.zip.001 does both; test likewise)
retinopathy_solution.csv, the labels of test, is not among these files: it was made public when the competition was
over. Without it the photographs of test are left out.

{TREE}

Patient and eye are read from the name. The public and the private part of the solution are both the test split.
Counts by grade 0-4: train 25810, 2443, 5292, 873, 708; test 39533, 3762, 7861, 1214, 1206."""

_NAME, _GRADE = "image", "level"


def read(source, flags):
    entries = _entries(source, "train", "trainLabels.csv")
    solution = source / "retinopathy_solution.csv"
    if solution.is_file():
        return collect([*entries, *_entries(source, "test", solution.name)])
    listing = collect(entries)
    if not (source / "test").is_dir():
        return listing
    unlabelled = Rejection("test", str(source / "test"), f"unlabelled: {solution.name} is absent")
    return Listing(listing.samples, [*listing.rejections, unlabelled])


def _entries(source, split, table):
    labels = require(source / table, "file", TREE)
    photographs = require(source / split, "folder", TREE)
    return [
        (row[_NAME], photographs / f"{row[_NAME]}.jpeg", functools.partial(_fields, row, split))
        for row in read_table(labels, required=(_NAME, _GRADE))
    ]


def _fields(row, split):
    patient, eye = patient_and_eye(row[_NAME])
    grade = whole_number(row[_GRADE], "grade", absent=-1)
    return {"grade": grade, "patient_id": patient, "eye": eye, "split": split, "source": "eyepacs"}


def patient_and_eye(name):
    """10_left -> ("10", "left")."""
    parts = re.fullmatch(r"(\d+)_(left|right)", name)
    if not parts:
        raise ValueError("its name is not PATIENT_left or PATIENT_right")
    return parts.groups()


LAYOUT = Layout("EyePACS (Kaggle 2015), as published", ABOUT, read)
