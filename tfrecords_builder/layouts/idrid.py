"""IDRiD, part B, disease grading (Porwal et al., 2018): read two label tables and two folders of images.

Download: IEEE DataPort, "Indian Diabetic Retinopathy Image Dataset (IDRiD)". Licence: CC BY 4.0.
"""

import argparse
import functools
import pathlib

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect_samples, first_existing_folder, require_path
from tfrecords_builder.samples import Listing
from tfrecords_builder.tables import parse_whole_number, read_table

TREE = """\
  SOURCE/
    B. Disease Grading/                      (or SOURCE is this folder itself)
      1. Original Images/
        a. Training Set/IDRiD_001.jpg …      413 images
        b. Testing Set/IDRiD_001.jpg …       103 images
      2. Groundtruths/
        a. IDRiD_Disease Grading_Training Labels.csv
        b. IDRiD_Disease Grading_Testing Labels.csv"""

ABOUT = f"""\
Indian Diabetic Retinopathy Image Dataset, part B (disease grading): 516 images of 4288 x 2848 pixels from one Kowa
VX-10 alpha in Nanded, India. Each has an ICDR grade and the risk of diabetic macular edema. Patients are unknown.
Licence: CC BY 4.0 (Porwal, Pachade, Kokare: Indian Diabetic Retinopathy Image Dataset, 2018).
From: IEEE DataPort, "Indian Diabetic Retinopathy Image Dataset (IDRiD)": download B. Disease Grading.zip, then
  unzip "B. Disease Grading.zip" -d SOURCE

{TREE}

The published training and testing splits are kept.
Counts by grade 0-4: training 134, 20, 136, 74, 49; test 34, 5, 32, 19, 13."""

_PARTS = (("train", "a. Training Set", "a. IDRiD_Disease Grading_Training Labels.csv"),
          ("test", "b. Testing Set", "b. IDRiD_Disease Grading_Testing Labels.csv"))  # fmt: skip
_NAME, _GRADE, _DME = "Image name", "Retinopathy grade", "Risk of macular edema"


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of both splits."""
    root = first_existing_folder(source / "B. Disease Grading", source)
    return collect_samples(entry for part in _PARTS for entry in _entries(root, *part))


def _entries(root, split, folder, table):
    images = require_path(root / "1. Original Images" / folder, "folder", TREE)
    labels = require_path(root / "2. Groundtruths" / table, "file", TREE)
    for row in read_table(labels, required=(_NAME, _GRADE, _DME)):
        # Both parts use the same numbers for different eyes.
        yield f"{split}/{row[_NAME]}", images / f"{row[_NAME]}.jpg", functools.partial(_fields, row, split)


def _fields(row, split):
    return {
        "grade": parse_whole_number(row[_GRADE], "grade", absent=-1),
        "dme": parse_whole_number(row[_DME], "DME risk", absent=-1),
        "split": split,
        "source": "idrid",
        "camera": "Kowa VX-10 alpha",
    }


LAYOUT = Layout("IDRiD disease grading, as published", ABOUT, read)
