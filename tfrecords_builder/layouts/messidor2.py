"""Messidor-2 with adjudicated grades (Krause et al., 2018): read messidor_data.csv, messidor-2.csv and IMAGES/.

Download: images and messidor-2.csv from ADCIS after registration; messidor_data.csv from Kaggle,
google-brain/messidor2-dr-grades. Licence: research and education only (images); CC0 (grades).
"""

import argparse
import functools
import pathlib

from dr_tf.grades import EYES
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect_samples, find_images, require_path
from tfrecords_builder.samples import Listing
from tfrecords_builder.tables import parse_whole_number, read_table

TREE = """\
  SOURCE/
    messidor_data.csv         image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable
    messidor-2.csv            left;right         (may be missing: patients are then unknown)
    IMAGES/20051020_43808_0100_PP.png, IMAGES/IM000013.JPG …      1748 images"""

ABOUT = f"""\
Messidor-2: 874 examinations of diabetic patients in France, with one image of each eye. The ICDR grades and the
referable macular edema were adjudicated by three retina specialists (Krause et al., Ophthalmology 2018).
Licence: images: that of the Messidor program, for research and education only, no redistribution. Grades: CC0,
according to their Kaggle page.
From: images and messidor-2.csv: ADCIS, third-party page "Messidor-2", after registration. Grades:
  kaggle datasets download -d google-brain/messidor2-dr-grades --unzip -p SOURCE

{TREE}

The table and the folder differ in extensions (.jpg or .JPG), so an image is found by its name without extension.
Referable edema (hard exudates within one disc diameter of the macula) becomes DME risk 2. No referable edema becomes
DME risk 0, although such eyes may have exudates elsewhere. Ungradable images are rejected. No split is published; for
external validation, use --shares test=100
Counts by grade 0-4: 1017, 270, 347, 75, 35; ungradable 4."""

_NAME, _GRADE, _DME, _GRADABLE = "image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable"
_DME_RISKS = {0: 0, 1: 2}


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of the label table."""
    labels = require_path(source / "messidor_data.csv", "file", TREE)
    find = _image_finder(require_path(source / "IMAGES", "folder", TREE))
    patients = _patients(source / "messidor-2.csv")
    return collect_samples(
        (row[_NAME], find(row[_NAME]), functools.partial(_fields, row, patients))
        for row in read_table(labels, required=(_NAME, _GRADE, _DME, _GRADABLE))
    )


def _image_finder(folder):
    paths, _ = find_images(folder)
    by_name, by_stem = {p.name.lower(): p for p in paths}, {_stem(p.name): p for p in paths}
    return lambda name: by_name.get(name.lower()) or by_stem.get(_stem(name)) or folder / name


def _patients(table):
    """{stem of an image: (patient, eye)}. Patients have no published ids, so the name of their first image is used."""
    if not table.is_file():
        return {}
    patients = {}
    for row in read_table(table, required=EYES):
        patient = pathlib.Path(row["left"] or row["right"]).stem
        patients |= {_stem(row[eye]): (patient, eye) for eye in EYES if row[eye]}
    return patients


def _stem(name):
    return pathlib.Path(name).stem.lower()


def _fields(row, patients):
    if parse_whole_number(row[_GRADABLE], _GRADABLE, absent=1) == 0:
        raise ValueError("ungradable: adjudicated_gradable is 0")
    dme = parse_whole_number(row[_DME], _DME, absent=-1)
    if dme not in (-1, *_DME_RISKS):
        raise ValueError(f"unknown {_DME} {dme}")
    patient, eye = patients.get(_stem(row[_NAME]), ("", ""))
    return {
        "grade": parse_whole_number(row[_GRADE], "grade", absent=-1),
        "dme": _DME_RISKS.get(dme, -1),
        "patient_id": patient,
        "eye": eye,
        "source": "messidor2",
    }


LAYOUT = Layout("Messidor-2 with adjudicated grades", ABOUT, read)
