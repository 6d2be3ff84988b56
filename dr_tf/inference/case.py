"""Cases: what one decision is about, either one image or both eyes of a patient (one of them may be missing)."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Hashable, Iterable, Iterator, Mapping

import numpy as np

from dr_tf.console import UserError
from dr_tf.fundus.dicom_header import path_info
from dr_tf.grades import ABSENT, EYES, sex_number
from dr_tf.image_files import is_dicom_file
from dr_tf.inference.patients import PatientRow, patient_of_image
from dr_tf.safe_names import printable

SINGLE = ""  # the eye key of a case of one image


@dataclasses.dataclass(frozen=True)
class Frames(os.PathLike):
    """Frames of a DICOM file that show one eye: the most gradable one is its photograph.

    Attributes:
        path: of the file.
        numbers: of the frames, counted from 1.
    """

    path: str
    numbers: tuple[int, ...]

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path


@dataclasses.dataclass(frozen=True)
class NamedBytes:
    """The bytes of an image file that is not on a disk, such as an upload.

    Attributes:
        name: under which the image is reported. It is never opened.
        data: the bytes.
        numbers: of a DICOM file with several frames those that show one eye, counted from 1; by default all.
    """

    name: str
    data: bytes = dataclasses.field(repr=False)
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.name


# An image as a path, the bytes of a file with or without a name, or uint8 RGB pixels [height, width, 3].
ImageSource = str | os.PathLike | bytes | NamedBytes | np.ndarray


@dataclasses.dataclass(frozen=True)
class Case:
    """The images that one decision is based on.

    Attributes:
        name: the name under which the decision is reported.
        images: {eye: images of that eye}. The key of a single image is SINGLE. Of several images of an eye the network
            receives the most gradable one.
        age: of the patient in years; None if unknown. Only some networks of both eyes use it.
        sex: "female" or "male"; empty if unknown. Only some networks of both eyes use it.
    """

    name: str
    images: dict[str, tuple[ImageSource, ...]]
    age: float | None = None
    sex: str = ""

    def patient_values(self) -> dict[str, float]:
        """Return the value of each of `dr_tf.grades.PATIENT_FIELDS`, as a network takes it."""
        return {"age": ABSENT if self.age is None else self.age, "sex": sex_number(self.sex)}

    @classmethod
    def from_image(cls, image: ImageSource, name: str = "") -> Case:
        """Return the case of one image, named by `name`, else by its path, else "photograph"."""
        return cls(name or _path_or(image, "photograph"), {SINGLE: (image,)})


def _path_or(image: ImageSource, name: str) -> str:
    return str(image) if isinstance(image, (str, os.PathLike)) else name


def as_cases(items: Iterable[Case | ImageSource]) -> Iterator[Case]:
    """Yield every item as a Case. An image becomes a case named by its path, or else by its position."""
    for number, item in enumerate(items, 1):
        yield item if isinstance(item, Case) else Case.from_image(item, _path_or(item, f"photograph {number}"))


def single_cases(paths: Iterable[str | os.PathLike]) -> Iterator[Case]:
    """Yield the cases of image files for a model of one photograph: one for each file.

    A DICOM file whose frames show both eyes has a case for each eye, named by the path and the eye.
    """
    for path in paths:
        images = _images_of(path)
        for image, eye in images:
            yield Case.from_image(image, f"{path} ({eye or 'unknown'} eye)" if len(images) > 1 else "")


def _images_of(path: str | os.PathLike) -> list[tuple[ImageSource, str]]:
    """Return (image, eye) of the file; of a DICOM file whose frames show both eyes, those of each eye."""
    info = path_info(path)
    by_eye = info.frames_by_eye if info is not None else {}
    if len(by_eye) < 2:
        return [(path, next(iter(by_eye), ""))]
    return [(Frames(os.fspath(path), numbers), eye) for eye, numbers in by_eye.items()]


def pairs(paths: Iterable[str | pathlib.Path], table: Mapping[str, PatientRow] | None = None) -> list[Case]:
    """Group images into one case of both eyes for each patient, in order of first appearance.

    Args:
        paths: images whose file names, DICOM headers or rows in `table` contain the patient and the eye.
        table: {image: PatientRow} as `patients.read_patient_table` returns it. Without it, the age and the sex are those in
            the DICOM headers.

    Raises:
        UserError: the eye of an image is unknown.
    """
    by_patient: dict = {}
    rows: dict[Hashable, PatientRow] = {}
    images = ((path, image) for path in paths for image, _ in _images_of(path))
    for path, image in images:
        key, row = patient_of_image(str(path), table, image.numbers[0] if isinstance(image, Frames) else 0)
        if not row.eye:
            raise UserError(
                f"{printable(path)}: {_no_eye(path)}, and this model takes both eyes of a patient; "
                f"{'' if is_dicom_file(path) else 'rename it to PATIENT_left or PATIENT_right, or '}list it in a "
                "--patient_table"
            )
        rows.setdefault(key, row)
        by_patient.setdefault(key, {}).setdefault(row.eye, []).append(image)
    return [
        Case(
            row.patient, {eye: tuple(by_patient[key][eye]) for eye in EYES if eye in by_patient[key]}, row.age, row.sex
        )
        for key, row in rows.items()
    ]


def _no_eye(path: str | pathlib.Path) -> str:
    return (
        "the DICOM header does not state the eye" if is_dicom_file(path) else "the file name does not contain the eye"
    )
