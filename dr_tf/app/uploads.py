"""Uploaded photographs, and the patients they belong to. Names are only shown: no file is opened by them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator

from dr_tf.fundus.dicom import is_dicom
from dr_tf.fundus.dicom_header import DicomInfo, bytes_info
from dr_tf.grades import EYES
from dr_tf.inference.case import SINGLE, Case, NamedBytes
from dr_tf.inference.patients import parse_file_name


@dataclasses.dataclass(frozen=True)
class Photograph:
    """An uploaded file.

    Attributes:
        name: as the visitor's browser gave it, perhaps with folders.
        data: its content.
        frames: of a DICOM file whose frames show both eyes, those of one eye, counted from 1; else empty.
    """

    name: str
    data: bytes
    frames: tuple[int, ...] = ()

    @property
    def image(self) -> bytes | NamedBytes:
        """What a case takes."""
        return NamedBytes(self.name, self.data, self.frames) if self.frames else self.data


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
        for owner, of_eye in _owners(photograph):
            by_patient.setdefault(owner.key, []).append((owner, of_eye))
    build = _pair if paired else _single
    return [build(owned[0][0].patient, sorted(owned, key=_left_first)) for owned in by_patient.values()]


def _owners(photograph: Photograph) -> Iterator[tuple[_Owner, Photograph]]:
    """Yield the photograph with its owner; of a DICOM file whose frames show both eyes, that of each eye."""
    path = pathlib.PurePosixPath(photograph.name)
    info = bytes_info(photograph.data) if is_dicom(photograph.data) else None
    if info is None:
        patient, eye = parse_file_name(path)
        yield _Owner((str(path.parent), patient), patient, eye, None), photograph
        return
    for eye, numbers in info.frames_by_eye.items():
        frames = numbers if len(info.frames_by_eye) > 1 else ()
        owner = _Owner(info.patient_of_study or (photograph.name,), path.name, eye, info)
        yield owner, dataclasses.replace(photograph, frames=frames)


def _left_first(owned):
    eye = owned[0].eye
    return EYES.index(eye) if eye in EYES else len(EYES)


def _single(patient, owned):
    cases = tuple((owner.eye, Case(photo.name, {SINGLE: (photo.image,)})) for owner, photo in owned)
    return PatientCases(patient, cases)


def _pair(patient, owned):
    images: dict[str, tuple[bytes | NamedBytes, ...]] = {}
    unused = []
    for owner, photo in owned:
        if owner.eye and owner.eye not in images:
            images[owner.eye] = (photo.image,)
        else:
            unused.append(photo.name)
    info = next((owner.info for owner, _ in owned if owner.info is not None), None)
    age = None if info is None or info.age < 0 else float(info.age)
    cases = ((SINGLE, Case(patient, images, age, info.sex if info else "")),) if images else ()
    return PatientCases(patient, cases, tuple(unused))
