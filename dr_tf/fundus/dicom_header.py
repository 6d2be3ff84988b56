"""Read the header of a DICOM file: the eye, the patient and the study of its photograph, and what a user must know of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dr_tf.fundus.dicom import Stream, has_image, named_errors, number_of, object_kind_of, read_dataset, transfer_syntax
from dr_tf.fundus.header import BadImageError
from dr_tf.image_files import is_dicom_file

if TYPE_CHECKING:
    import pydicom

_FRAME_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
_TAGS = (
    "SOPClassUID", "Rows", "Columns", "NumberOfFrames",
    "PatientID", "IssuerOfPatientID", "StudyInstanceUID", "StudyDate", "ImageLaterality", "Laterality", *_FRAME_GROUPS,
    "BurnedInAnnotation", "ManufacturerModelName", "PatientAge", "PatientSex",
)  # fmt: skip
_EYES = {"L": "left", "R": "right"}
_MAX_GROUPS_BYTES = 1_000_000  # of the functional groups: pydicom makes objects of all their elements


@dataclasses.dataclass(frozen=True)
class DicomInfo:
    """What the header of a DICOM file states about its photograph.

    Attributes:
        object_kind: the name of the kind of object, such as "Ophthalmic Photography 8 Bit Image Storage".
        has_image: whether there is an image at all.
        eye: "left", "right", or "" if the header does not state one eye.
        patient: (issuer, patient ID); empty if there is no ID.
        study: the UID of the study.
        study_date: YYYYMMDD or empty.
        burned_in: whether the header states that text is burned into the image.
        frames: the number of frames.
        camera: the model of the camera.
        age: of the patient in years; -1 if unknown.
        sex: "female", "male" or "".
    """

    object_kind: str
    has_image: bool
    eye: str
    patient: tuple[str, ...]
    study: str
    study_date: str
    burned_in: bool
    frames: int
    camera: str
    age: int
    sex: str

    @property
    def patient_of_study(self) -> tuple[str, ...]:
        """Return what identifies the patient in one study: the eyes of two studies are not a pair. Empty if unknown."""
        return (*self.patient, self.study) if self.study else ()


def read_info(path: str | os.PathLike[str]) -> DicomInfo:
    """Read the header of a DICOM file. The pixels are not read.

    Raises:
        BadImageError: the file is damaged, or pydicom is not installed.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        transfer_syntax(file.read(4096))
        file.seek(0)
        dataset = read_dataset(Stream(file), _TAGS)
    with named_errors():
        return DicomInfo(
            object_kind_of(dataset),
            has_image(dataset),
            _eye(dataset),
            _patient(dataset),
            str(dataset.get("StudyInstanceUID") or ""),
            str(dataset.get("StudyDate") or ""),
            str(dataset.get("BurnedInAnnotation") or "").upper() == "YES",
            number_of(dataset, "NumberOfFrames", 1),
            str(dataset.get("ManufacturerModelName") or ""),
            _age(str(dataset.get("PatientAge") or "")),
            {"F": "female", "M": "male"}.get(str(dataset.get("PatientSex") or "").upper(), ""),
        )


def path_info(path: str | os.PathLike[str]) -> DicomInfo | None:
    """Return the `DicomInfo` of a file; None for a file of another format or that cannot be read."""
    try:
        return read_info(path) if is_dicom_file(path) else None
    except (BadImageError, OSError):
        return None


def _eye(dataset: pydicom.Dataset) -> str:
    """Return the eye of the first frame: of the image, else of the frame, else of the series."""
    values = [dataset.get("ImageLaterality"), *_frame_lateralities(dataset), dataset.get("Laterality")]
    stated = [str(value).strip().upper() for value in values if value]
    return _EYES.get(stated[0], "") if stated else ""


def _frame_lateralities(dataset: pydicom.Dataset) -> Iterator[str]:
    for name in _FRAME_GROUPS:
        if name not in dataset or (getattr(dataset.get_item(name), "length", 0) or 0) > _MAX_GROUPS_BYTES:
            continue
        for group in list(dataset[name].value or ())[:1]:
            for anatomy in group.get("FrameAnatomySequence") or ():
                yield anatomy.get("FrameLaterality") or ""


def _patient(dataset: pydicom.Dataset) -> tuple[str, ...]:
    identifier = str(dataset.get("PatientID") or "").strip()
    return (str(dataset.get("IssuerOfPatientID") or "").strip(), identifier) if identifier else ()


def _age(text: str) -> int:
    """Return years from an age such as 045Y; -1 from anything else."""
    return int(text[:3]) if len(text) == 4 and text[:3].isascii() and text[:3].isdigit() and text[3] == "Y" else -1
