"""EyePACS (Kaggle, Diabetic Retinopathy Detection 2015): read trainLabels.csv, retinopathy_solution.csv, train/, test/.

Download: Kaggle, competition diabetic-retinopathy-detection. Licence: the rules of the competition.
"""

import argparse
import functools
import pathlib
import re

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect_samples, require_path
from tfrecords_builder.samples import Listing, Rejection
from tfrecords_builder.tables import parse_whole_number, read_table

TREE = """\
  SOURCE/
    trainLabels.csv              image,level
    train/10_left.jpeg …         35126 images
    retinopathy_solution.csv     image,level,Usage        (may be missing, with test/)
    test/1_left.jpeg …           53576 images"""

ABOUT = f"""\
EyePACS, the data set of the competition Diabetic Retinopathy Detection (2015): both eyes of 44351 patients, taken with
several cameras. One doctor gave each image an ICDR grade. The publisher warns of noise in both images and labels.
Licence: the rules of the competition, which you accept on its page.
From: Kaggle, competition diabetic-retinopathy-detection, with Kaggle's own tool (over 80 GB):
  kaggle competitions download -c diabetic-retinopathy-detection
  unzip trainLabels.csv.zip -d SOURCE
  cat train.zip.0* > train.zip; unzip train.zip -d SOURCE      (7z x train.zip.001 does both; test likewise)
retinopathy_solution.csv holds the labels of test. It is not among these files: it was published after the competition
ended. Without it, the images of test are left out.

{TREE}

The patient and the eye are read from the file name. The public and the private part of the solution are both in the
test split.
Counts by grade 0-4: train 25810, 2443, 5292, 873, 708; test 39533, 3762, 7861, 1214, 1206."""

_NAME, _GRADE = "image", "level"


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of both splits. The test split is left out where its labels are missing."""
    entries = _entries(source, "train", "trainLabels.csv")
    solution = source / "retinopathy_solution.csv"
    if solution.is_file():
        return collect_samples([*entries, *_entries(source, "test", solution.name)])
    listing = collect_samples(entries)
    if not (source / "test").is_dir():
        return listing
    unlabelled = Rejection("test", str(source / "test"), f"unlabelled: {solution.name} is missing")
    return Listing(listing.samples, [*listing.rejections, unlabelled])


def _entries(source, split, table):
    labels = require_path(source / table, "file", TREE)
    images = require_path(source / split, "folder", TREE)
    return [
        (row[_NAME], images / f"{row[_NAME]}.jpeg", functools.partial(_fields, row, split))
        for row in read_table(labels, required=(_NAME, _GRADE))
    ]


def _fields(row, split):
    patient, eye = _patient_and_eye(row[_NAME])
    grade = parse_whole_number(row[_GRADE], "grade", absent=-1)
    return {"grade": grade, "patient_id": patient, "eye": eye, "split": split, "source": "eyepacs"}


def _patient_and_eye(name):
    """10_left -> ("10", "left")."""
    parts = re.fullmatch(r"(\d+)_(left|right)", name)
    if not parts:
        raise ValueError("the file name does not have the form PATIENT_left or PATIENT_right")
    return parts.groups()


LAYOUT = Layout("EyePACS (Kaggle 2015), as published", ABOUT, read)
