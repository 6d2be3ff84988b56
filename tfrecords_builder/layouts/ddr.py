"""DDR, grading part: three texts of labels beside three folders of photographs."""

import functools
import pathlib

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect, first_folder, require, split_named
from tfrecords_builder.tables import labelled_lines, whole_number

TREE = """\
  SOURCE/
    DDR-dataset/DR_grading/                  (or SOURCE is one of these folders itself)
      train.txt                lines: 007-0004-000.jpg 0
      train/007-0004-000.jpg …      6835 photographs
      valid.txt, valid/             2733
      test.txt, test/               4105"""

ABOUT = f"""\
DDR: 13673 photographs of 9598 patients in China, each with an ICDR grade, or 5: ungradable (Li et al., Diagnostic
assessment of deep learning algorithms for diabetic retinopathy screening, 2019). Who is on which is not published.
Licence: MIT, says the publisher's repository.
From: GitHub nkicsl/DDR-dataset, whose README links the archive (Baidu or Google Drive); get all its parts, then
  cat DDR-dataset.zip.0* > DDR.zip; unzip DDR.zip -d SOURCE      (or 7z x DDR-dataset.zip.001)

{TREE}

train, valid and test stay as published. Ungradable photographs go to rejected.csv.
Counts by grade 0-4 over all three: 6266, 630, 4477, 236, 913; ungradable 1151."""

_UNGRADABLE = 5


def read(source, flags):
    root = first_folder(source / "DDR-dataset" / "DR_grading", source / "DR_grading", source)
    return collect(entry for part in ("train", "valid", "test") for entry in _entries(root, part))


def _entries(root, part):
    labels = require(root / f"{part}.txt", "file", TREE)
    photographs = require(root / part, "folder", TREE)
    for _, name, grade in labelled_lines(labels):
        yield f"{part}/{pathlib.Path(name).stem}", photographs / name, functools.partial(_fields, grade, part)


def _fields(text, part):
    grade = whole_number(text, "grade", absent=-1)
    if grade == _UNGRADABLE:
        raise ValueError(f"ungradable: grade {_UNGRADABLE}")
    return {"grade": grade, "split": split_named(part), "source": "ddr"}


LAYOUT = Layout("DDR grading, as published", ABOUT, read)
