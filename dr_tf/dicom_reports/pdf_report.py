"""A decision as a page in PDF, and the page as a DICOM object (Encapsulated PDF).

matplotlib draws the page: it embeds its fonts, writes text that can be selected, and is installed for the curves of training
anyway. A renderer of HTML would need system libraries or a browser.
"""

from __future__ import annotations

import datetime
import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dr_tf.dicom_reports.source import MANUFACTURER, PATIENT_AND_STUDY, Algorithm, Source, check_one_study
from dr_tf.fundus.decode import decode
from dr_tf.fundus.header import BadImageError
from dr_tf.inference.decision import Decision, grade_name
from dr_tf.safe_names import printable

if TYPE_CHECKING:
    import pydicom

TITLE = "Diabetic retinopathy: decision of dr_tf"
_CAUTION = "dr_tf is research software, not a medical device. A person must confirm this decision."
_A4 = (8.27, 11.69)  # inches
_PICTURE_SIDE = 900  # pixels
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def draw_page(decision: Decision, sources: Sequence[Source], algorithm: Algorithm) -> bytes:
    """Draw the page. It bears the names of the files as given, and nothing of their headers but the eyes.

    Returns:
        A PDF file, the same for the same decision.
    """
    import matplotlib
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType: text can be selected and searched
        figure = Figure(figsize=_A4)
        FigureCanvasPdf(figure)
        figure.text(0.08, 0.93, TITLE, size=16, weight="bold", parse_math=False)
        figure.text(0.08, 0.885, decision.action.upper(), size=22, weight="bold", parse_math=False)
        for number, (name, value) in enumerate(_rows(decision, sources, algorithm)):
            figure.text(0.08, 0.85 - 0.021 * number, name, size=9, color="0.35", parse_math=False)
            figure.text(0.32, 0.85 - 0.021 * number, value, size=9, parse_math=False)
        pictures = [picture for picture in map(_picture, sources) if picture is not None]
        for number, picture in enumerate(pictures):
            axes = figure.add_axes((0.08 + 0.42 * number, 0.10, 0.84 if len(pictures) == 1 else 0.40, 0.40))
            axes.imshow(picture)
            axes.set_axis_off()
        figure.text(0.08, 0.06, _CAUTION, size=9, parse_math=False)
        stream = io.BytesIO()
        figure.savefig(stream, format="pdf", metadata={"CreationDate": None, "Title": TITLE})
    return stream.getvalue()


def _rows(decision: Decision, sources: Sequence[Source], algorithm: Algorithm) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of each line of the page."""
    for source in sources:
        name, eye = printable(pathlib.Path(source.path).name), f"{source.eye} eye" if source.eye else "eye not stated"
        yield "photograph", f"{name[:70]} ({eye}{f', frame {source.frame}' if source.frame else ''})"
    if decision.reason:
        yield "not gradable", decision.reason[:90]
    if decision.warning:
        yield "warning", decision.warning[:90]
    if decision.grade is not None:
        yield "grade (ICDR)", f"{decision.grade}: {grade_name(decision.grade)}"
    if decision.grade_range is not None:
        yield "range of grades", "{} to {}".format(*decision.grade_range)
    for definition, label in decision.label_decisions.items():
        answer = "yes" if label.yes else "no"
        yield (
            definition.replace("_", " "),
            f"{answer}: probability {label.probability:.3f}, threshold {label.threshold:.3f}",
        )
    yield "decided by", f"{algorithm.name} {algorithm.version}"
    for parameter in algorithm.parameters:
        yield "", parameter[:90]


def _picture(source: Source) -> np.ndarray | None:
    """The photograph, reduced; None if it cannot be decoded, which is then the reason to retake it."""
    try:
        rgb = decode(pathlib.Path(source.path).read_bytes(), side=_PICTURE_SIDE, frame=source.frame or 1).rgb
    except BadImageError:
        return None
    scale = _PICTURE_SIDE / max(rgb.shape[:2])
    return cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else rgb


def encapsulated_pdf(pdf: bytes, sources: Sequence[Source], algorithm: Algorithm) -> pydicom.Dataset:
    """Make the DICOM object that holds a PDF.

    Args:
        pdf: The page.
        sources: The photographs that it is about, of one study.
        algorithm: What made it.

    Raises:
        BadImageError: The photographs are of two studies.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    check_one_study(sources)
    made, now = Dataset(), datetime.datetime.now()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _copy_patient_and_study(made, sources[0].header)
    made.SOPClassUID, made.SOPInstanceUID = _ENCAPSULATED_PDF, generate_uid(None)
    made.SeriesInstanceUID, made.Modality = generate_uid(None), "DOC"
    made.SeriesNumber = made.InstanceNumber = 1
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, algorithm.name
    made.DeviceSerialNumber, made.SoftwareVersions, made.ConversionType = "none", algorithm.version, "WSD"
    made.InstanceCreationDate = made.ContentDate = now.strftime("%Y%m%d")
    made.InstanceCreationTime = made.ContentTime = now.strftime("%H%M%S")
    made.AcquisitionDateTime, made.ConceptNameCodeSequence = "", []
    made.DocumentTitle, made.VerificationFlag = TITLE, "UNVERIFIED"
    made.BurnedInAnnotation = "YES" if any(source.info.burned_in for source in sources) else "NO"
    eyes = {source.eye for source in sources}
    if len(eyes) == 1 and eyes != {""}:
        made.ImageLaterality = eyes.pop()[0].upper()
    made.SourceInstanceSequence = [_reference(source) for source in sources]
    made.MIMETypeOfEncapsulatedDocument, made.EncapsulatedDocumentLength = "application/pdf", len(pdf)
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    return made


def _copy_patient_and_study(made: pydicom.Dataset, header: pydicom.Dataset) -> None:
    for name in ("SpecificCharacterSet", *PATIENT_AND_STUDY):
        if name in header:
            made[name] = header[name]
        elif name not in ("SpecificCharacterSet", "IssuerOfPatientID"):  # the others must be there, though empty
            setattr(made, name, "")


def _reference(source: Source) -> pydicom.Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.header.SOPClassUID
    item.ReferencedSOPInstanceUID = source.header.SOPInstanceUID
    return item
