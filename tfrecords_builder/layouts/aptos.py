"""APTOS 2019 Blindness Detection (Kaggle): read train.csv and the images in train_images/.

Download: Kaggle, competition aptos2019-blindness-detection. Licence: the rules of the competition.
"""

import argparse
import functools
import pathlib

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect_samples, require_path
from tfrecords_builder.samples import Listing
from tfrecords_builder.tables import parse_whole_number, read_table

TREE = """\
  SOURCE/
    train.csv                 id_code,diagnosis
    train_images/000c1434d8d7.png …      3662 images
    test.csv, test_images/    without labels: not read"""

ABOUT = f"""\
APTOS 2019 Blindness Detection: images from Aravind Eye Hospital, India, taken with several cameras in several clinics.
One doctor gave each image an ICDR grade. Patients and eyes are unknown. The publisher warns of noise in both images and
labels.
Licence: the rules of the competition, which you accept on its page.
From: Kaggle, competition aptos2019-blindness-detection, with Kaggle's own tool:
  kaggle competitions download -c aptos2019-blindness-detection
  unzip aptos2019-blindness-detection.zip -d SOURCE

{TREE}

The labels of the 1928 images in test.csv were never published, so these images are left out. The other images are
divided into splits.
Counts by grade 0-4: 1805, 370, 999, 193, 295."""

_NAME, _GRADE = "id_code", "diagnosis"


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the labelled images."""
    labels = require_path(source / "train.csv", "file", TREE)
    images = require_path(source / "train_images", "folder", TREE)
    return collect_samples(
        (row[_NAME], images / f"{row[_NAME]}.png", functools.partial(_fields, row))
        for row in read_table(labels, required=(_NAME, _GRADE))
    )


def _fields(row):
    return {"grade": parse_whole_number(row[_GRADE], "grade", absent=-1), "source": "aptos"}


LAYOUT = Layout("APTOS 2019, as published", ABOUT, read)
