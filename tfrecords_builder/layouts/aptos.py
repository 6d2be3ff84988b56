"""APTOS 2019 Blindness Detection: one label table beside one folder of photographs."""

import functools

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect, require
from tfrecords_builder.tables import read_table, whole_number

TREE = """\
  SOURCE/
    train.csv                 id_code,diagnosis
    train_images/000c1434d8d7.png …      3662 photographs
    test.csv, test_images/    without labels: not read"""

ABOUT = f"""\
APTOS 2019 Blindness Detection: photographs of Aravind Eye Hospital, India, by several cameras in several clinics,
each with an ICDR grade by one doctor. Patients and eyes are not named. The publisher warns of noise in pictures and
labels.
Licence: the rules of the competition, which its page asks you to accept.
From: Kaggle, competition aptos2019-blindness-detection, with its own tool:
  kaggle competitions download -c aptos2019-blindness-detection
  unzip aptos2019-blindness-detection.zip -d SOURCE

{TREE}

The 1928 photographs of test.csv were never published with labels and are left out; splits are made of the others.
Counts by grade 0-4: 1805, 370, 999, 193, 295."""

_NAME, _GRADE = "id_code", "diagnosis"


def read(source, flags):
    labels = require(source / "train.csv", "file", TREE)
    photographs = require(source / "train_images", "folder", TREE)
    return collect(
        (row[_NAME], photographs / f"{row[_NAME]}.png", functools.partial(_fields, row))
        for row in read_table(labels, required=(_NAME, _GRADE))
    )


def _fields(row):
    return {"grade": whole_number(row[_GRADE], "grade", absent=-1), "source": "aptos"}


LAYOUT = Layout("APTOS 2019, as published", ABOUT, read)
