"""Messidor-2 with the adjudicated grades: a label table, a table of pairs, and one folder of photographs."""

import functools
import pathlib

from dr_tf.grades import EYES
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect, photographs_in, require
from tfrecords_builder.tables import read_table, whole_number

TREE = """\
  SOURCE/
    messidor_data.csv         image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable
    messidor-2.csv            left;right         (may be absent: patients are then unknown)
    IMAGES/20051020_43808_0100_PP.png, IMAGES/IM000013.JPG …      1748 photographs"""

ABOUT = f"""\
Messidor-2: 874 examinations of diabetic patients in France, one photograph of each eye, with the ICDR grades and the
referable macular edema that three retina specialists agreed on (Krause et al., Ophthalmology 2018).
Licence: the Messidor program's: research and education only, no redistribution. The grades: CC0 by their Kaggle page.
From: photographs and messidor-2.csv from ADCIS, third-party page "Messidor-2", after you register there; grades:
  kaggle datasets download -d google-brain/messidor2-dr-grades --unzip -p SOURCE

{TREE}

The table and the folder do not agree about endings (.jpg or .JPG): a photograph is found by its name without one.
Referable edema (hard exudates within one disc diameter of the macula) becomes DME risk 2, none becomes 0, though 0 here
may hide exudates elsewhere. Ungradable photographs go to rejected.csv. There is no published split; for external
validation: --shares test=100
Counts by grade 0-4: 1017, 270, 347, 75, 35; ungradable 4."""

_NAME, _GRADE, _DME, _GRADABLE = "image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable"
_DME_RISKS = {0: 0, 1: 2}


def read(source, flags):
    labels = require(source / "messidor_data.csv", "file", TREE)
    find = _finder(require(source / "IMAGES", "folder", TREE))
    people = _people(source / "messidor-2.csv")
    return collect(
        (row[_NAME], find(row[_NAME]), functools.partial(_fields, row, people))
        for row in read_table(labels, required=(_NAME, _GRADE, _DME, _GRADABLE))
    )


def _finder(folder):
    paths = photographs_in(folder)
    by_name, by_stem = {p.name.lower(): p for p in paths}, {_stem(p.name): p for p in paths}
    return lambda name: by_name.get(name.lower()) or by_stem.get(_stem(name)) or folder / name


def _people(pairs):
    """{name without ending: (patient, eye)}; the publisher numbers no patients, so the pair's first name stands."""
    if not pairs.is_file():
        return {}
    people = {}
    for row in read_table(pairs, required=EYES):
        patient = pathlib.Path(row["left"] or row["right"]).stem
        people |= {_stem(row[eye]): (patient, eye) for eye in EYES if row[eye]}
    return people


def _stem(name):
    return pathlib.Path(name).stem.lower()


def _fields(row, people):
    if whole_number(row[_GRADABLE], _GRADABLE, absent=1) == 0:
        raise ValueError("ungradable: adjudicated_gradable is 0")
    dme = whole_number(row[_DME], _DME, absent=-1)
    if dme not in (-1, *_DME_RISKS):
        raise ValueError(f"unknown {_DME} {dme}")
    patient, eye = people.get(_stem(row[_NAME]), ("", ""))
    return {
        "grade": whole_number(row[_GRADE], "grade", absent=-1),
        "dme": _DME_RISKS.get(dme, -1),
        "patient_id": patient,
        "eye": eye,
        "source": "messidor2",
    }


LAYOUT = Layout("Messidor-2 with adjudicated grades", ABOUT, read)
