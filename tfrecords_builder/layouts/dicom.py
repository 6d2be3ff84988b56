"""A folder of DICOM studies: read the eye and the patient of each photograph from its header, and grades from a table."""

import argparse
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dr_tf.console import UserError, print_status, progress
from dr_tf.fundus.dicom import without_image
from dr_tf.fundus.dicom_header import DicomInfo, read_info
from dr_tf.fundus.header import BadImageError
from dr_tf.image_files import is_dicom_file
from tfrecords_builder.layouts import Layout
from tfrecords_builder.layouts.common import find_images, image_id_of, require_path
from tfrecords_builder.layouts.table import image_finder, parse_cells
from tfrecords_builder.samples import Listing, Rejection, make_sample
from tfrecords_builder.tables import read_numbered_rows

TREE = """\
  SOURCE/…/*              DICOM files, in folders of any depth, with any name and suffix
  LABELS.csv              optional: one row per image"""

ABOUT = f"""\
Ophthalmic Photography and other photographs in DICOM files.

{TREE}

The eye is that of the header: of the image, else of the frame, else of the series. Patients are told apart by the header's
patient ID and its issuer, and are stored as patient_1, patient_2, … in the order of the files. No other attribute of the
header is stored, unless --header_fields asks for it. Of an object with several frames the most gradable one is used; if they
show both eyes, one of each eye, as NAME:left and NAME:right.

With --labels, the column `image` holds a path below SOURCE, with or without its extension, or a file name that occurs only
once. Further columns, all optional: grade, dme, any_dr and split. Images without a row are stored without a grade.
With --paired, both eyes of a pair are of the patient's latest study.

Example:
  python -m tfrecords_builder dicom --source studies --labels grades.csv --records records"""

_LABEL_COLUMNS = ("grade", "dme", "any_dr", "split")
_HEADER_FIELDS = ("age", "sex", "camera")
_NAMED = 3  # files that a warning names


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this layout."""
    parser.add_argument("--labels", help="the label table: csv with , ; or tab, or .xlsx", metavar="FILE")
    parser.add_argument("--name", default="dicom", help="name of the record set (default: dicom)")
    parser.add_argument(
        "--header_fields", nargs="+", choices=_HEADER_FIELDS, default=[], metavar="FIELD",
        help=f"attributes of the header to store with each image: {', '.join(_HEADER_FIELDS)} (default: none)",
    )  # fmt: skip


def read(source: pathlib.Path, flags: argparse.Namespace) -> Listing:
    """List the DICOM photographs below a folder."""
    paths, rejections = find_images(require_path(source, "folder", TREE))
    infos, unusable = _read_headers(source, paths)
    rejections += unusable
    _warn(source, infos)
    if flags.paired:
        infos, others = _latest_studies(source, infos)
        rejections += others
    labels, unmatched = _read_labels(source, flags.labels, list(infos)) if flags.labels else ({}, [])
    numbers: dict[tuple[str, ...], int] = {}
    samples = []
    for path, info in infos.items():
        fields = labels.get(path, {}) | {name: getattr(info, name) for name in flags.header_fields}
        image_id, patient = image_id_of(source, path), _patient(info)
        if patient:
            fields["patient_id"] = f"patient_{numbers.setdefault(patient, len(numbers) + 1)}"
        try:
            for of_eye in _eyes(image_id, info):
                samples.append(make_sample(path=path, source=flags.name, **(fields | of_eye)))
        except ValueError as error:
            rejections.append(Rejection(image_id, str(path), str(error)))
    return Listing(samples, rejections + unmatched)


def _eyes(image_id: str, info: DicomInfo) -> Iterator[dict[str, Any]]:
    """Yield the fields of the sample of each eye that the frames of an object show."""
    by_eye = info.frames_by_eye
    for eye, frames in by_eye.items():
        name = f"{image_id}:{eye or 'unknown'}" if len(by_eye) > 1 else image_id
        together = {"patient_id": image_id} if len(by_eye) > 1 and not _patient(info) else {}
        yield {"image_id": name, "eye": eye, "frames": frames if info.frames > 1 else (), **together}


def _patient(info: DicomInfo) -> tuple[str, ...]:
    """Return what identifies the patient: over all studies if there is a patient ID, else the study."""
    return info.patient or info.patient_of_study


def _read_headers(source: pathlib.Path, paths: Sequence[pathlib.Path]) -> tuple[dict[pathlib.Path, DicomInfo], list]:
    """Return {path: its header} of the photographs, and a rejection for each other file."""
    infos, rejections = {}, []
    with progress(len(paths), "reading headers", "files") as bar:
        for path in paths:
            bar.update()
            try:
                if not is_dicom_file(path):
                    raise BadImageError("not a DICOM file")
                info = read_info(path)
                if not info.has_image:
                    raise BadImageError(without_image(info.object_kind))
                infos[path] = info
            except BadImageError as error:
                rejections.append(Rejection(image_id_of(source, path), str(path), str(error)))
            except OSError as error:
                reason = f"the file cannot be read: {error.strerror}"
                rejections.append(Rejection(image_id_of(source, path), str(path), reason))
    return infos, rejections


def _warn(source: pathlib.Path, infos: dict[pathlib.Path, DicomInfo]) -> None:
    for paths, what in (
        ([p for p, info in infos.items() if info.burned_in], "text burned in, by the header; it may name the patient"),
        ([p for p, info in infos.items() if info.frames > 1], "several frames, of which the most gradable is used"),
    ):
        if paths:
            names = ", ".join(image_id_of(source, path) for path in paths[:_NAMED])
            print_status(f"warning: {len(paths)} files with {what}: {names}{', …' if len(paths) > _NAMED else ''}")


def _latest_studies(source: pathlib.Path, infos: dict[pathlib.Path, DicomInfo]) -> tuple[dict, list[Rejection]]:
    """Keep the latest study of each patient: the eyes of two studies are not a pair."""
    latest: dict[tuple[str, ...], tuple[str, str]] = {}
    for info in infos.values():
        study = info.study_date, info.study
        latest[_patient(info)] = max(study, latest.get(_patient(info), study))
    kept = {path: info for path, info in infos.items() if latest[_patient(info)][1] == info.study}
    reason = "a pair of eyes is of one study, and this patient has a later one"
    return kept, [Rejection(image_id_of(source, path), str(path), reason) for path in infos if path not in kept]


def _read_labels(
    source: pathlib.Path, table: str, paths: Iterable[pathlib.Path]
) -> tuple[dict[pathlib.Path, dict[str, Any]], list[Rejection]]:
    """Return {path: fields of its row}, and a rejection for each row that cannot be used."""
    rows = read_numbered_rows(table, required=("image",))
    columns = [name for name in _LABEL_COLUMNS if name in rows[0][1]]
    if not columns:
        raise UserError(f"{table} has none of the columns {', '.join(_LABEL_COLUMNS)}")
    find = image_finder(source, list(paths))
    labels: dict[pathlib.Path, dict[str, Any]] = {}
    rejections = []
    for number, row in rows:
        try:
            path = find(row["image"] or f"row {number}")
            fields = parse_cells({name: row[name] for name in columns}, None)
            if labels.setdefault(path, fields) != fields:
                raise ValueError("an earlier row of this image has other labels")
        except ValueError as error:
            rejections.append(Rejection(row["image"], f"{pathlib.Path(table).name}, row {number}", str(error)))
    return labels, rejections


LAYOUT = Layout("DICOM studies: eye and patient from the header", ABOUT, read, add_flags, lambda flags: flags.name)
