"""Read the header of a DICOM file: the eyes, the patient and the study of its photographs, and what a user must know."""

from __future__ import annotations

import dataclasses
import io
import os
from typing import TYPE_CHECKING, BinaryIO

from dr_tf.fundus import subprocesses
from dr_tf.fundus.dicom import (
    MAX_FRAMES,
    Stream,
    has_image,
    is_dicom,
    named_errors,
    number_of,
    object_kind_of,
    read_dataset,
    transfer_syntax,
)
from dr_tf.fundus.header import BadImageError
from dr_tf.image_files import is_dicom_file

if TYPE_CHECKING:
    import pydicom

_PER_FRAME, _SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
_TAGS = (
    "SOPClassUID", "Rows", "Columns", "NumberOfFrames",
    "PatientID", "IssuerOfPatientID", "StudyInstanceUID", "StudyDate", "ImageLaterality", "Laterality", _PER_FRAME, _SHARED,
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
        eyes: of each frame "left", "right", or "" if the header does not state one eye.
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
    eyes: tuple[str, ...]
    patient: tuple[str, ...]
    study: str
    study_date: str
    burned_in: bool
    frames: int
    camera: str
    age: int
    sex: str

    @property
    def eye(self) -> str:
        """The eye of all frames; "" if the header does not state it, or if they show both eyes."""
        return self.eyes[0] if len(set(self.eyes)) == 1 else ""

    @property
    def frames_by_eye(self) -> dict[str, tuple[int, ...]]:
        """{eye: numbers of its frames, counted from 1}, in order of first appearance."""
        numbers: dict[str, tuple[int, ...]] = {}
        for number, eye in enumerate(self.eyes, 1):
            numbers[eye] = (*numbers.get(eye, ()), number)
        return numbers

    def eye_of(self, frame: int) -> str:
        """Return the eye of a frame, counted from 1; that of all frames for 0."""
        return self.eyes[frame - 1] if 1 <= frame <= len(self.eyes) else self.eye

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
        return _read_info(file)


def _read_info(file: BinaryIO) -> DicomInfo:
    transfer_syntax(file.read(4096))
    file.seek(0)
    dataset = read_dataset(Stream(file), _TAGS)
    with named_errors():
        return DicomInfo(
            object_kind_of(dataset),
            has_image(dataset),
            _eyes(dataset),
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


@subprocesses.run_in_worker
def bytes_info(data: bytes) -> DicomInfo | None:
    """Return the `DicomInfo` of the bytes of a file, read in a worker process; None as `path_info`."""
    try:
        return _read_info(io.BytesIO(data)) if is_dicom(data) else None
    except BadImageError:
        return None


def _eyes(dataset: pydicom.Dataset) -> tuple[str, ...]:
    """Return the eye of each frame: of the image, else of the frame, else of the series."""
    count = min(max(1, number_of(dataset, "NumberOfFrames", 1)), MAX_FRAMES)
    of_image, of_series = (_laterality(dataset.get(name)) for name in ("ImageLaterality", "Laterality"))
    if of_image in _EYES:
        return (_EYES[of_image],) * count
    # An image of both eyes ("B") is not of the eye of its series.
    otherwise = next(filter(None, _frame_lateralities(dataset, _SHARED, 1)), of_image or of_series)
    of_frames = _frame_lateralities(dataset, _PER_FRAME, count)
    of_frames += [""] * (count - len(of_frames))
    return tuple(_EYES.get(laterality or otherwise, "") for laterality in of_frames)


def _frame_lateralities(dataset: pydicom.Dataset, name: str, most: int) -> list[str]:
    """Return what a sequence of functional groups states, group by group; "" where it states nothing."""
    if name not in dataset or (getattr(dataset.get_item(name), "length", 0) or 0) > _MAX_GROUPS_BYTES:
        return []
    groups = list(dataset[name].value or ())[:most]
    stated = ([a.get("FrameLaterality") for a in group.get("FrameAnatomySequence") or ()] for group in groups)
    return [_laterality(next(filter(None, values), "")) for values in stated]


def _laterality(value: object) -> str:
    return str(value or "").strip().upper()


def _patient(dataset: pydicom.Dataset) -> tuple[str, ...]:
    identifier = str(dataset.get("PatientID") or "").strip()
    return (str(dataset.get("IssuerOfPatientID") or "").strip(), identifier) if identifier else ()


def _age(text: str) -> int:
    """Return years from an age such as 045Y; -1 from anything else."""
    return int(text[:3]) if len(text) == 4 and text[:3].isascii() and text[:3].isdigit() and text[3] == "Y" else -1
