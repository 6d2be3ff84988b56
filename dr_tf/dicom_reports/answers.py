"""Write the answers to DICOM photographs, one after the other as decisions are made."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterable, Iterator

from dr_tf.console import UserError, print_status, require_packages
from dr_tf.dicom_reports.pdf_report import draw_page, encapsulated_pdf
from dr_tf.dicom_reports.source import Algorithm, Source, read_source, write_object
from dr_tf.dicom_reports.structured_report import structured_report
from dr_tf.fundus.header import BadImageError
from dr_tf.image_files import is_dicom_file
from dr_tf.inference.decision import Decision
from dr_tf.inference.predictor import Predictor
from dr_tf.safe_names import file_stem, printable

_MAX_STEM = 180  # bytes of a file name before its ending


class Answers:
    """Writes answers to folders.

    Args:
        structured_reports: The folder of structured reports; None for none.
        pdfs: The folder of Encapsulated PDFs; None for none.

    Raises:
        ModuleNotFoundError: A package that is needed for them is not installed.
    """

    def __init__(self, structured_reports: pathlib.Path | None, pdfs: pathlib.Path | None):
        self._reports, self._pdfs = structured_reports, pdfs
        self._taken: set[str] = set()
        require_packages("pydicom", "highdicom", "matplotlib")
        for folder in (structured_reports, pdfs):
            if folder is not None:
                _create(folder)

    def written(self, decisions: Iterable[Decision], algorithm: Algorithm) -> Iterator[Decision]:
        """Pass decisions on, and write the answers to each. A case without an answer is named, with the reason."""
        for decision in decisions:
            try:
                self._write(decision, algorithm)
            except (BadImageError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                print_status(f"no DICOM answer: {printable(decision.case)}: {reason}")
            yield decision

    def _write(self, decision: Decision, algorithm: Algorithm) -> None:
        sources = _sources(decision)
        stem = self._unique_stem(decision)
        if self._reports is not None:
            write_object(self._reports / f"{stem}.sr.dcm", structured_report(decision, sources, algorithm))
        if self._pdfs is not None:
            page = draw_page(decision, sources, algorithm)
            write_object(self._pdfs / f"{stem}.pdf.dcm", encapsulated_pdf(page, sources, algorithm))

    def _unique_stem(self, decision: Decision) -> str:
        stem = file_stem(pathlib.Path(decision.case).stem, _MAX_STEM)
        candidates = (stem if i == 1 else f"{stem}_{i}" for i in itertools.count(1))
        name = next(name for name in candidates if name.lower() not in self._taken)
        self._taken.add(name.lower())
        return name


def algorithm_of(predictor: Predictor) -> Algorithm:
    """Return how answers identify a predictor: what its model was trained on, and how it decides."""
    rule = predictor.rule
    return Algorithm(
        (
            f"trained on: {predictor.run.preparation.records}",
            f"decides: {rule.head.positive}",
            f"operating point: {rule.operating_point_name}",
            f"class prior: {rule.prior_name}",
            f"mode: {predictor.mode}",
        )
    )


def _sources(decision: Decision) -> list[Source]:
    images = decision.images.values()
    if not all(is_dicom_file(image.photograph) for image in images):
        raise BadImageError("not a DICOM file")
    return [read_source(image.photograph, image.frame) for image in images]


def _create(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{printable(folder)} cannot be written: {error.strerror}") from error
