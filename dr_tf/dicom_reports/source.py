"""The DICOM photographs that an answer is about, what decided, and writing of DICOM objects."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dr_tf
from dr_tf import files
from dr_tf.fundus.dicom import Stream, read_dataset, transfer_syntax
from dr_tf.fundus.dicom_header import DicomInfo, read_info
from dr_tf.fundus.header import BadImageError

if TYPE_CHECKING:
    import pydicom

# An answer is filed with the patient and the study of its photograph, so these are copied.
PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_REQUIRED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_OTHERS = ("NumberOfFrames", "Rows", "Columns", "Modality")
MANUFACTURER = "dr_tf"


@dataclasses.dataclass(frozen=True)
class Source:
    """A DICOM photograph.

    Attributes:
        path: of the file.
        header: patient, study and UIDs, as a pydicom Dataset.
        info: what the header states about the photograph.
        frame: that was taken, counted from 1; 0 if the file has one frame, or none that can be used.
    """

    path: str
    header: pydicom.Dataset
    info: DicomInfo
    frame: int = 0

    @property
    def eye(self) -> str:
        """The eye of the photograph; "" if the header does not state it."""
        return self.info.eye_of(self.frame)


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """What made a decision, as an answer identifies it.

    Attributes:
        parameters: "NAME: VALUE" of the model and its decision rule.
    """

    parameters: tuple[str, ...]
    name: str = MANUFACTURER
    version: str = dr_tf.__version__


def read_source(path: str | os.PathLike[str], frame: int = 0) -> Source:
    """Read the header of a photograph for an answer.

    Raises:
        BadImageError: the file is damaged, or lacks a UID that an answer must refer to.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        transfer_syntax(file.read(4096))
        file.seek(0)
        header = read_dataset(Stream(file), (*PATIENT_AND_STUDY, *_REQUIRED, *_OTHERS))
    if missing := [name for name in _REQUIRED if not header.get(name)]:
        raise BadImageError(f"its header has no {' and no '.join(missing)}")
    return Source(os.fspath(path), header, read_info(path), frame)


def check_one_study(sources: Sequence[Source]) -> None:
    """Raise BadImageError if an answer would be about two studies."""
    if len({source.header.StudyInstanceUID for source in sources}) != 1:
        raise BadImageError("its photographs are of two studies")


def write_object(path: str | os.PathLike[str], made: pydicom.Dataset) -> None:
    """Write a DICOM object atomically."""
    with files.atomic_write(path) as unfinished:
        made.save_as(unfinished, enforce_file_format=True)
