"""Uploaded photographs, and the patients they belong to. Names are only shown: no file is opened by them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable

from dr_tf.fundus.dicom import is_dicom
from dr_tf.fundus.dicom_header import DicomInfo, bytes_info
from dr_tf.grades import EYES
from dr_tf.inference.case import SINGLE, Case
from dr_tf.inference.patients import parse_file_name


@dataclasses.dataclass(frozen=True)
class Photograph:
    """An uploaded file.

    Attributes:
        name: as the visitor's browser gave it, perhaps with folders.
        data: its content.
    """

    name: str
    data: bytes


@dataclasses.dataclass(frozen=True)
class PatientCases:
    """What is decided about one patient.

    Attributes:
        patient: the name that files share, such as "12" of 12_left.jpg.
        cases: (eye, case) of each photograph; one pair with the eye "" for a model of both eyes.
        unused: names of photographs that a model of both eyes cannot take: their eye is unknown, or has another one.
    """

    patient: str
    cases: tuple[tuple[str, Case], ...]
    unused: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Owner:
    key: tuple
    patient: str
    eye: str
    info: DicomInfo | None


def group_by_patient(photographs: Iterable[Photograph], *, paired: bool) -> list[PatientCases]:
    """Group photographs by the patient in their names, or in their DICOM headers, in order of first appearance.

    Args:
        photographs: the files.
        paired: whether the model takes both eyes of a patient at once.
    """
    by_patient: dict[tuple, list[tuple[_Owner, Photograph]]] = {}
    for photograph in photographs:
        owner = _owner(photograph)
        by_patient.setdefault(owner.key, []).append((owner, photograph))
    build = _pair if paired else _single
    return [build(owned[0][0].patient, sorted(owned, key=_left_first)) for owned in by_patient.values()]


def _owner(photograph: Photograph) -> _Owner:
    path = pathlib.PurePosixPath(photograph.name)
    info = bytes_info(photograph.data) if is_dicom(photograph.data) else None
    if info is not None:
        return _Owner(info.patient_of_study or (photograph.name,), path.name, info.eye, info)
    patient, eye = parse_file_name(path)
    return _Owner((str(path.parent), patient), patient, eye, None)


def _left_first(owned):
    eye = owned[0].eye
    return EYES.index(eye) if eye in EYES else len(EYES)


def _single(patient, owned):
    cases = tuple((owner.eye, Case.from_image(photo.data, photo.name)) for owner, photo in owned)
    return PatientCases(patient, cases)


def _pair(patient, owned):
    images: dict[str, tuple[bytes, ...]] = {}
    unused = []
    for owner, photo in owned:
        if owner.eye and owner.eye not in images:
            images[owner.eye] = (photo.data,)
        else:
            unused.append(photo.name)
    info = next((owner.info for owner, _ in owned if owner.info is not None), None)
    age = None if info is None or info.age < 0 else float(info.age)
    cases = ((SINGLE, Case(patient, images, age, info.sex if info else "")),) if images else ()
    return PatientCases(patient, cases, tuple(unused))
