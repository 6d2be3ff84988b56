"""IDRiD, disease grading: two label tables beside two folders of photographs, both numbered from 001."""

from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import require
from tfrecords_builder.samples import Listing, Rejection, make_sample
from tfrecords_builder.tables import read_table, whole_number

TREE = """\
  SOURCE/
    B. Disease Grading/                      (or SOURCE is this folder itself)
      1. Original Images/
        a. Training Set/IDRiD_001.jpg …      413 photographs
        b. Testing Set/IDRiD_001.jpg …       103 photographs
      2. Groundtruths/
        a. IDRiD_Disease Grading_Training Labels.csv
        b. IDRiD_Disease Grading_Testing Labels.csv"""

ABOUT = f"""\
Indian Diabetic Retinopathy Image Dataset, part B (disease grading): 516 photographs of 4288 x 2848 pixels from one
Kowa VX-10 alpha in Nanded, India, each with an ICDR grade and the risk of macular edema. Patients are not named.
Licence: CC BY 4.0 (Porwal, Pachade, Kokare: Indian Diabetic Retinopathy Image Dataset, 2018).
From: IEEE DataPort, "Indian Diabetic Retinopathy Image Dataset (IDRiD)": download B. Disease Grading.zip, then
  unzip "B. Disease Grading.zip" -d SOURCE

{TREE}

Counts by grade 0-4: training 134, 20, 136, 74, 49; test 34, 5, 32, 19, 13."""

_PARTS = (("train", "a. Training Set", "a. IDRiD_Disease Grading_Training Labels.csv"),
          ("test", "b. Testing Set", "b. IDRiD_Disease Grading_Testing Labels.csv"))  # fmt: skip
_NAME, _GRADE, _DME = "Image name", "Retinopathy grade", "Risk of macular edema"


def read(source, flags):
    root = source / "B. Disease Grading"
    root = root if root.is_dir() else source
    samples, rejections = [], []
    for split, folder, table in _PARTS:
        photographs = require(root / "1. Original Images" / folder, "folder", TREE)
        labels = require(root / "2. Groundtruths" / table, "file", TREE)
        for row in read_table(labels, required=(_NAME, _GRADE, _DME)):
            path = photographs / f"{row[_NAME]}.jpg"
            # The same numbers stand in both parts, for different eyes.
            image_id = f"{split}/{row[_NAME]}"
            try:
                samples.append(_sample(row, image_id=image_id, path=path, split=split))
            except ValueError as error:
                rejections.append(Rejection(image_id, str(path), str(error)))
    return Listing(samples, rejections)


def _sample(row, **fields):
    return make_sample(
        grade=whole_number(row[_GRADE], "grade", absent=-1),
        dme=whole_number(row[_DME], "DME risk", absent=-1),
        source="idrid",
        camera="Kowa VX-10 alpha",
        **fields,
    )


LAYOUT = Layout("IDRiD disease grading, as published", ABOUT, read)
