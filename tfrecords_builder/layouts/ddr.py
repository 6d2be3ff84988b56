"""DDR, the grading part (Li et al., 2019): read train.txt, valid.txt and test.txt, and the folder of images of each.

Download: linked from the README of https://github.com/nkicsl/DDR-dataset. Licence: MIT.
"""

import argparse
import functools
import pathlib

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect_samples, first_existing_folder, parse_split, require_path
from tfrecords_builder.samples import Listing
from tfrecords_builder.tables import parse_whole_number, read_label_lines

TREE = """\
  SOURCE/
    DDR-dataset/DR_grading/                  (or SOURCE is one of these folders itself)
      train.txt                lines: 007-0004-000.jpg 0
      train/007-0004-000.jpg …      6835 images
      valid.txt, valid/             2733
      test.txt, test/               4105"""

ABOUT = f"""\
DDR: 13673 images of 9598 patients in China. Each has an ICDR grade, or 5 if it is ungradable (Li et al., Diagnostic
assessment of deep learning algorithms for diabetic retinopathy screening, 2019). The patient of an image is not
published.
Licence: MIT, according to the publisher's repository.
From: GitHub nkicsl/DDR-dataset, whose README links the archive (Baidu or Google Drive). Download all of its parts:
  cat DDR-dataset.zip.0* > DDR.zip; unzip DDR.zip -d SOURCE      (or 7z x DDR-dataset.zip.001)

{TREE}

The published train, valid and test splits are kept. Ungradable images are rejected.
Counts by grade 0-4 over all three splits: 6266, 630, 4477, 236, 913; ungradable 1151."""

_UNGRADABLE = 5


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of all three splits."""
    root = first_existing_folder(source / "DDR-dataset" / "DR_grading", source / "DR_grading", source)
    return collect_samples(entry for split in ("train", "valid", "test") for entry in _entries(root, split))


def _entries(root, split):
    labels = require_path(root / f"{split}.txt", "file", TREE)
    images = require_path(root / split, "folder", TREE)
    for _, name, grade in read_label_lines(labels):
        yield f"{split}/{pathlib.Path(name).stem}", images / name, functools.partial(_fields, grade, split)


def _fields(text, split):
    grade = parse_whole_number(text, "grade", absent=-1)
    if grade == _UNGRADABLE:
        raise ValueError(f"ungradable: grade {_UNGRADABLE}")
    return {"grade": grade, "split": parse_split(split), "source": "ddr"}


LAYOUT = Layout("DDR grading, as published", ABOUT, read)
