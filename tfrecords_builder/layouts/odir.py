"""ODIR-5K (Peking University, 2019): read full_df.csv or data.xlsx, and the images of both eyes of each patient.

The ICDR grade of an eye is parsed from its diagnostic keywords.
Download: https://odir2019.grand-challenge.org, or Kaggle, andrewmvd/ocular-disease-recognition-odir5k.
Licence: research only, no redistribution.
"""

import argparse
import functools
import pathlib
import re

from dr_tf.grades import ABSENT, EYES, ODIR_LABELS, SEXES
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import collect_samples, require_path
from tfrecords_builder.samples import Listing
from tfrecords_builder.tables import parse_whole_number, read_table

TREE = """\
  SOURCE/
    full_df.csv                          one row per eye, as in the copy on Kaggle
    preprocessed_images/0_left.jpg …     512 x 512, cropped
  or the originals (in ODIR-5K/ODIR-5K/ of the same archive: give that folder as SOURCE)
  SOURCE/
    data.xlsx                            one row per patient
    Training Images/0_left.jpg …"""

ABOUT = f"""\
ODIR-5K, the training part of the ODIR 2019 challenge (Peking University): patients from many hospitals in China, taken
with many cameras. Each patient has an age, a sex and eight labels (N D G C A H M O). Each eye has diagnostic keywords
that doctors wrote.
Licence: for research only; no redistribution.
From: the challenge's site, odir2019.grand-challenge.org, or its copy on Kaggle:
  kaggle datasets download -d andrewmvd/ocular-disease-recognition-odir5k --unzip -p SOURCE
data.xlsx is an Excel file: pip install 'dr_tf[excel]'

{TREE}

A record is a patient with both eyes, one of which may be absent. With --single_eye, a record is one image whose grade
is known. The eight labels are always those of the patient.
The keywords of each eye are kept, and its ICDR grade is parsed from them: mild 1, moderate 2, severe 3,
proliferative 4. Plain "diabetic retinopathy" is ungraded, with any_dr 1. Suspected retinopathy is ungraded, and so are
keywords about image quality alone. All other keywords mean grade 0.
No split is published. The columns labels and target, which the copy on Kaggle adds, are not used.
Counts to check against: 6392 rows in full_df.csv, of 3358 patients; 3500 rows in data.xlsx."""

_NAMES = {"left": "Left-Fundus", "right": "Right-Fundus"}
_KEYWORDS = {"left": "Left-Diagnostic Keywords", "right": "Right-Diagnostic Keywords"}
_ID, _AGE, _SEX, _ROW_IMAGE = "ID", "Patient Age", "Patient Sex", "filename"
_PATIENT_COLUMNS = (_ID, _AGE, _SEX, *_NAMES.values(), *_KEYWORDS.values(), *ODIR_LABELS)

# Table and folder of images, as they occur together.
_PLACES = (("full_df.csv", "preprocessed_images"), ("data.xlsx", "Training Images"), ("full_df.csv", "Training Images"))

# Keyword -> ICDR grade. The publisher writes both "non proliferative" and "nonproliferative".
KEYWORD_GRADES = {
    "mild nonproliferative retinopathy": 1,
    "moderate nonproliferative retinopathy": 2,
    "severe nonproliferative retinopathy": 3,
    "proliferative diabetic retinopathy": 4,
    "severe proliferative diabetic retinopathy": 4,
    "diabetic retinopathy": ABSENT,  # a grade above 0
}
# Other keywords that contain these are uncertain, such as "suspected diabetic retinopathy".
_DR_TERMS = ("diabetic retinopathy", "proliferative retinopathy")
_QUALITY_KEYWORDS = {"low image quality", "image offset", "lens dust", "optic disk photographically invisible"}
_NO_FUNDUS_KEYWORDS = {"anterior segment image", "no fundus image"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flag --single_eye, which is the opposite of the common flag --paired."""
    # Added before --paired, so that its default (paired) is the one that argparse uses.
    parser.add_argument(
        "--single_eye", dest="paired", action="store_false", default=True, help="write one record per graded image"
    )


def keyword_list(text: str) -> list[str]:
    """Split the keywords of an eye, in small letters. The separators are commas, also Chinese ones."""
    words = (" ".join(word.lower().replace("-", " ").split()) for word in re.split("[,，]", text))
    return [word.replace("non proliferative", "nonproliferative") for word in words if word]


def grade_of_keywords(text: str) -> tuple[int, int]:
    """Return (grade, any_dr) of the keywords of an eye; -1 where they do not determine it."""
    words = keyword_list(text)
    certain = [KEYWORD_GRADES[word] for word in words if word in KEYWORD_GRADES]
    is_uncertain = any(term in word for word in words if word not in KEYWORD_GRADES for term in _DR_TERMS)
    if certain:
        return ABSENT if is_uncertain else max(certain), 1
    if is_uncertain or _QUALITY_KEYWORDS.issuperset(words):
        return ABSENT, ABSENT
    return 0, 0


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the images of both eyes of all patients."""
    table, images = _table_and_images(source)
    rows = read_table(table, required=_PATIENT_COLUMNS)
    first_row: dict[str, dict[str, str]] = {}
    for row in rows:
        first_row.setdefault(row[_ID], row)
    contradictory = {row[_ID] for row in rows if any(row[c] != first_row[row[_ID]][c] for c in _PATIENT_COLUMNS)}
    eyes = [(row, row[_ROW_IMAGE], _eye_of(row)) for row in rows if _ROW_IMAGE in row]
    listed = {"", *(name for _, name, _ in eyes)}
    # In the table with a row per eye, each row names both images of the patient. Images without a row of their own were
    # taken out of the copy, and are added here.
    eyes += [(row, row[_NAMES[e]], e) for row in first_row.values() for e in EYES if row[_NAMES[e]] not in listed]
    return collect_samples(
        (
            pathlib.Path(name).stem,
            images / name,
            functools.partial(_fields, row, name, eye, contradictory, flags.paired),
        )
        for row, name, eye in eyes
    )


def _table_and_images(source):
    for base in (source, source / "ODIR-5K", source / "ODIR-5K" / "ODIR-5K"):
        for table, folder in _PLACES:
            if (base / table).is_file() and (base / folder).is_dir():
                return base / table, base / folder
    table = source / ("data.xlsx" if (source / "data.xlsx").is_file() else "full_df.csv")
    folder = "Training Images" if table.suffix == ".xlsx" else "preprocessed_images"
    return require_path(table, "file", TREE), require_path(source / folder, "folder", TREE)


def _eye_of(row):
    return next((eye for eye in EYES if row[_NAMES[eye]] == row[_ROW_IMAGE]), "")


def _fields(row, name, eye, contradictory, paired):
    if row[_ID] in contradictory:
        raise ValueError(f"the rows of patient {row[_ID]} contradict each other")
    if not eye:
        raise ValueError(f"its row (patient {row[_ID]}) names it neither as the left nor as the right image")
    if any(other in name for other in EYES if other != eye):
        raise ValueError(f"its row lists it as the {eye} eye, but the file name names the other eye")
    keywords = row[_KEYWORDS[eye]]
    if no_fundus := _NO_FUNDUS_KEYWORDS & set(keyword_list(keywords)):
        raise ValueError(f"not a fundus image, according to the keyword: {min(no_fundus)}")
    grade, any_dr = grade_of_keywords(keywords)
    if not paired and grade == ABSENT:
        reason = "diabetic retinopathy without a grade" if any_dr == 1 else "the keywords determine no grade"
        raise ValueError(f"ungraded: {reason}")
    return {
        "grade": grade,
        "any_dr": any_dr,
        "labels": tuple(_label(row, letter) for letter in ODIR_LABELS),
        "age": parse_whole_number(row[_AGE], "age", absent=ABSENT),
        "sex": _sex(row[_SEX]),
        "patient_id": row[_ID],
        "eye": eye,
        "keywords": keywords,
        "source": "odir",
    }


def _label(row, letter):
    label = parse_whole_number(row[letter], letter, absent=ABSENT)
    if label not in (ABSENT, 0, 1):
        raise ValueError(f"unknown {letter} {label}: it must be 0 or 1")
    return label


def _sex(text):
    if text and text.lower() not in SEXES:
        raise ValueError(f"unknown sex {text!r}")
    return text.lower()


LAYOUT = Layout("ODIR-5K, one record per patient with both eyes", ABOUT, read, add_flags)
