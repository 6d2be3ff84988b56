"""From the photographs of a request to cases, as `dr_tf predict` makes them of the same files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from dr_tf.fundus.dicom import is_dicom
from dr_tf.fundus.dicom_header import DicomInfo, bytes_info
from dr_tf.grades import EYES
from dr_tf.inference.case import SINGLE, Case, NamedBytes
from dr_tf.inference.decision import Decision, PatientDecision
from dr_tf.inference.patients import parse_file_name
from dr_tf.safe_names import printable
from dr_tf.serve.form import IMAGE, Form, UploadedFile
from dr_tf.serve.request_error import RequestError


@dataclasses.dataclass(frozen=True)
class Question:
    """The cases of a request.

    Attributes:
        cases: what is decided on.
        eyes: the eye of each case, "" if unknown.
        patient: the name of the patient whose eyes they are; "" if no decision on a patient is asked for.
    """

    cases: tuple[Case, ...]
    eyes: tuple[str, ...] = ()
    patient: str = ""

    def patient_decision(self, decisions: Sequence[Decision]) -> PatientDecision | None:
        """Return the decision on the patient from those on the eyes; None if it is not asked for."""
        return PatientDecision(self.patient, tuple(zip(self.eyes, decisions, strict=True))) if self.patient else None


@dataclasses.dataclass(frozen=True)
class _Photograph:
    image: NamedBytes
    eye: str
    case: str
    info: DicomInfo | None


def question_of(form: Form, *, paired: bool) -> Question:
    """Return the cases of a form. DICOM headers are read in a worker process.

    Args:
        form: of the request.
        paired: whether the model takes both eyes of a patient.

    Raises:
        RequestError: 422 if the eye of a photograph is unknown to a model of both eyes, or a header states the other eye.
    """
    photographs = [photograph for file in form.files for photograph in _photographs(file)]
    if paired:
        return Question((_pair(form, photographs),))
    cases = tuple(Case(one.case, {SINGLE: (one.image,)}) for one in photographs)
    eyes = tuple(one.eye for one in photographs)
    asked = len(cases) > 1 or form.files[0].field != IMAGE
    return Question(cases, eyes, _patient(photographs) if asked else "")


def _photographs(file: UploadedFile) -> Iterator[_Photograph]:
    """Yield the photograph of a file; of a DICOM file whose frames show both eyes, that of each eye."""
    info = bytes_info(file.data) if is_dicom(file.data) else None
    by_eye = info.frames_by_eye if info is not None else {}
    if file.field != IMAGE:
        _check_eye(file, by_eye)
        by_eye = {file.field: ()}
    if len(by_eye) > 1:
        for eye, numbers in by_eye.items():
            yield _Photograph(
                NamedBytes(file.name, file.data, numbers), eye, f"{file.name} ({eye or 'unknown'} eye)", info
            )
        return
    eye = next(iter(by_eye), "") if is_dicom(file.data) or by_eye else parse_file_name(file.name)[1]
    yield _Photograph(NamedBytes(file.name, file.data), eye, file.name, info)


def _check_eye(file, by_eye):
    for stated in by_eye:
        if stated not in ("", file.field):
            raise RequestError(422, f"{printable(file.name)}: the field says {file.field}, its DICOM header {stated}")


def _patient(photographs: Sequence[_Photograph]) -> str:
    """The name of a patient, by the first photograph: that of a DICOM file is no patient's."""
    first = photographs[0].image
    return first.name if is_dicom(first.data) else parse_file_name(first.name)[0]


def _pair(form: Form, photographs: Sequence[_Photograph]) -> Case:
    for one in photographs:
        if not one.eye:
            raise RequestError(
                422,
                f"{printable(one.image.name)}: its eye is not known, and this model takes both eyes of a patient; "
                "send the photographs as left and right",
            )
    images = {eye: tuple(one.image for one in photographs if one.eye == eye) for eye in EYES}
    info = photographs[0].info
    age = None if info is None or info.age < 0 else float(info.age)
    return Case(
        _patient(photographs),
        {eye: of_eye for eye, of_eye in images.items() if of_eye},
        form.age if form.age is not None else age,
        form.sex or (info.sex if info is not None else ""),
    )
