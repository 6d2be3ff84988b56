"""Which photographs are one patient's, and which eye each shows: by the file's name, or by a table."""

import csv
import pathlib
import re

from dr_tf.console import UserError
from dr_tf.inference.decision import PatientDecision

_EYE = {"left": "left", "os": "left", "l": "left", "right": "right", "od": "right", "r": "right"}
_SIDE = "left|right|os|od"
# 123_left, 123-OD, 123_L, 123_l1 (the first of several), 123_left_2; OD_123. A single letter in front is more often a
# camera's or a study's.
_NAMES = (
    re.compile(rf"(?P<patient>.+?)[ _.-]+(?P<eye>{_SIDE}|l|r)(?:[ _.-]?\d{{1,2}})?", re.IGNORECASE),
    re.compile(rf"(?P<eye>{_SIDE})[ _.-]+(?P<patient>.+)", re.IGNORECASE),
)
COLUMNS = ("image", "patient", "eye")


def by_name(path):
    """(patient, eye) as the name has it; the whole name and an empty eye where it says nothing."""
    stem = pathlib.PurePath(path).stem
    for pattern in _NAMES:
        if match := pattern.fullmatch(stem):
            return match["patient"], _EYE[match["eye"].lower()]
    return stem, ""


def read_table(path):
    """{image: (patient, eye)} from a CSV with the columns image, patient and eye (left, right, OS, OD, L, R or empty)."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table that can be read: {error}") from error
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise UserError(f"{path} needs rows and the columns {', '.join(COLUMNS)}")
    table = {}
    for number, row in enumerate(rows, start=2):
        image, patient, eye = ((row[name] or "").strip() for name in COLUMNS)
        if not image or not patient or (eye and eye.lower() not in _EYE):
            raise UserError(
                f"{path}, line {number}: needs an image, a patient, and an eye of {', '.join(_EYE)} or none"
            )
        if table.setdefault(image, (patient, _EYE.get(eye.lower(), ""))) != (patient, _EYE.get(eye.lower(), "")):
            raise UserError(f"{path}, line {number}: {image} was somebody else's before")
    return table


def whose(photograph, table=None):
    """(key, patient, eye). Without a table equal names in two folders are two patients."""
    path = pathlib.PurePath(photograph)
    if table is None:
        patient, eye = by_name(path)
        return (path.parent, patient), patient, eye
    for name in (photograph, path.name, path.stem):
        if name in table:
            patient, eye = table[name]
            return patient, patient, eye
    raise UserError(f"the table of patients does not name {photograph}")


def by_patient(decisions, table=None):
    """A PatientDecision for each patient, in the order in which they first came."""
    eyes, names = {}, {}
    for decision in decisions:
        key, patient, eye = whose(decision.case, table)
        names[key] = patient
        eyes.setdefault(key, []).append((eye, decision))
    return [PatientDecision(names[key], tuple(shown)) for key, shown in eyes.items()]
