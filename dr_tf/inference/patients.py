"""The patient and the eye of each image, from its file name, DICOM header or a table, and grouping of decisions by patient."""

from __future__ import annotations

import csv
import os
import pathlib
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from dr_tf.console import UserError
from dr_tf.fundus.dicom_header import path_info
from dr_tf.grades import SEXES
from dr_tf.image_files import is_dicom_file
from dr_tf.inference.decision import Decision, PatientDecision
from dr_tf.safe_names import printable

_EYE = {"left": "left", "os": "left", "l": "left", "right": "right", "od": "right", "r": "right"}
_SEX = {"f": "female", "m": "male", **{sex: sex for sex in SEXES}}
_OLDEST = 130
_SIDE = "left|right|os|od"
# 123_left, 123-OD, 123_L, 123_l1 (the first of several), 123_left_2; OD_123. A single letter at the start is not an
# eye: it is more often the prefix of a camera or study.
_PATTERNS = (
    re.compile(rf"(?P<patient>.+?)[ _.-]+(?P<eye>{_SIDE}|l|r)(?:[ _.-]?\d{{1,2}})?", re.IGNORECASE),
    re.compile(rf"(?P<eye>{_SIDE})[ _.-]+(?P<patient>.+)", re.IGNORECASE),
)
COLUMNS = ("image", "patient", "eye")


class PatientRow(NamedTuple):
    """What a table states about an image.

    Attributes:
        patient: the patient.
        eye: "left", "right", or "" if unknown.
        age: of the patient in years; None if unknown.
        sex: "female", "male", or "" if unknown.
    """

    patient: str
    eye: str
    age: float | None = None
    sex: str = ""


def parse_file_name(path: str | os.PathLike) -> tuple[str, str]:
    """Parse a file name such as "12_left.jpg".

    Returns:
        (patient, "left" or "right"); (the whole name, "") if the name contains no eye.
    """
    stem = pathlib.PurePath(path).stem
    for pattern in _PATTERNS:
        if match := pattern.fullmatch(stem):
            return match["patient"], _EYE[match["eye"].lower()]
    return stem, ""


def read_patient_table(path: str | os.PathLike) -> dict[str, PatientRow]:
    """Read a CSV table with the columns image, patient and eye (left, right, OS, OD, L, R or empty).

    The columns age (in years) and sex (female, male, F, M or empty) may be added, for networks that take them.

    Returns:
        {image: PatientRow}.

    Raises:
        UserError: the file is not such a table; the message contains the line.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)  # an unclosed quote would otherwise swallow rows
            rows, names = list(reader), list(reader.fieldnames or ())
    except FileNotFoundError as error:
        raise UserError(f"there is no file {printable(path)}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{printable(path)} cannot be read as a CSV table: {reason}") from error
    if not rows or [names.count(name) for name in COLUMNS] != [1] * len(COLUMNS):
        raise UserError(f"{printable(path)} needs rows, and the columns {', '.join(COLUMNS)} once each")
    table: dict[str, PatientRow] = {}
    for number, row in enumerate(rows, start=2):
        image, patient, eye = ((row[name] or "").strip() for name in COLUMNS)
        if not image or not patient or (eye and eye.lower() not in _EYE):
            raise UserError(
                f"{path}, line {number}: needs an image, a patient, and an eye ({', '.join(_EYE)} or empty)"
            )
        try:
            found = PatientRow(patient, _EYE.get(eye.lower(), ""), parse_age(row.get("age")), parse_sex(row.get("sex")))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        if table.setdefault(image, found) != found:
            raise UserError(
                f"{path}, line {number}: {printable(image)} has another patient, eye, age or sex in an earlier line"
            )
    return table


def parse_age(text: str | None) -> float | None:
    """Return the years of an age; None for an empty text. Raises ValueError if it is not an age."""
    if not (text := (text or "").strip()):
        return None
    if not text.replace(".", "", 1).isdecimal() or not 0 <= float(text) <= _OLDEST:
        raise ValueError(f"the age is a number of years from 0 to {_OLDEST}, not {printable(text)}")
    return float(text)


def parse_sex(text: str | None) -> str:
    """Return "female", "male" or "" of female, male, F, M or an empty text. Raises ValueError for any other."""
    if not (text := (text or "").strip().lower()):
        return ""
    if text not in _SEX:
        raise ValueError(f"the sex is {', '.join(_SEX)} or empty, not {printable(text)}")
    return _SEX[text]


class ImagePatient(NamedTuple):
    """Whose image it is.

    Attributes:
        key: what identifies the patient.
        row: the patient's name, the eye, the age and the sex.
    """

    key: Hashable
    row: PatientRow


def patient_of_image(image: str, table: Mapping[str, PatientRow] | None = None, frame: int = 0) -> ImagePatient:
    """Return the patient of an image, and what is known about both.

    Args:
        image: the path of the image.
        table: {image: PatientRow}, by path, file name or stem. Without it the file name is parsed, and equal names
            in two folders are two patients. Of a DICOM file the header is read instead: its patient is one patient in
            one study, and is named by the path, so that nothing of the header is shown.
        frame: of a DICOM file with several, counted from 1. An eye that the table leaves empty is that of the header.

    Raises:
        UserError: the table has no row for the image, or names another eye than its DICOM header.
    """
    path, info = pathlib.PurePath(image), path_info(image)
    stated = info.eye_of(frame) if info else ""
    if table is None:
        if info is not None:
            age = None if info.age < 0 else float(info.age)
            return ImagePatient(info.patient_of_study or path, PatientRow(image, stated, age, info.sex))
        if is_dicom_file(image):  # a damaged header
            return ImagePatient(path, PatientRow(image, ""))
        patient, eye = parse_file_name(path)
        return ImagePatient((path.parent, patient), PatientRow(patient, eye))
    for name in (image, path.name, path.stem):
        if name in table:
            row = table[name]
            if row.eye and stated not in ("", row.eye):
                raise UserError(f"{printable(image)}: the patient table says {row.eye}, its DICOM header {stated}")
            return ImagePatient(row.patient, row._replace(eye=row.eye or stated))
    raise UserError(f"the patient table has no row for {printable(image)}")


def group_by_patient(
    decisions: Iterable[Decision], table: Mapping[str, PatientRow] | None = None
) -> list[PatientDecision]:
    """Aggregate decisions on single images to one PatientDecision for each patient, in order of first appearance.

    Args:
        decisions: their cases are named by the paths of the images, unless they have their images.
        table: as in `patient_of_image`.
    """
    eyes: dict[Hashable, list[tuple[str, Decision]]] = {}
    names: dict[Hashable, str] = {}
    for decision in decisions:
        image = next(iter(decision.images.values()), None)
        path, frame = (image.photograph, image.frame) if image else (decision.case, 0)
        key, row = patient_of_image(path, table, frame)
        names.setdefault(key, row.patient)
        eyes.setdefault(key, []).append((row.eye, decision))
    return [PatientDecision(names[key], tuple(by_eye)) for key, by_eye in eyes.items()]
