"""ODIR-5K: patients with two eyes, labels of the patient, and keywords of each eye that tell its ICDR grade."""

import functools
import pathlib
import re

from dr_tf.grades import ABSENT, EYES, ODIR_LABELS
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect, require
from tfrecords_builder.samples import SEXES
from tfrecords_builder.tables import read_table, whole_number

TREE = """\
  SOURCE/
    full_df.csv                          one row an eye, as the Kaggle copy has it
    preprocessed_images/0_left.jpg …     512 x 512, cropped
  or, the originals (below ODIR-5K/ODIR-5K/ in the same archive: give that folder as SOURCE)
  SOURCE/
    data.xlsx                            one row a patient
    Training Images/0_left.jpg …"""

ABOUT = f"""\
ODIR-5K, the training part of the ODIR 2019 challenge (Peking University): patients from many hospitals in China and
many cameras, with age, sex, eight labels of the patient (N D G C A H M O) and doctors' keywords of each eye.
Licence: for research; never redistribute.
From: the challenge's site, odir2019.grand-challenge.org, or its copy on Kaggle:
  kaggle datasets download -d andrewmvd/ocular-disease-recognition-odir5k --unzip -p SOURCE
data.xlsx is a table of Excel: pip install 'dr_tf[excel]'

{TREE}

A record is a patient with both eyes, one of which may be absent; with --single_eye, a photograph whose grade is known.
The labels are the patient's in both. Each eye's keywords are kept, and its ICDR grade is read from them: mild 1,
moderate 2, severe 3, proliferative 4; plain "diabetic retinopathy" is ungraded with any_dr 1, a suspected one and
keywords that speak of the picture's quality alone are ungraded; all others are 0. There is no published split, and the
columns labels and target, which the copy adds, are not used.
Counts to check against: 6392 rows in full_df.csv, of 3358 patients; 3500 rows in data.xlsx."""

_NAMES = {"left": "Left-Fundus", "right": "Right-Fundus"}
_KEYWORDS = {"left": "Left-Diagnostic Keywords", "right": "Right-Diagnostic Keywords"}
_ID, _AGE, _SEX, _ROW_OF = "ID", "Patient Age", "Patient Sex", "filename"
_PATIENT = (_ID, _AGE, _SEX, *_NAMES.values(), *_KEYWORDS.values(), *ODIR_LABELS)

_PLACES = (("full_df.csv", "preprocessed_images"), ("data.xlsx", "Training Images"), ("full_df.csv", "Training Images"))

# What a keyword says of diabetic retinopathy. The publisher writes "non proliferative" and "nonproliferative".
KEYWORD_GRADES = {
    "mild nonproliferative retinopathy": 1,
    "moderate nonproliferative retinopathy": 2,
    "severe nonproliferative retinopathy": 3,
    "proliferative diabetic retinopathy": 4,
    "severe proliferative diabetic retinopathy": 4,
    "diabetic retinopathy": ABSENT,  # some grade above 0
}
# Keywords of it that are not in the table are doubts, as "suspected diabetic retinopathy".
_OF_DR = ("diabetic retinopathy", "proliferative retinopathy")
_QUALITY = {"low image quality", "image offset", "lens dust", "optic disk photographically invisible"}
_NO_FUNDUS = {"anterior segment image", "no fundus image"}


def add_flags(parser):
    # First, so that its default stands against that of --paired.
    parser.add_argument(
        "--single_eye", dest="paired", action="store_false", default=True, help="one record a graded photograph"
    )


def keyword_list(text):
    """The keywords of an eye, in small letters; Chinese commas separate them, too."""
    words = (" ".join(word.lower().replace("-", " ").split()) for word in re.split("[,，]", text))
    return [word.replace("non proliferative", "nonproliferative") for word in words if word]


def grade_of_keywords(text):
    """(grade, any_dr), -1 where the keywords do not tell."""
    words = keyword_list(text)
    certain = [KEYWORD_GRADES[word] for word in words if word in KEYWORD_GRADES]
    doubtful = any(part in word for word in words if word not in KEYWORD_GRADES for part in _OF_DR)
    if certain:
        return ABSENT if doubtful else max(certain), 1
    if doubtful or _QUALITY.issuperset(words):
        return ABSENT, ABSENT
    return 0, 0


def read(source, flags):
    table, photographs = _places(source)
    rows = read_table(table, required=_PATIENT)
    first = {}
    for row in rows:
        first.setdefault(row[_ID], row)
    torn = {row[_ID] for row in rows if any(row[c] != first[row[_ID]][c] for c in _PATIENT)}
    eyes = [(row, row[_ROW_OF], _eye_of(row)) for row in rows if _ROW_OF in row]
    listed = {name for _, name, _ in eyes}
    # The table of single eyes names both of a patient in each row, and has no row for those that were taken out.
    eyes += [(row, row[_NAMES[e]], e) for row in first.values() for e in EYES if row[_NAMES[e]] not in {"", *listed}]
    return collect(
        (pathlib.Path(name).stem, photographs / name, functools.partial(_fields, row, name, eye, torn, flags.paired))
        for row, name, eye in eyes
    )


def _places(source):
    bases = (source, source / "ODIR-5K", source / "ODIR-5K" / "ODIR-5K")
    for base in bases:
        for table, folder in _PLACES:
            if (base / table).is_file() and (base / folder).is_dir():
                return base / table, base / folder
    table = source / ("data.xlsx" if (source / "data.xlsx").is_file() else "full_df.csv")
    folder = "Training Images" if table.suffix == ".xlsx" else "preprocessed_images"
    return require(table, "file", TREE), require(source / folder, "folder", TREE)


def _eye_of(row):
    return next((eye for eye in EYES if row[_NAMES[eye]] == row[_ROW_OF]), "")


def _fields(row, name, eye, torn, paired):
    if row[_ID] in torn:
        raise ValueError(f"the rows of patient {row[_ID]} contradict each other")
    if not eye:
        raise ValueError(f"its row, of patient {row[_ID]}, names it neither as left nor as right")
    if any(other in name for other in EYES if other != eye):
        raise ValueError(f"its row lists it as the {eye} eye")
    keywords = row[_KEYWORDS[eye]]
    if shown := _NO_FUNDUS & set(keyword_list(keywords)):
        raise ValueError(f"no fundus, say its keywords: {min(shown)}")
    grade, any_dr = grade_of_keywords(keywords)
    if not paired and grade == ABSENT:
        raise ValueError(f"ungraded: {'DR without a grade' if any_dr == 1 else 'its keywords do not tell'}")
    return {
        "grade": grade,
        "any_dr": any_dr,
        "labels": tuple(_label(row, letter) for letter in ODIR_LABELS),
        "age": whole_number(row[_AGE], "age", absent=ABSENT),
        "sex": _sex(row[_SEX]),
        "patient_id": row[_ID],
        "eye": eye,
        "keywords": keywords,
        "source": "odir",
    }


def _label(row, letter):
    label = whole_number(row[letter], letter, absent=ABSENT)
    if label not in (ABSENT, 0, 1):
        raise ValueError(f"unknown {letter} {label}: it must be 0 or 1")
    return label


def _sex(text):
    if text and text.lower() not in SEXES:
        raise ValueError(f"unknown sex {text!r}")
    return text.lower()


LAYOUT = Layout("ODIR-5K, both eyes of a patient in a record", ABOUT, read, add_flags)
